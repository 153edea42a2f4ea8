"""What a replay changes (objective, weights, configuration), and a request's candidates under the change.

- A request is weighed again from its record. What only the record holds of a candidate stays: the wait for it, a
  cooldown, a key without access.
- New weights predict other lengths of answers. The prices for them are those the recorded costs imply:
  cost = input tokens · price + output tokens · price, solved per candidate.
- A configuration that was never served names its candidates and objectives. LiteLLM's price map is not read: prices,
  windows and capabilities that the file does not state are taken from the record of the same candidate, and are
  unknown elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.analysis.replay.batch import waiting_of
from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.weights import Artifact, default_artifact_path, load_artifact
from embedllm_router.config.settings import load_config, read_proxy_config
from embedllm_router.errors import ArtifactError, ConfigError
from embedllm_router.prediction.scorer import Scores
from embedllm_router.records.reader.recorded import RecordedRequest, Rescorer
from embedllm_router.records.schema import CandidateRecord
from embedllm_router.routing.deployments import Row, read_model_groups
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.pool import Candidate, Exclusion, Rules
from embedllm_router.routing.tie_breaking import average_performance
from embedllm_router.serving.arms import VirtualModel, build_virtual_model

__all__ = [
    "NOT_SCORED",
    "RECORDED",
    "Change",
    "ImpliedPrice",
    "NewAim",
    "NewConfig",
    "Predictions",
    "Weighed",
    "configured",
    "imply_prices",
    "named",
    "read_new_config",
    "rescored",
    "weigh",
]

_EXACT: Final = 1e-6
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ImpliedPrice:
    """What a candidate's recorded costs say of its prices.

    Attributes:
        input_usd_per_token: At least 0.
        output_usd_per_token: At least 0.
        n: Requests it was worked out from.
        exact: Whether it reproduces every recorded cost, so the prices did not change within the log.
    """

    input_usd_per_token: float
    output_usd_per_token: float
    n: int
    exact: bool

    def at_length(self, request: RecordedRequest, recorded: CandidateRecord, output_tokens: float) -> float | None:
        """What a recorded request would have cost with an answer of another length.

        The recorded cost is scaled by the ratio of the implied ones, so it stays right where prices changed by a
        common factor.

        Returns:
            USD; None when no cost was recorded.
        """
        before = self._cost(request, recorded.expected_output_tokens)
        if recorded.cost_usd is None or not before:
            return recorded.cost_usd
        return recorded.cost_usd * self._cost(request, output_tokens) / before

    def _cost(self, request: RecordedRequest, output_tokens: float | None) -> float:
        return (request.input_tokens or 0) * self.input_usd_per_token + (output_tokens or 0) * self.output_usd_per_token


def imply_prices(requests: Iterable[RecordedRequest]) -> Mapping[str, ImpliedPrice]:
    """Works out the prices of every candidate with a recorded cost, by name."""
    seen: dict[str, list[tuple[float, float, float]]] = {}
    for request in requests:
        for one in request.candidates:
            if one.cost_usd is not None and one.expected_output_tokens is not None:
                row = (float(request.input_tokens or 0), one.expected_output_tokens, one.cost_usd)
                seen.setdefault(one.name, []).append(row)
    return {name: _solve(np.array(rows)) for name, rows in seen.items()}


def _solve(rows: Floats) -> ImpliedPrice:
    tokens, cost = rows[:, :2], rows[:, 2]
    relative = 1.0 / np.where(cost > 0, cost, 1.0)
    price = _non_negative(tokens * relative[:, None], cost * relative)
    error = float(np.abs(tokens @ price * relative - cost * relative).max())
    return ImpliedPrice(float(price[0]), float(price[1]), len(rows), exact=error <= _EXACT)


def _non_negative(x: Floats, y: Floats) -> Floats:
    """Least squares; where a price comes out negative it is 0 and the other one fits alone."""
    price = np.linalg.lstsq(x, y, rcond=1e-9)[0].astype(np.float64)
    for negative, other in ((0, 1), (1, 0)):
        if price[negative] < 0:
            square = float(x[:, other] @ x[:, other])
            price[negative], price[other] = 0.0, max(float(x[:, other] @ y) / square, 0.0) if square else 0.0
    return price


NOT_SCORED: Final = "not_scored"
"""Exclusion of a candidate whose LLM was not among those the recorded weights predicted for."""

_UNKNOWN: Final = str(Exclusion.LLM_UNKNOWN)
_KEPT: Final = frozenset(
    {
        Exclusion.KEY_ACCESS,
        Exclusion.PROVIDER,
        Exclusion.REGION,
        Exclusion.LABEL,
        Exclusion.COOLED_DOWN,
        Exclusion.TEAM,
        Exclusion.TAG,
        Exclusion.EFFORT,
        Exclusion.OVER_BUDGET,
        Exclusion.RESERVED,
        Exclusion.RESTING,
    }
)
"""Why a candidate was excluded, where team, key, client or the moment may have done it."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of new weights for one request.

    Attributes:
        scores: For every LLM they know.
        rows: Row by LLM.
    """

    scores: Scores
    rows: Mapping[str, int]

    def of(self, llm: str | None, limit: int | None) -> tuple[float, float] | None:
        """p_correct and output tokens, the request's limit applied; None for an LLM the weights do not know."""
        row = self.rows.get(llm) if llm is not None else None
        if row is None:
            return None
        tokens = float(self.scores.output_tokens[row])
        return float(self.scores.p_correct[row]), tokens if limit is None else min(tokens, limit)


