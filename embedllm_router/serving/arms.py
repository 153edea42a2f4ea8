"""Ways of deciding for a virtual model: the live one, and what tries other weights or another objective beside it.

A canary decides instead of the live lane for a share of the callers; a shadow decides beside it, for the record only.

Virtual models at run time: settings + model groups → candidate pools, and the report of what matched.

Built again whenever LiteLLM's list of deployments changes. It knows nothing of requests.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedllm_router.config.virtual_model import ShadowSettings, VirtualModelSettings
from embedllm_router.routing.decision import Conditions, Objective
from embedllm_router.routing.deployments import ModelGroup
from embedllm_router.routing.pool import Candidate, CandidatePool, Exclusion, Typical
from embedllm_router.routing.prompt import Prompt, read_body
from embedllm_router.routing.router import Router, Routing
from embedllm_router.routing.tie_breaking import pool_with_prior
from embedllm_router.serving.caller_drift import Traffic

__all__ = ["Finding", "Lane", "Lanes", "VirtualModel", "build_lanes", "build_virtual_model", "findings", "in_share"]


@dataclass(frozen=True, slots=True)
class VirtualModel:
    """A name clients ask for, ready to route.

    Attributes:
        name: What clients send as `model`.
        settings: Its settings.
        pool: Its candidates; unknown model groups and LLMs stay in it, excluded, so every record names them.
    """

    name: str
    settings: VirtualModelSettings
    pool: CandidatePool


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the operator should know about the configuration.

    Attributes:
        level: "info" or "warning".
        event: Name of the log event.
        fields: The particulars.
    """

    level: str
    event: str
    fields: Mapping[str, object]


def build_virtual_model(
    name: str, settings: VirtualModelSettings, groups: Mapping[str, ModelGroup], typical: Typical | None = None
) -> VirtualModel:
    """Builds a virtual model.

    Args:
        name: What clients send as `model`.
        settings: Its settings.
        groups: Model groups of the proxy by name.
        typical: What the weights that know their LLMs predict on average; None when it is not asked for.

    Returns:
        The virtual model with its candidates.
    """
    return VirtualModel(name, settings, _pool(settings, groups, typical))


def findings(virtual_models: Mapping[str, VirtualModel], groups: Mapping[str, ModelGroup]) -> list[Finding]:
    """Says what each model group was matched to, and everything that will keep a candidate from being chosen."""
    used = {name for one in virtual_models.values() for name in one.pool.names}
    found = [_group_finding(groups[name]) for name in groups if name in used]
    for one in virtual_models.values():
        found.extend(_model_findings(one, groups))
    return found


def _pool(settings: VirtualModelSettings, groups: Mapping[str, ModelGroup], typical: Typical | None) -> CandidatePool:
    names = settings.candidates or tuple(groups)
    candidates = [groups[n].candidate if n in groups else _absent(n) for n in dict.fromkeys(names)]
    return CandidatePool(candidates) if typical is None else pool_with_prior(candidates, typical)


def _absent(name: str) -> Candidate:
    return Candidate(name, llm=None, row=None, input_usd_per_token=None, output_usd_per_token=None)


def _group_finding(group: ModelGroup) -> Finding:
    candidate, match = group.candidate, group.match
    if match.llm is None:
        remedy = "set model_info.embedllm of this deployment to a known id"
        fields = {
            "group": candidate.name,
            "looked_up": match.name,
            "nearest": match.nearest,
            "remedy": remedy,
        }
        return Finding("warning", "routing.llm_unknown", fields)
    if candidate.standing_exclusion is Exclusion.PRICE_UNKNOWN:
        remedy = "set input_cost_per_token and output_cost_per_token in litellm_params (0 if it is free)"
        fields = {"group": candidate.name, "llm": match.llm, "remedy": remedy}
        return Finding("warning", "routing.price_unknown", fields)
    how = f"declared, {match.how}" if group.declared else match.how
    return Finding("info", "routing.llm_matched", {"group": candidate.name, "llm": match.llm, "how": how})


def _model_findings(one: VirtualModel, groups: Mapping[str, ModelGroup]) -> list[Finding]:
    found = [
        Finding("warning", "routing.candidate_unknown", {"virtual_model": one.name, "group": name})
        for name in one.pool.names
        if name not in groups
    ]
    if one.settings.default not in groups:
        fields = {"virtual_model": one.name, "default": one.settings.default, "groups": list(groups)}
        found.append(Finding("warning", "routing.default_unknown", fields))
    default = groups.get(one.settings.default)
    broken = default.candidate.broken_rule(one.settings.rules) if default else None
    if broken is not None:
        consequence = "where routing cannot decide, the answer is a 400"
        fields = {"virtual_model": one.name, "default": one.settings.default, "rule": str(broken)}
        found.append(Finding("warning", "routing.default_ruled_out", {**fields, "consequence": consequence}))
    if not one.pool.usable.any():
        found.append(Finding("warning", "routing.no_usable_candidate", {"virtual_model": one.name}))
    return found


