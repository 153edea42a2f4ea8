"""The arms of a virtual model: the live one, a canary and a shadow, each with its weights, candidates and objective.

A canary decides instead of the live arm for a share of the callers; a shadow decides beside it, for the record only.
Arms are built again whenever LiteLLM's list of deployments changes.
"""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from embedllm_router._hashing import digest_of
from embedllm_router.config.virtual_model import ShadowSettings, VirtualModelSettings
from embedllm_router.routing.budget import Budget, Guard
from embedllm_router.routing.decision import NO_EXPLORATION, Objective
from embedllm_router.routing.deployments import Complaint, ModelGroup, by_candidate
from embedllm_router.routing.overrides import Allowed
from embedllm_router.routing.pipeline import Policy
from embedllm_router.routing.pool import NO_RULES, Average, Candidate, CandidatePool, Exclusion, Rules
from embedllm_router.routing.router import Router
from embedllm_router.routing.tie_breaking import pool_with_averages
from embedllm_router.serving.caller_drift import CallerDrift

__all__ = [
    "Arm",
    "Arms",
    "Finding",
    "VirtualModel",
    "build_arms",
    "build_virtual_model",
    "findings",
    "in_share",
    "why_not_judge",
]


@dataclass(frozen=True, slots=True)
class VirtualModel:
    """A name clients ask for, ready to route.

    Attributes:
        name: What clients send as `model`.
        settings: Its settings.
        policy: What it decides by. Unknown groups and LLMs stay in its pool, excluded, so every record names them. The
            default is always in it.
        rules: Which candidates may answer at all.
        allowed: What a request may set for itself.
        budgets: Spend targets.
        guard: How often a key's requests may go to dear candidates; None bounds it not.
    """

    name: str
    settings: VirtualModelSettings
    policy: Policy
    rules: Rules
    allowed: Allowed
    budgets: tuple[Budget, ...]
    guard: Guard | None = None

    @property
    def pool(self) -> CandidatePool:
        """Its candidates."""
        return self.policy.pool


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
    name: str, settings: VirtualModelSettings, groups: Mapping[str, ModelGroup], average: Average | None = None
) -> VirtualModel:
    """Builds a virtual model.

    Args:
        name: What clients send as `model`.
        settings: Its settings.
        groups: Model groups of the proxy by name.
        average: How the LLMs that the weights know do on average; without it near ties stay as the objective has them.

    Returns:
        The virtual model with its candidates.
    """
    choices = by_candidate(groups)
    names = [one for name in settings.candidates or groups for one in _at_every_effort(name, groups)]
    of_default = _at_every_effort(settings.default, groups) if settings.default in groups else []
    if not set(of_default) & set(names):  # whoever declares a default wants its answers
        names += of_default
    candidates = [choices[n].candidate if n in choices else _absent(n) for n in dict.fromkeys(names)]
    if settings.uncertainty == "exclude":  # `excluded_as_not_graded` names them
        candidates = [replace(one, llm=None, row=None) if one.known_by in _NOT_GRADED else one for one in candidates]
    lower = settings.uncertainty == "lower_bound"
    pool = (
        CandidatePool(candidates) if average is None else pool_with_averages(candidates, average, by_lower_bound=lower)
    )
    exploration = settings.exploration.exploration if settings.exploration.exploration.on else NO_EXPLORATION
    policy = Policy(pool, settings.default, settings.max_ood_score, exploration)
    budgets = tuple(one.budget for one in settings.budgets)
    rules = NO_RULES if settings.rules == NO_RULES else settings.rules
    return VirtualModel(name, settings, policy, rules, settings.requests.allowed, budgets, settings.guard.guard)


def findings(virtual_models: Mapping[str, VirtualModel], groups: Mapping[str, ModelGroup]) -> list[Finding]:
    """Says what each model group was matched to, and everything that will keep a candidate from being chosen."""
    choices = by_candidate(groups)
    used = {name for one in virtual_models.values() for name in one.pool.names}
    found = [_group_finding(choices[name]) for name in choices if name in used]
    asked = {name for one in virtual_models.values() for name in one.pool.groups}
    found += [_complaint(one, name) for name in groups if name in asked for one in groups[name].complaints]
    for one in virtual_models.values():
        found.extend(_model_findings(one, groups))
        found.append(_summary(one, choices))
    return found