def named(candidates: Sequence[CandidateRecord], name: str) -> CandidateRecord | None:
    """The candidate of a name; None when there is none."""
    return next((one for one in candidates if one.name == name), None)


def rescored(
    request: RecordedRequest, one: CandidateRecord, known: Predictions, prices: Mapping[str, ImpliedPrice]
) -> CandidateRecord:
    """A recorded candidate by the predictions of new weights."""
    predicted = known.of(one.llm, request.max_output_tokens)
    if predicted is None:
        nothing = replace(one, p_correct=None, expected_output_tokens=None, cost_usd=None, utility=None)
        return replace(nothing, excluded=Exclusion.LLM_UNKNOWN)
    p_correct, tokens = predicted
    price = prices.get(one.name)
    cost = price.at_length(request, one, tokens) if price else one.cost_usd
    utility = _utility(request, p_correct, cost, _waiting(request, one))
    return replace(one, p_correct=p_correct, expected_output_tokens=tokens, cost_usd=cost, utility=utility)


def configured(
    request: RecordedRequest, model: VirtualModel, recorded: Sequence[CandidateRecord], known: Predictions | None
) -> list[CandidateRecord]:
    """The candidates of a new configuration.

    Args:
        request: As recorded.
        model: What it asks for, by the new configuration.
        recorded: Its candidates by the weights that decide.
        known: Predictions of those weights; None when they are the recorded ones.

    Returns:
        In the configuration's order. Where it states no price, the recorded cost of the same candidate stands.
    """
    pool = model.pool.candidates
    predicted = [_predicted(request, one, recorded, known) for one in pool]
    tokens = np.array([np.nan if one is None else one[1] for one in predicted])
    costs = model.pool.expected_cost(request.input_tokens or 0, tokens, {}, request.service_tier or "").tolist()
    figures = [(*(one or (None, None)), cost) for one, cost in zip(predicted, costs, strict=True)]
    return [_configured(request, model, recorded, i, its) for i, its in enumerate(figures)]


def _predicted(
    request: RecordedRequest, one: Candidate, recorded: Sequence[CandidateRecord], known: Predictions | None
) -> tuple[float, float] | None:
    """By the new weights, else as recorded of the same LLM, whatever it was called."""
    if known is not None:
        return known.of(one.llm, request.max_output_tokens)
    same = _same(one, recorded) or next((c for c in recorded if c.llm == one.llm and c.p_correct is not None), None)
    if same is None or same.p_correct is None:
        return None
    return same.p_correct, same.expected_output_tokens or 0.0


def _same(one: Candidate, recorded: Sequence[CandidateRecord]) -> CandidateRecord | None:
    namesake = named(recorded, one.name)
    return namesake if namesake is not None and namesake.llm == one.llm else None


def _configured(
    request: RecordedRequest,
    model: VirtualModel,
    recorded: Sequence[CandidateRecord],
    index: int,
    figures: tuple[float | None, float | None, float],
) -> CandidateRecord:
    one = model.pool.candidates[index]
    p_correct, tokens, stated = figures
    same = _same(one, recorded)
    cost = (same.cost_usd if same else None) if np.isnan(stated) else stated
    if p_correct is None:
        return CandidateRecord(one.name, one.llm, None, None, None, None, NOT_SCORED if one.llm else _UNKNOWN)
    unpriced = Exclusion.PRICE_UNKNOWN if cost is None else None
    reason = unpriced or _excluded(request, one, model.settings.rules, named(recorded, one.name))
    utility = _utility(request, p_correct, cost, _waiting(request, named(request.candidates, one.name)))
    usual = _usual(model, index, same)
    return CandidateRecord(one.name, one.llm, p_correct, tokens, cost, utility, reason, *usual)


