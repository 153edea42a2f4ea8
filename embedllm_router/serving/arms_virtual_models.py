"""Virtual models at run time: settings + model groups → candidate pools, and the report of what matched.

Built again whenever LiteLLM's list of deployments changes. It knows nothing of requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from embedllm_router.config.virtual_model import VirtualModelSettings
from embedllm_router.routing.deployments import ModelGroup
from embedllm_router.routing.pool import Candidate, CandidatePool, Exclusion
from embedllm_router.routing.pool_prior import Typical
from embedllm_router.routing.tie_breaking import pool_with_prior

__all__ = ["Finding", "VirtualModel", "build_virtual_model", "findings"]


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