_NOT_GRADED = frozenset({"family", "like"})
_PLACE = "model_info of this deployment"
REMEDIES = {
    "family": f"nothing; for sharper predictions name a learned LLM it is like in embedllm_like in {_PLACE}, grade "
    "some of its answers and run embedllm-router add, or let embedllm-router profile ask and grade it",
    "other effort": "nothing; for sharper predictions grade some of its answers at this effort and run "
    "embedllm-router add",
    "unknown": f"say in {_PLACE} which LLM it is: base_model by its public name, embedllm by a known id, or "
    "embedllm_like by a known id it is like; or let embedllm-router profile ask and grade it",
    "unpriced": "set input_cost_per_token and output_cost_per_token in litellm_params (0 if it is free)",
    "mixed": "give each LLM a model group of its own, so that each can be chosen for what it is good at",
    "excluded": "nobody graded these LLMs, and uncertainty: exclude leaves such out; set it to mean or lower_bound, or "
    "grade some of their answers and run embedllm-router add",
    "wildcard": "nothing; to choose among LLMs behind it, name them in candidates, such as openai/gpt-4o",
    "absent": "add a deployment of this model_name to model_list, or take the name out of candidates",
    "effort": "take embedllm_efforts out of model_info of its deployments; or, where the LLM does reason, set "
    "allowed_openai_params: [reasoning_effort] in litellm_params",
    "none": "make a candidate usable: say which LLM it is (model_info.embedllm or base_model) and its price; "
    "embedllm-router doctor names what each one lacks",
}
"""What to do about a candidate, by what is the matter."""


def price_remedy(group: ModelGroup) -> str:
    """What to add to which deployments, so that the price of a model group is known."""
    missing = ", ".join(dict.fromkeys(group.unpriced))
    return (
        f"add {missing} in the model group {group.candidate.group}: USD per token, such as 2.5e-6, or 0 if it is free"
    )


def _at_every_effort(name: str, groups: Mapping[str, ModelGroup]) -> list[str]:
    """The candidates that a name stands for: one, or a model group at each of its reasoning efforts."""
    efforts = groups[name].at_efforts if name in groups else ()
    return [one.candidate.name for one in efforts] or [name]


def _complaint(one: Complaint, group: str) -> Finding:
    fields = {"group": group, "place": one.place, "found": one.found, "remedy": one.remedy}
    return Finding("warning", "routing.setting_unusable", fields)


def _summary(one: VirtualModel, choices: Mapping[str, ModelGroup]) -> Finding:
    """One line about a virtual model: how its LLMs are known, and what helps those that are not."""
    by: dict[str, list[str]] = {kind: [] for kind in ("known", "family", "like", "unknown", "unpriced", "absent")}
    for candidate in one.pool.candidates:
        by[_known_by(choices.get(candidate.name))].append(candidate.name)
        if candidate.standing_exclusion is Exclusion.PRICE_UNKNOWN:
            by["unpriced"].append(candidate.name)
    words = {
        "family": "by family",
        "like": "by a stand-in",
        "unknown": "unknown",
        "unpriced": "unpriced",
        "absent": "not in model_list",
    }
    counted = [f"{len(by[kind])} {said}" for kind, said in words.items() if by[kind]]
    summary = ", ".join([f"{len(by['known'])} of {len(one.pool.names)} LLMs are known", *counted])
    if excluded := excluded_as_not_graded(one):
        by["excluded"] = excluded
    helped = [kind for kind in REMEDIES if by.get(kind) and not (excluded and kind == "family")]
    remedies = {kind: REMEDIES[kind] for kind in helped}
    fields = {"virtual_model": one.name, "summary": summary, **{k: v for k, v in by.items() if v}, "remedies": remedies}
    trouble = by["unknown"] or by["unpriced"] or by["absent"]
    return Finding("warning" if trouble else "info", "routing.pool", fields)


def reasons_of(pool: CandidatePool) -> dict[str, str]:
    """Why candidates can never be chosen, by name."""
    return {name: str(reason) for name, reason in zip(pool.names, pool.standing, strict=True) if reason is not None}


def excluded_as_not_graded(virtual_model: VirtualModel) -> list[str]:
    """Candidates that `uncertainty: exclude` leaves out, because nobody graded their LLM."""
    return [one.name for one in virtual_model.pool.candidates if one.known_by in _NOT_GRADED and one.row is None]