def _usual(model: VirtualModel, index: int, same: CandidateRecord | None) -> tuple[float | None, float | None]:
    """What settles near ties, by the configuration's weights and prices; where it states none, as recorded."""
    average = model.pool.average
    if average is None or np.isnan(average.cost_usd[index]):
        return (same.usual_p_correct, same.usual_cost_usd) if same else (None, None)
    return float(average.p_correct[index]), float(average.cost_usd[index])


def _excluded(request: RecordedRequest, one: Candidate, rules: Rules, namesake: CandidateRecord | None) -> str | None:
    """Why a request excludes a candidate; what the configuration does not say is as it was for its namesake."""
    before = namesake.excluded if namesake else None
    restricted = any(c.excluded == Exclusion.NOT_REQUESTED for c in request.candidates)
    if restricted and (namesake is None or before == Exclusion.NOT_REQUESTED):
        return Exclusion.NOT_REQUESTED
    if one.effort is not None and namesake is None and any(c.excluded == Exclusion.EFFORT for c in request.candidates):
        return Exclusion.EFFORT  # the request set an effort, or had none to set: which one is not on the record
    broken = one.broken_rule(rules)
    if broken is not None or before in _KEPT:
        return broken or before
    needed = (request.input_tokens or 0) + (request.max_output_tokens or 0)
    if one.max_input_tokens is not None and one.max_input_tokens < needed:
        return Exclusion.CONTEXT_WINDOW
    if before == Exclusion.CONTEXT_WINDOW and one.max_input_tokens is None:
        return before
    lacking = next((Exclusion.lacking(c) for c in sorted(one.lacks) if c in request.needs), None)
    return lacking or (before if before is not None and before.startswith("no_") else None)


def _waiting(request: RecordedRequest, one: CandidateRecord | None) -> float:
    """What waiting takes off a utility; a candidate nobody waited for yet counts as the quickest."""
    if one is None:
        waits = [_waiting(request, other) for other in request.candidates if other.utility is not None]
        return min(waits, default=0.0)
    if one.p_correct is None or one.cost_usd is None or one.utility is None:
        return 0.0
    figures = (one.p_correct, one.cost_usd, request.objective.cost_weight, one.utility)
    return float(waiting_of(*(np.array([figure]) for figure in figures))[0])


def _utility(request: RecordedRequest, p_correct: float, cost: float | None, waiting: float) -> float | None:
    """At the recorded cost weight, as records have it: `CandidateBatch` takes the waiting out of it again."""
    return None if cost is None else p_correct - request.objective.cost_weight * cost - waiting


@dataclass(frozen=True, slots=True)
class NewConfig:
    """What a configuration decides by.

    Attributes:
        virtual_models: By name.
        artifact: Id of the weights that know its LLMs by name.
        unknown: Candidates that match no LLM of those weights.
        unpriced: Candidates whose prices the file does not say.
    """

    virtual_models: Mapping[str, VirtualModel]
    artifact: str
    unknown: tuple[str, ...]
    unpriced: tuple[str, ...]


def read_new_config(path: Path, artifact: Artifact | None = None) -> NewConfig:
    """Reads a proxy configuration.

    Args:
        path: The YAML file.
        artifact: The weights that shall decide; None takes those the file names, to tell its LLMs by name.

    Returns:
        What it decides by.

    Raises:
        ConfigError: The file, or what it says of weights, is not usable.
    """
    settings = read_proxy_config(path)
    weights = artifact or _load(path, settings.artifact)
    virtual = settings.virtual_models
    rows = [row for row in _model_list(path) if row.get("model_name") not in virtual]
    groups = read_model_groups(rows, {}, Catalog(weights.manifest.llms))
    average = average_performance(weights)
    models = {name: build_virtual_model(name, one, groups, average) for name, one in virtual.items()}
    used = {one.name: one for model in models.values() for one in model.pool.candidates}
    return NewConfig(
        virtual_models=models,
        artifact=weights.id,
        unknown=tuple(name for name, one in used.items() if one.llm is None),
        unpriced=tuple(name for name, one in used.items() if one.llm is not None and not _priced(one)),
    )


def _priced(one: Candidate) -> bool:
    return one.input_usd_per_token is not None and one.output_usd_per_token is not None


