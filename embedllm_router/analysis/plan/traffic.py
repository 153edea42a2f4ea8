"""Recorded requests as traffic to plan with: candidates, who sets their objectives, requests in a month.

Requests whose client, key or team chose the objective keep it: a new setting of the virtual model does not reach them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from embedllm_router.analysis.plan.goal import DAYS_PER_MONTH
from embedllm_router.analysis.plan.switches import select
from embedllm_router.analysis.replay.batch import CandidateBatch, Objectives, choose, usable_under
from embedllm_router.analysis.replay.change import Change, Weighed, imply_prices, weigh
from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.records.reader.recorded import Recorded, RecordedRequest, Rescorer

__all__ = ["Rate", "Traffic", "rate_between", "read_traffic"]

_CONFIGURED = frozenset({None, "config", "canary"})
_SECONDS_PER_DAY = 86_400
_SECONDS_PER_MONTH = DAYS_PER_MONTH * _SECONDS_PER_DAY
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests come.

    Attributes:
        per_month: Requests a month.
        measured: Whether the records say so, rather than the user.
        days: What the records span, in days.
    """

    per_month: float
    measured: bool
    days: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests that somebody can answer; arrays are (n_requests,).

    Attributes:
        requests: As recorded, oldest first; at least one.
        batch: Their candidates; limits on cost are part of who is usable.
        free: bool, whether the virtual model's setting decides.
        fixed: Columns of the batch: who gets the requests that are not free; -1 for those that are.
        recorded: Columns of the batch: who got each; -1 where that is no candidate.
        rate: How many come.
        scored: Requests by how they were scored.
        skipped: Requests that are left out, by reason.
    """

    requests: Sequence[RecordedRequest]
    batch: CandidateBatch
    free: NDArray[np.bool_]
    fixed: Indices
    recorded: Indices
    rate: Rate
    scored: dict[str, int]
    skipped: dict[str, int]

    @property
    def since(self) -> datetime:
        """When the oldest was decided, UTC."""
        return self.requests[0].at

    @property
    def until(self) -> datetime:
        """When the newest was decided, UTC."""
        return self.requests[-1].at

    @property
    def virtual_models(self) -> tuple[str, ...]:
        """Those whose setting decides, most requests first."""
        free = (r.virtual_model for r, free in zip(self.requests, self.free.tolist(), strict=True) if free)
        return tuple(name for name, _ in Counter(free).most_common())


def read_traffic(recorded: Recorded, *, weights: Artifact | None, per_month: float | None) -> Traffic:
    """Weighs recorded requests again.

    Args:
        recorded: The log.
        weights: Requests that other weights decided are scored by these, where text or embedding was kept; None takes
            what was recorded.
        per_month: How many requests come in a month; None takes the log's own rate.

    Returns:
        The traffic.

    Raises:
        DataError: Nothing is left to plan with.
        ConfigError: The log spans less than a day, which tells no rate.
    """
    weighed, scored, skipped = _weigh(recorded, weights)
    batch = CandidateBatch.from_records((one.candidates, one.request.objective.cost_weight) for one in weighed)
    objectives = Objectives.of(one.request.objective for one in weighed)
    batch = replace(batch, usable=usable_under(batch, objectives))
    answered = np.flatnonzero(batch.usable.any(axis=1)) if batch.names else np.zeros(0, dtype=np.intp)
    skipped["no candidate could take it"] += len(weighed) - len(answered)
    if not len(answered):
        raise DataError(_nothing_left(recorded, skipped))
    requests = [weighed[i].request for i in answered.tolist()]
    batch, objectives = select(batch, answered), _some(objectives, answered)
    free = np.array([request.objective_from in _CONFIGURED for request in requests])
    return Traffic(
        requests=requests,
        batch=batch,
        free=free,
        fixed=np.where(free, -1, choose(batch, objectives)),
        recorded=_columns(batch, [request.chosen for request in requests]),
        rate=_rate(requests, per_month),
        scored=dict(scored),
        skipped={reason: n for reason, n in skipped.items() if n},
    )


def _weigh(recorded: Recorded, weights: Artifact | None) -> tuple[list[Weighed], Counter[str], Counter[str]]:
    scored, skipped = Counter[str](), Counter[str]()
    skipped["failed open: nothing was weighed"] = recorded.n_without_decision
    skipped["recorded propensity is no probability"] = recorded.n_invalid
    skipped["older than the newest that --limit reads"] = recorded.n_beyond_limit
    foreign = weights is not None and any(r.artifact != weights.id for r in recorded.requests)
    anew = Change(rescorer=Rescorer(weights)) if weights is not None and foreign else None
    prices = imply_prices(recorded.requests) if anew else {}
    weighed = []
    for request in recorded.requests:
        other = anew is not None and weights is not None and request.artifact != weights.id
        one, how = weigh(request, anew if anew and other else Change(), prices)
        (skipped if one is None else scored)[how] += 1
        if one is not None:
            weighed.append(one)
    return weighed, scored, skipped


def _nothing_left(recorded: Recorded, skipped: Counter[str]) -> str:
    if not recorded.n_meant:
        return f"no requests to plan with at {recorded.where}: none meets the filters."
    reasons = "; ".join(f"{n:,}: {reason}" for reason, n in skipped.items() if n)
    return f"none of {recorded.n_meant:,} requests at {recorded.where} can be planned with ({reasons})."


def _some(objectives: Objectives, rows: Indices) -> Objectives:
    return Objectives(*(getattr(objectives, one.name)[rows] for one in fields(objectives)))


def _columns(batch: CandidateBatch, names: Sequence[str]) -> Indices:
    column = {name: i for i, name in enumerate(batch.names)}
    found = np.array([column.get(name, -1) for name in names], dtype=np.intp)
    known = np.isfinite(batch.at(batch.cost_usd, found)) & np.isfinite(batch.at(batch.p_correct, found))
    return np.where(known, found, -1)


def rate_between(n: int, first: datetime, last: datetime) -> Rate | None:
    """How many requests come in a month, when so many came between two of them; None where that is less than a day."""
    seconds = (last - first).total_seconds()
    if seconds < _SECONDS_PER_DAY:
        return None
    return Rate((n - 1) / seconds * _SECONDS_PER_MONTH, measured=True, days=seconds / _SECONDS_PER_DAY)


def _rate(requests: Sequence[RecordedRequest], per_month: float | None) -> Rate:
    seconds = (requests[-1].at - requests[0].at).total_seconds()
    if per_month is not None:
        return Rate(per_month, measured=False, days=seconds / _SECONDS_PER_DAY)
    found = rate_between(len(requests), requests[0].at, requests[-1].at)
    if found is None:
        raise ConfigError(
            f"{len(requests):,} requests within {seconds / 3600:.1f} hours do not tell how many come in a month, since "
            "days have busy and quiet hours; expected records of a day or more. Give --requests-per-month."
        )
    return found