def _known_by(group: ModelGroup | None) -> str:
    if group is None:
        return "absent"
    known_by = group.candidate.known_by
    if known_by is None:
        return "unknown"
    return known_by if known_by in _NOT_GRADED else "known"


def _absent(name: str) -> Candidate:
    return Candidate(name, llm=None, row=None, input_usd_per_token=None, output_usd_per_token=None)


def _group_finding(group: ModelGroup) -> Finding:
    candidate, match = group.candidate, group.match
    if group.members:
        llms = [one.candidate.llm for one in group.members]
        fields: dict[str, object] = {"group": candidate.name, "llms": llms, "predicted_as": candidate.llm}
        return Finding("warning", "routing.llms_mixed", {**fields, "remedy": REMEDIES["mixed"]})
    if candidate.known_by is None:
        fields = {
            "group": candidate.name,
            "looked_up": match.name,
            "nearest": match.nearest,
            "remedy": REMEDIES["wildcard" if candidate.closed is Exclusion.WILDCARD else "unknown"],
        }
        return Finding("warning", "routing.llm_unknown", fields)
    if candidate.closed is Exclusion.NO_REASONING_EFFORT:
        fields = {"group": candidate.name, "llm": candidate.llm, "remedy": REMEDIES["effort"]}
        return Finding("warning", "routing.effort_refused", fields)
    if candidate.standing_exclusion is Exclusion.PRICE_UNKNOWN:
        fields = {"group": candidate.name, "llm": candidate.llm, "remedy": price_remedy(group)}
        return Finding("warning", "routing.price_unknown", fields)
    if match.llm is None:
        fields = {
            "group": candidate.name,
            "llm": candidate.llm,
            "known_by": candidate.known_by,
            **({"like": group.like} if candidate.known_by == "like" else {"nearest": match.nearest}),
            "remedy": REMEDIES["family" if candidate.effort is None or group.like is None else "other effort"],
        }
        return Finding("info", "routing.llm_expected", fields)
    how = f"declared, {match.how}" if group.declared else match.how
    return Finding("info", "routing.llm_matched", {"group": candidate.name, "llm": match.llm, "how": how})


def _model_findings(one: VirtualModel, groups: Mapping[str, ModelGroup]) -> list[Finding]:
    found = [
        Finding("warning", "routing.candidate_unknown", {"virtual_model": one.name, "group": candidate.name})
        for candidate in one.pool.candidates
        if candidate.group not in groups
    ]
    if one.settings.default not in groups:
        fields = {"virtual_model": one.name, "default": one.settings.default, "groups": list(groups)}
        found.append(Finding("warning", "routing.default_unknown", fields))
    baseline = one.settings.baseline
    if baseline is not None and baseline not in one.pool.names:
        near = difflib.get_close_matches(baseline, one.pool.names, n=1)
        given: dict[str, object] = {
            "virtual_model": one.name,
            "baseline": baseline,
            "nearest": near[0] if near else None,
        }
        remedy = "name a model group that is a candidate of this virtual model; until then nothing is compared with it"
        found.append(Finding("warning", "routing.baseline_unknown", {**given, "remedy": remedy}))
    found += [Finding("warning", "routing.judge_unusable", fields) for fields in _unusable_judges(one, groups)]
    default = groups.get(one.settings.default)
    broken = default.candidate.broken_rule(one.settings.rules) if default else None
    if broken is not None:
        consequence = "where routing cannot decide, the answer is a 400"
        fields = {"virtual_model": one.name, "default": one.settings.default, "rule": str(broken)}
        found.append(Finding("warning", "routing.default_ruled_out", {**fields, "consequence": consequence}))
    if not one.pool.usable.any():
        none_left: dict[str, object] = {
            "virtual_model": one.name,
            "reasons": reasons_of(one.pool),
            "remedy": REMEDIES["none"],
        }
        found.append(Finding("warning", "routing.no_usable_candidate", none_left))
    return found


