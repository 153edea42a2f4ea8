"""Ways of deciding for a virtual model: the live one, and what tries other weights or another objective beside it.

A canary decides instead of the live lane for a share of the callers; a shadow decides beside it, for the record only.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedllm_router.config.virtual_model import ShadowSettings, VirtualModelSettings
from embedllm_router.routing.decision import Conditions, Objective
from embedllm_router.routing.deployments import ModelGroup
from embedllm_router.routing.pool_prior import Typical
from embedllm_router.routing.prompt import Prompt, read_body
from embedllm_router.routing.router import Router, Routing
from embedllm_router.serving.arms_virtual_models import VirtualModel, build_virtual_model
from embedllm_router.serving.caller_drift import Traffic

__all__ = ["Lane", "Lanes", "build_lanes", "in_share"]

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