_DIGEST_BYTES = 8
_DIGESTS = 1 << 64


@dataclass(frozen=True, slots=True)
class Lane:
    """One way of deciding.

    Attributes:
        arm: "live", "canary" or "shadow".
        router: The weights that decide.
        virtual_model: What it decides for; its pool stands for the LLMs these weights know.
        objective: What the best candidate is, unless the client says otherwise.
        traffic: How novel each caller's prompts have been to these weights.
    """

    arm: str
    router: Router
    virtual_model: VirtualModel
    objective: Objective
    traffic: Traffic = field(default_factory=Traffic, compare=False)

    def decide(
        self, body: Mapping[str, Any], objective: Objective, conditions: Conditions, caller: str = ""
    ) -> Routing:
        """Decides who shall answer a request.

        Args:
            body: As parsed from JSON.
            objective: What the best candidate is for this request.
            conditions: What else bears on the decision.
            caller: Whose traffic it belongs to.
        """
        return self.weigh(read_body(body, self.virtual_model.settings.text_from), objective, conditions, caller)

    def weigh(self, prompt: Prompt, objective: Objective, conditions: Conditions, caller: str) -> Routing:
        """`decide` of a request that was read already."""
        whose = self.traffic.key(caller, self.virtual_model.name, self.arm, self.router.artifact.id)
        routing = self.router.route(
            prompt,
            objective=objective,
            pool=self.virtual_model.pool,
            conditions=conditions,
            of_traffic=self.traffic.demands(whose),
        )
        if routing.hedge.novelty is not None:
            self.traffic.add(whose, routing.hedge.novelty)
        return routing


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lanes of one virtual model.

    Attributes:
        live: What decides.
        canary: What decides for `canary_share` of the callers; None without one.
        shadow: What decides for the record only; None without one.
        canary_share: Share of the callers, in [0, 1].
    """

    live: Lane
    canary: Lane | None = None
    shadow: Lane | None = None
    canary_share: float = 0.0

    def named(self, arm: str) -> Lane:
        """The lane of an arm that decides, "live" or "canary"."""
        return self.canary if arm == "canary" and self.canary is not None else self.live

    def of(self, caller: str) -> Lane:
        """The lane that decides for a caller; the same one every time."""
        if self.canary is not None and in_share(f"{self.live.virtual_model.name}\0{caller}", self.canary_share):
            return self.canary
        return self.live


def in_share(key: str, share: float) -> bool:
    """Whether a key falls into a share of all keys: always the same answer, and a larger share keeps those inside."""
    digest = hashlib.blake2b(key.encode("utf-8", errors="replace"), digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(digest, "big") < share * _DIGESTS


def build_lanes(  # noqa: PLR0913, PLR0917 - what is loaded, each by router
    name: str,
    settings: VirtualModelSettings,
    routers: Mapping[Path | None, Router],
    live: Router,
    groups: Mapping[Router, Mapping[str, ModelGroup]],
    typical: Mapping[Router, Typical],
    traffic: Traffic | None = None,
) -> Lanes:
    """Builds the lanes of a virtual model.

    Args:
        name: The virtual model.
        settings: Its settings.
        routers: Loaded weights by folder; a lane whose weights could not be loaded is left out.
        live: The weights of the live lane.
        groups: The proxy's model groups as each router's catalog knows them.
        typical: What each router predicts on average; without it near ties stay as the objective has them.
        traffic: How novel callers' prompts have been, for the lanes that decide; None knows of none yet.

    Returns:
        The lanes.
    """
    shared = traffic or Traffic()

    def of(arm: str, router: Router, objective: Objective) -> Lane:
        model = build_virtual_model(name, settings, groups[router], typical.get(router))
        of_callers = Traffic() if arm == "shadow" else shared  # a shadow decides in a thread, where nothing is shared
        return Lane(arm, router, model, objective, of_callers)

    def lane(arm: str, trial: ShadowSettings | None) -> Lane | None:
        if trial is None:
            return None
        router = live if trial.artifact is None else routers.get(trial.artifact)
        if router is None:
            return None
        objective = settings.with_margin(trial.objective) if trial.says_something else settings.objective
        return of(arm, router, objective)

    return Lanes(
        live=of("live", live, settings.objective),
        canary=lane("canary", settings.canary),
        shadow=lane("shadow", settings.shadow),
        canary_share=settings.canary.share if settings.canary else 0.0,
    )