def why_not_judge(name: str, rules: Rules, groups: Mapping[str, ModelGroup]) -> str | None:
    """Why a model group judges no answer; None where it can.

    Args:
        name: The model group.
        rules: Which candidates may answer, by which the judge is held, too: it reads prompts.
        groups: The proxy's model groups by name.
    """
    group = groups.get(name)
    if group is None:
        near = difflib.get_close_matches(name, groups, n=1)
        return f"it is no model group of the proxy{f', did you mean {near[0]!r}?' if near else ''}"
    candidate = group.candidate
    if candidate.closed is not None:
        return f"it takes no request: {candidate.closed}"
    if candidate.input_usd_per_token is None or candidate.output_usd_per_token is None:
        return "it has no known price, so no budget holds: set input_cost_per_token and output_cost_per_token"
    broken = candidate.broken_rule(rules)
    return None if broken is None else f"it breaks the virtual model's rule on {broken}"


def _unusable_judges(one: VirtualModel, groups: Mapping[str, ModelGroup]) -> list[dict[str, object]]:
    judging = one.settings.judging
    reasons = {name: why_not_judge(name, one.settings.rules, groups) for name in judging.judges if judging.share > 0}
    return [{"virtual_model": one.name, "judge": name, "reason": reason} for name, reason in reasons.items() if reason]


_DIGEST_BYTES = 8
_DIGESTS = 1 << 64


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of deciding.

    Attributes:
        name: "live", "canary" or "shadow".
        router: The weights that decide.
        virtual_model: What it decides for; its pool stands for the LLMs these weights know.
        objective: What the best candidate is, unless the client says otherwise.
        drift: How far each caller's prompts have been from what these weights learned.
    """

    name: str
    router: Router
    virtual_model: VirtualModel
    objective: Objective
    drift: CallerDrift = field(default_factory=CallerDrift, compare=False)

    def caller_key(self, key_id: str | None) -> str:
        """Under what `drift` knows a caller.

        Args:
            key_id: Id of the API key; None without one.
        """
        return digest_of(key_id or "", self.virtual_model.name, self.name, self.router.artifact_id)


@dataclass(frozen=True, slots=True)
class Arms:
    """The arms of one virtual model.

    Attributes:
        live: What decides.
        canary: What decides for `canary_share` of the callers; None without one.
        shadow: What decides for the record only; None without one.
        canary_share: Share of the callers, in [0, 1].
    """

    live: Arm
    canary: Arm | None = None
    shadow: Arm | None = None
    canary_share: float = 0.0

    def of(self, caller: str) -> Arm:
        """The arm that decides for a caller; the same one every time."""
        if self.canary is not None and in_share(f"{self.live.virtual_model.name}\0{caller}", self.canary_share):
            return self.canary
        return self.live


_DIGEST_BYTES = 8
_DIGESTS = 1 << 64


def in_share(key: str, share: float) -> bool:
    """Whether a key falls into a share of all keys: always the same answer, and a larger share keeps those inside."""
    digest = hashlib.blake2b(key.encode("utf-8", errors="replace"), digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(digest, "big") < share * _DIGESTS


def build_arms(  # noqa: PLR0913, PLR0917 - what is loaded, each by router
    name: str,
    settings: VirtualModelSettings,
    routers: Mapping[Path | None, Router],
    live: Router,
    groups: Mapping[Router, Mapping[str, ModelGroup]],
    drift: CallerDrift | None = None,
) -> Arms:
    """Builds the arms of a virtual model.

    Args:
        name: The virtual model.
        settings: Its settings.
        routers: Loaded weights by folder; an arm whose weights could not be loaded is left out.
        live: The weights of the live arm.
        groups: The proxy's model groups as each router's catalog knows them.
        drift: How far callers' prompts have been from what was learned, for the arms that decide; None knows of none.

    Returns:
        The arms.
    """
    shared = drift or CallerDrift()

    def of(arm: str, router: Router, objective: Objective) -> Arm:
        model = build_virtual_model(name, settings, groups[router], router.average)
        of_callers = CallerDrift() if arm == "shadow" else shared  # a shadow writes no shared state
        return Arm(arm, router, model, objective, of_callers)

    def trial_arm(arm: str, trial: ShadowSettings | None) -> Arm | None:
        if trial is None:
            return None
        router = live if trial.artifact is None else routers.get(trial.artifact)
        if router is None:
            return None
        objective = settings.with_margin(trial.objective) if trial.says_something else settings.objective
        return of(arm, router, objective)

    return Arms(
        live=of("live", live, settings.objective),
        canary=trial_arm("canary", settings.canary),
        shadow=trial_arm("shadow", settings.shadow),
        canary_share=settings.canary.share if settings.canary else 0.0,
    )