def _load(path: Path, named: Path | None) -> Artifact:
    try:
        return load_artifact(named or default_artifact_path())
    except ArtifactError as error:
        raise ConfigError(f"the configuration {path} names weights that cannot be loaded here: {error}") from error


def _model_list(path: Path) -> Sequence[Row]:
    rows = load_config(path).get("model_list") or []
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError(f"the configuration {path}: model_list must be a list of mappings, found {rows!r:.80}.")
    return rows


RECORDED: Final = "recorded predictions"
"""How a request was scored when the weights are the recorded ones."""

_UNKNOWN_MODEL: Final = "virtual model not in the new configuration"
_OWN_OBJECTIVE: Final = frozenset({"config", "canary"})


@dataclass(frozen=True, slots=True)
class NewAim:
    """An objective for every request.

    Attributes:
        aim: What the best candidate is; its limit on cost is not looked at. None keeps the recorded aim.
        max_cost_usd: Limit on the expected cost; None keeps the recorded one.
    """

    aim: Objective | None = None
    max_cost_usd: float | None = None

    def instead_of(self, recorded: Objective) -> Objective:
        """What a request is decided by; waits and near ties count as they did."""
        limit = recorded.max_cost_usd if self.max_cost_usd is None else self.max_cost_usd
        kept = {"latency_weight": recorded.latency_weight, "near_tie_margin": recorded.near_tie_margin}
        return replace(self.aim or recorded, max_cost_usd=limit, **kept)


@dataclass(frozen=True, slots=True)
class Change:
    """Everything that shall be different; None keeps what was recorded.

    Attributes:
        aim: The objective.
        rescorer: The weights.
        config: Candidates, prices and objectives; an objective that a client chose stays its own.
    """

    aim: NewAim = NewAim()
    rescorer: Rescorer | None = None
    config: NewConfig | None = None

    @property
    def new_numbers(self) -> bool:
        """Whether candidates have other numbers than the recorded ones."""
        return self.rescorer is not None or self.config is not None


@dataclass(frozen=True, slots=True)
class Weighed:
    """A request weighed again.

    Attributes:
        request: As recorded.
        objective: What it is decided by.
        candidates: What there is to choose from.
        before: The recorded choice by the same numbers; by the recorded price where it is no candidate any more. None
            when it was not weighed.
    """

    request: RecordedRequest
    objective: Objective
    candidates: Sequence[CandidateRecord]
    before: CandidateRecord | None

    @property
    def slower(self) -> float:
        """How much more a wait counts than it did; 1 where it was not recorded how much it counted."""
        before = self.request.objective.latency_weight
        return self.objective.latency_weight / before if before > 0 else 1.0

    def stays(self, name: str | None) -> bool:
        """Whether a name is the recorded choice and still stands for the same LLM."""
        if self.before is None or name != self.request.chosen:
            return False
        return any(c.name == name and c.llm == self.before.llm for c in self.candidates)


def weigh(request: RecordedRequest, change: Change, prices: Mapping[str, ImpliedPrice]) -> tuple[Weighed | None, str]:
    """Weighs a recorded request again.

    Args:
        request: The request.
        change: What is different.
        prices: Implied prices by candidate; used only when the weights are different.

    Returns:
        What it would be decided on, and how it was scored; or None, and why it cannot be weighed again.
    """
    model = None
    if change.config is not None:
        model = change.config.virtual_models.get(request.virtual_model)
        if model is None:
            return None, _UNKNOWN_MODEL
    how, known = _predict(request, change.rescorer)
    if change.rescorer is not None and known is None:
        return None, how
    candidates: Sequence[CandidateRecord] = request.candidates
    if known is not None:
        candidates = [rescored(request, one, known, prices) for one in candidates]
    before = named(candidates, request.chosen)
    objective = request.objective
    if model is not None:
        candidates = configured(request, model, candidates, known)
        objective = model.settings.objective if request.objective_from in _OWN_OBJECTIVE else objective
        stayed = named(candidates, request.chosen)
        before = stayed if stayed and before and stayed.llm == before.llm else before
    return Weighed(request, change.aim.instead_of(objective), candidates, before), how


def _predict(request: RecordedRequest, rescorer: Rescorer | None) -> tuple[str, Predictions | None]:
    """How a request was scored, and the predictions; None when they are the recorded ones or there are none."""
    if rescorer is None:
        return RECORDED, None
    basis, scores = rescorer.score(request)
    return str(basis), None if scores is None else Predictions(scores, rescorer.rows)
