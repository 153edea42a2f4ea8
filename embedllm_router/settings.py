"""Every setting, its default and its meaning; the only reader of the environment and of our YAML section.

    callback_settings:
      embedllm_router:
        virtual_models:
          auto: {default: gpt-4o-mini, cost_weight: 10}

An environment variable `EMBEDLLM_ROUTER_…` (nested names joined by `__`) overrides the YAML.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from embedllm_router.errors import ConfigError
from embedllm_router.messages import TextFrom
from embedllm_router.overrides import AIMS, PROFILES
from embedllm_router.policy import Objective

__all__ = [
    "CALLBACK",
    "SECTION",
    "LogSettings",
    "RouterSettings",
    "VirtualModelSettings",
    "read_proxy_config",
    "read_settings",
]

SECTION = "embedllm_router"
"""Our key under LiteLLM's `callback_settings`."""

CALLBACK = "embedllm_router.proxy_handler"
"""What LiteLLM's `litellm_settings.callbacks` names."""

CostWeight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class VirtualModelSettings(BaseModel):
    """A name clients ask for, and how the LLM behind it is chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: str = Field(min_length=1)
    """Model group that answers when routing cannot: the promise behind fail-open."""
    candidates: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Model groups to choose from; None takes every group of `model_list`."""
    cost_weight: CostWeight | None = None
    """λ in utility = p_correct - λ * cost_usd: the accuracy you give up per US dollar of one request. None is 0."""
    profile: Literal["quality", "balanced", "cheap"] | None = None
    """A cost weight by name: quality 0, balanced 20, cheap 500."""
    min_p_correct: Share | None = None
    """τ: take the cheapest LLM whose p_correct reaches it; if none does, the likeliest to be correct."""
    within: Share | None = None
    """Take the cheapest LLM whose p_correct is at most this far below the best one's."""
    max_cost_usd: Usd | None = None
    """Exclude LLMs whose expected cost of the request is higher."""
    max_fallbacks: int = Field(default=2, ge=0, le=10)
    """How many of the next best LLMs LiteLLM tries when the chosen one fails."""
    text_from: TextFrom = TextFrom.LAST_USER
    """Which text is embedded: `last_user`, `conversation` or `all` (with the system prompt)."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> "VirtualModelSettings":
        said = [name for name in AIMS if getattr(self, name) is not None]
        if len(said) > 1:
            raise ValueError(f"{' and '.join(said)} exclude each other; keep one")
        return self

    @property
    def objective(self) -> Objective:
        """What the best candidate is."""
        weight = PROFILES[self.profile] if self.profile else self.cost_weight or 0.0
        return Objective(weight, self.min_p_correct, self.within, self.max_cost_usd)


class LogSettings(BaseModel):
    """How decisions are logged, on stderr."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["json", "console"] = "json"
    """One JSON object per line, or coloured text for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is written; decisions are `info`."""
    prompt: bool = False
    """Whether the embedded text itself is logged. Off, no prompt text is ever logged."""


class RouterSettings(BaseSettings):
    """The plugin's settings."""

    model_config = SettingsConfigDict(
        env_prefix="EMBEDLLM_ROUTER_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    artifact: Path | None = None
    """Weights folder; None takes the one that ships with the package."""
    virtual_models: dict[str, VirtualModelSettings] = Field(min_length=1)
    """The names clients ask for, such as `auto`."""
    log: LogSettings = LogSettings()
    """How decisions are logged."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Lets the environment win over the YAML; nothing else is read."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def read_settings(section: object) -> RouterSettings:
    """Reads the plugin's section of the proxy configuration, and the environment.

    Args:
        section: What stands under `callback_settings.embedllm_router`; None when the key is absent.

    Returns:
        The validated settings.

    Raises:
        ConfigError: Something is missing, unknown or out of range; the message names each field.
    """
    if not isinstance(section, Mapping | None):
        found = type(section).__name__
        raise ConfigError(f"callback_settings.{SECTION} must be a mapping, found {found}.")
    try:
        return RouterSettings(**dict(section or {}))
    except ValidationError as error:
        problems = "\n".join(f"  {_problem(e['loc'], e['msg'], e['type'])}" for e in error.errors())
        raise ConfigError(f"callback_settings.{SECTION} is not valid:\n{problems}") from error


def read_proxy_config(path: Path) -> RouterSettings:
    """Reads the plugin's settings out of a proxy configuration file.

    Args:
        path: The YAML file that LiteLLM reads too.

    Returns:
        The validated settings.

    Raises:
        ConfigError: The file cannot be read, is not YAML, does not load the plugin, or its section is not valid.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {path} is not YAML: {error}") from error
    if not isinstance(config, Mapping):
        raise ConfigError(f"the configuration {path} must be a mapping, found {type(config).__name__}.")
    callbacks = (config.get("litellm_settings") or {}).get("callbacks") or []
    if CALLBACK not in ([callbacks] if isinstance(callbacks, str) else callbacks):
        raise ConfigError(
            f"the configuration {path} does not load the router: add {CALLBACK!r} to litellm_settings.callbacks."
        )
    return read_settings((config.get("callback_settings") or {}).get(SECTION))


def _problem(loc: tuple[int | str, ...], message: str, kind: str) -> str:
    path = ".".join(map(str, loc))
    if kind == "extra_forbidden":
        fields = {*RouterSettings.model_fields, *VirtualModelSettings.model_fields, *LogSettings.model_fields}
        near = difflib.get_close_matches(str(loc[-1]), sorted(fields), n=1)
        return f"{path}: unknown setting{f', did you mean {near[0]!r}?' if near else ''}"
    return f"{path}: {message}"
