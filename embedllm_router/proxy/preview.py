"""What the proxy would decide for a prompt, without a proxy: for `embedllm-router route --config`."""

import io
import os
import warnings
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path

import yaml

from embedllm_router.config.process import LogSettings
from embedllm_router.config.settings import load_config, read_proxy_config
from embedllm_router.errors import ArtifactError, ConfigError
from embedllm_router.routing.budget import scopes_of
from embedllm_router.routing.decision import Conditions, Request
from embedllm_router.routing.deployments import PriceMap, Row
from embedllm_router.routing.overrides import Overrides, combine, read_override
from embedllm_router.routing.pipeline import RequestState, Routing, decide
from embedllm_router.routing.pool import PARAMETERS
from embedllm_router.routing.prompt import is_said, read_body
from embedllm_router.serving.arms import Arm
from embedllm_router.serving.budget_enforcer import BudgetEnforcer, DearShares, Ledger
from embedllm_router.serving.snapshot import LiveSnapshot, Served
from embedllm_router.serving.state.opening import open_state
from embedllm_router.telemetry.log import configure_logging

__all__ = ["applied", "deployments_of", "preview"]


def preview(config: Path, virtual_model: str | None, body: Mapping[str, object]) -> Routing:
    """Decides as the proxy's live arm would: candidates, prices and settings are the configuration's.

    Budgets stand as the state folder has them, and nothing is written. The request comes without a key, is the first of
    its session, and is not explored with; no model group rests after failures or is over a budget, and no answer was
    measured yet.

    Args:
        config: The proxy's configuration.
        virtual_model: Which of its virtual models is asked for; None takes the only one, or `auto`.
        body: The request's body, which may hold the field `embedllm`.

    Raises:
        ConfigError: The configuration or its weights cannot be used, or it has no such virtual model.
        RequestError: The body field sets what the virtual model does not allow.
    """
    arm = _live_arm(config, virtual_model)
    model = arm.virtual_model
    combined = Overrides(arm.objective, rules=model.rules)
    if body.get("embedllm") is not None:
        override = read_override("body", body["embedllm"])
        combined = combine(
            arm.objective, model.rules, [override], model.allowed, model.pool.names, model.pool.at_efforts
        )
    prompt = read_body(body, model.settings.embed_text)
    needs = prompt.needs - PARAMETERS if _drops_parameters(config) else prompt.needs
    conditions = Conditions(only=combined.candidates, rules=combined.rules)
    size = prompt.input_tokens, prompt.max_output_tokens
    request = Request(
        combined.objective, *size, needs, conditions, prompt.n_answers, prompt.efforts, prompt.service_tier
    )
    return decide(arm.router, prompt, request, model.policy, _state(config, arm))


def _live_arm(config: Path, virtual_model: str | None) -> Arm:
    settings = read_proxy_config(config)
    names = list(settings.virtual_models)
    wanted = virtual_model or ("auto" if "auto" in names else names[0])
    if wanted not in names:
        raise ConfigError(f"{config} has no virtual model {wanted!r}; it has {', '.join(names)}.")
    return applied(config).arms[wanted].live


def applied(config: Path, artifact: Path | None = None) -> Served:
    """A proxy configuration with its weights, applied to its deployments as the proxy does when it starts.

    Args:
        config: The YAML file.
        artifact: Weights folder to use in place of the one that the file names; None takes that one.

    Raises:
        ConfigError: The configuration cannot be used.
        ArtifactError: Its weights cannot be loaded.
    """
    settings = read_proxy_config(config)
    if artifact is not None:
        settings = settings.model_copy(update={"artifact": artifact})
    live = LiveSnapshot(settings, configure_logging(LogSettings(level="error"), io.StringIO()), config)
    if live.snapshot.router is None:
        raise ArtifactError(f"the weights that {config} names cannot be loaded: {live.unusable[settings.artifact]}")
    prices = _price_map()
    from embedllm_router.proxy.parameters import accepted_parameters  # noqa: PLC0415 - it imports LiteLLM

    return live.serve(deployments_of(config), prices, accepted_parameters)


def deployments_of(config: Path) -> list[Row]:
    """The `model_list` of a proxy configuration.

    Raises:
        ConfigError: The configuration cannot be read.
    """
    listed = load_config(config).get("model_list")
    return [row for row in listed if isinstance(row, Mapping)] if isinstance(listed, list) else []


def _drops_parameters(config: Path) -> bool:
    """Whether LiteLLM leaves out parameters that an LLM does not take."""
    section = yaml.safe_load(config.read_text(encoding="utf-8")).get("litellm_settings")
    return isinstance(section, Mapping) and is_said(section.get("drop_params"))


def _state(config: Path, arm: Arm) -> RequestState:
    model = arm.virtual_model
    if not model.budgets:
        return RequestState()
    state = open_state(read_proxy_config(config).state, configure_logging(LogSettings(level="error"), io.StringIO()))
    scopes = scopes_of(model.budgets, model.name, None, None)
    return RequestState(pace=partial(BudgetEnforcer(Ledger(state), DearShares(state)).pace, scopes, None))


def _price_map() -> PriceMap:
    """LiteLLM's price map from the installed package; empty where LiteLLM is not installed."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of LiteLLM's own imports
        prices: PriceMap = import_module("litellm").model_cost
    return prices
