"""The verdict from records with feedback: each request was answered by the chosen LLM only.

What the fixed LLM would have got right is the doubly robust estimate of `analysis/replay/off_policy.py`: predictions,
corrected by the verdicts on its own answers, weighted by one over the probability with which it was chosen. Where it
could not have been chosen only the prediction remains, so the answer is not known until exploration is on; the verdict
says so, and how many answers it would take.

Judged evaluation has other LLMs answer a share of the same requests. Where such pairs with the fixed LLM tell more than
feedback does, the comparison rests on them: both answers to a request, scored by one judge.
"""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.analysis.decisions import place_of_newest
from embedllm_router.analysis.replay.batch import CandidateBatch, usable_under
from embedllm_router.analysis.replay.choices import own_score, pairs_with, reachable
from embedllm_router.analysis.replay.off_policy import Logged, Terms, effective_n, paired_terms, terms_of
from embedllm_router.analysis.topics import topic_of
from embedllm_router.analysis.verdict.result import Against, RoutingVerdict, Topic
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.evaluation.verdict import (
    MARGIN,
    MIN_REQUESTS,
    Answered,
    Comparison,
    Graded,
    LlmUse,
    compare,
    headline,
    judge,
    n_words,
    pick_fixed,
    requests_to_tell,
    uses_of,
)
from embedllm_router.records.reader.recorded import Recorded, RecordedRequest, Wanted, read_recorded, usual_baseline
from embedllm_router.records.reader.source import Filters, RecordSource
from embedllm_router.routing.policy import Objective

__all__ = [
    "Newest",
    "RecordsVerdict",
    "UnknownBaselineError",
    "judge_records",
    "read_newest",
    "verdict_of",
    "verdict_on",
]

_ENOUGH: Final = 0.95  # share of the requests of which verdicts must be able to say something
_COULD_TAKE: Final = 0.9  # share of the requests that an LLM must be able to take to be a fixed one
_FEW: Final = 20.0  # verdicts on the fixed LLM's answers, as they count
_MIN_TOPIC: Final = 30
_EPSILON: Final = 0.1  # of the exploration that is advised
_NEWEST: Final = 5_000  # requests that a page or a summary judges
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class RecordsVerdict:
    """The verdict from records, or why there is none.

    Attributes:
        verdict: The verdict; None where the records hold too little.
        sentence: Its headline, or what is lacking.
    """

    verdict: RoutingVerdict | None
    sentence: str


def verdict_of(source: RecordSource, filters: Filters, baseline: str | None = None) -> RecordsVerdict:
    """Judges the newest requests, for readers who did not ask for it.

    Args:
        source: The records.
        filters: Which requests are meant.
        baseline: Model group that was used before; None takes the one that most requests name.

    Raises:
        DataError: The records cannot be read.
        UnknownBaselineError: The baseline was no candidate.
    """
    if baseline is None and not source.rows("SELECT 1 AS one FROM feedback LIMIT 1"):
        return RecordsVerdict(None, "Not known: no answer has feedback.")
    return verdict_on(read_newest(source, filters).recorded, baseline)


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest requests, and since when there are any.

    Attributes:
        recorded: The newest requests with their feedback, oldest first.
        first: Time of the oldest request that is meant, read or not, UTC without zone; None without any.
        last: Time of the newest one.
    """

    recorded: Recorded
    first: datetime | None
    last: datetime | None


def read_newest(source: RecordSource, filters: Filters) -> Newest:
    """Reads the newest requests of a log of any size: first where they lie in time, then these alone.

    Args:
        source: The records.
        filters: Which requests are meant.

    Returns:
        At most 5,000 requests, with their feedback.

    Raises:
        DataError: The records cannot be read.
    """
    where, given = filters.where()
    place = place_of_newest(source, where, given, range(_NEWEST))
    since = place.given.get("newest_from")
    near = replace(filters, since=since) if isinstance(since, datetime) else filters
    found = read_recorded(source, Wanted(filters=near, limit=_NEWEST, with_pairs=True))
    read = found.n_meant - found.n_beyond_limit
    whole = replace(found, n_meant=place.total, n_beyond_limit=max(place.total - read, 0))
    return Newest(whole, place.first, place.last)


def verdict_on(recorded: Recorded, baseline: str | None = None) -> RecordsVerdict:
    """Judges requests that were read; says what is lacking where they hold too little.

    Args:
        recorded: Requests with their feedback.
        baseline: Model group that was used before; None takes the one that most requests name.

    Raises:
        UnknownBaselineError: The baseline was no candidate.
    """
    try:
        found = judge_records(recorded, baseline=baseline)
    except TooLittleError as error:
        return RecordsVerdict(None, f"Not known: {error}")
    return RecordsVerdict(found, found.best.headline)


class TooLittleError(DataError):
    """The records hold too few requests or verdicts to judge."""


class UnknownBaselineError(ConfigError):
    """The baseline was no candidate of any request."""


@dataclass(frozen=True, slots=True)
class _Traffic:
    """Requests whose choice was predicted.

    Attributes:
        requests: As recorded.
        batch: Their candidates.
        usable: bool (n, n_names), who could have taken each.
        chosen: intp (n,), columns that were chosen.
        score: (n,), verdict on the chosen one's answer; NaN without.
        cost_weight: (n,), λ of each request.
    """

    requests: Sequence[RecordedRequest]
    batch: CandidateBatch
    usable: NDArray[np.bool_]
    chosen: Indices
    score: Floats
    cost_weight: Floats

    @property
    def own_cost(self) -> Floats:
        """Expected cost of the chosen ones, (n,)."""
        return self.batch.at(self.batch.cost_usd, self.chosen)


@dataclass(frozen=True, slots=True)
class _Alone:
    """One LLM for everything; the recorded choice stands where it could not take a request. Arrays are (n,).

    Attributes:
        wanted: intp, columns.
        routed: Doubly robust terms of the recorded choices.
        correct: Those of the LLM.
        cost: Its expected cost.
        weight: Of the verdicts in `correct`; where it rests on pairs, of these.
        supported: bool, whether a verdict could say something.
        paired: bool, whether it was answered by both and scored by a judge, and counts so.
    """

    wanted: Indices
    routed: Floats
    correct: Floats
    cost: Floats
    weight: Floats
    supported: NDArray[np.bool_]
    paired: NDArray[np.bool_]

    @property
    def share_supported(self) -> float:
        """Share of the requests of which verdicts can say something, in [0, 1]."""
        return float(self.supported.mean())

    @property
    def error(self) -> float:
        """Standard error of the mean difference."""
        return float((self.routed - self.correct).std() / np.sqrt(len(self.routed)))

    def rests_on_verdicts(self, chosen: Indices) -> bool:
        """Whether verdicts tell of nearly all requests, and there are enough of them."""
        observed = effective_n(self.weight) if (self.wanted != chosen).any() else np.inf
        return self.share_supported >= _ENOUGH and observed >= _FEW


def judge_records(
    recorded: Recorded, *, baseline: str | None = None, cost_weight: float | None = None, margin: float = MARGIN
) -> RoutingVerdict:
    """Judges the recorded choices.

    Args:
        recorded: Requests with their feedback.
        baseline: Model group that was used before; None takes the one that most requests name.
        cost_weight: λ to weigh accuracy and cost by; None takes that of each request.
        margin: Accuracy that may be lost where routing is cheaper, and the least gain worth having.

    Returns:
        The verdict.

    Raises:
        TooLittleError: There are too few requests or verdicts.
        ConfigError: The baseline was no candidate.
    """
    if baseline is not None:
        _check_baseline(recorded, baseline)
    traffic = _traffic(recorded, cost_weight)
    names, batch = _fixed_names(traffic), traffic.batch
    ways = [_alone(traffic, batch.names.index(name)) for name in names]
    gain, cost = (np.stack(its, axis=1) for its in ([w.correct - w.routed for w in ways], [w.cost for w in ways]))
    fixed = pick_fixed(gain - traffic.cost_weight[:, None] * cost, cost)  # users and judges may differ in their level
    best = _picked(ways, fixed.picked)
    baseline = baseline or usual_baseline(traffic.requests)
    used = None if baseline is None else _alone(traffic, _column(traffic, baseline))
    return RoutingVerdict(
        basis="records",
        where=recorded.where,
        n=len(traffic.requests),
        best=_against(traffic, best, names[fixed.column], margin),
        agreement=fixed.agreement,
        baseline=None if used is None or baseline is None else _against(traffic, used, baseline, margin),
        setting="as recorded",
        topics=tuple(_topics(traffic, best)),
        llms=_uses(traffic),
        notes=(*_notes(recorded, traffic), *_pairs(traffic, {names[fixed.column]: best, baseline: used})),
    )


def _check_baseline(recorded: Recorded, baseline: str) -> None:
    """Refuses a name that no request could choose, before feedback is looked for."""
    names = list(dict.fromkeys(one.name for request in recorded.requests for one in request.candidates))
    if names and baseline not in names:
        raise _no_such_baseline(baseline, names)


def _traffic(recorded: Recorded, cost_weight: float | None) -> _Traffic:
    weighed = [r for r in recorded.requests if _predicted(r)]
    scores = np.array([own_score(request) for request in weighed])
    n_judged = int(np.isfinite(scores).sum())
    if not weighed:
        raise TooLittleError(
            f"no request at {recorded.where} has predictions. Start the proxy with `embedllm-router serve`, send "
            "requests and feedback on their answers (docs/feedback.md), or judge graded data with --data."
        )
    if n_judged < MIN_REQUESTS:
        raise TooLittleError(
            f"{len(weighed):,} requests at {recorded.where} have predictions, and {n_judged:,} answers of the chosen "
            f"LLM have feedback; at least {MIN_REQUESTS} are needed. Send feedback on answers "
            "(docs/feedback.md), or judge graded data with --data."
        )
    batch = CandidateBatch.from_records((r.candidates, r.objective.cost_weight) for r in weighed)
    weights = np.array([r.objective.cost_weight if cost_weight is None else cost_weight for r in weighed])
    column = {name: i for i, name in enumerate(batch.names)}
    return _Traffic(
        requests=weighed,
        batch=batch,
        usable=usable_under(batch, Objective()),
        chosen=np.array([column[r.chosen] for r in weighed], dtype=np.intp),
        score=scores,
        cost_weight=weights,
    )


def _predicted(request: RecordedRequest) -> bool:
    chosen = request.candidate(request.chosen)
    return chosen is not None and chosen.p_correct is not None and chosen.cost_usd is not None


def _fixed_names(traffic: _Traffic) -> list[str]:
    share = traffic.usable.mean(axis=0)
    able = [name for name, part in zip(traffic.batch.names, share.tolist(), strict=True) if part >= _COULD_TAKE]
    if not able:
        raise TooLittleError(
            f"no LLM could take {_COULD_TAKE:.0%} of the {len(traffic.requests):,} requests alone, so there is no "
            "fixed LLM to compare with. Judge one virtual model with --virtual-model, or a shorter time with --since."
        )
    return able


def _column(traffic: _Traffic, name: str) -> int:
    names = traffic.batch.names
    if name in names and traffic.usable[:, names.index(name)].any():
        return names.index(name)
    raise _no_such_baseline(name, names)


def _no_such_baseline(name: str, names: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return UnknownBaselineError(
        f"the baseline {name!r} could take none of these requests; candidates were {', '.join(names)}. "
        f"Did you mean {near[0]!r}?"
    )


def _alone(traffic: _Traffic, column: int) -> _Alone:
    batch = traffic.batch
    wanted = np.where(traffic.usable[:, column], column, traffic.chosen).astype(np.intp)
    names = [batch.names[i] for i in wanted.tolist()]
    logged = Logged(
        chosen=traffic.chosen,
        wanted=wanted,
        propensity=np.array([r.propensity for r in traffic.requests]),
        reachable=reachable(traffic.requests, batch, names),
        score=traffic.score,
        p_chosen=batch.at(batch.p_correct, traffic.chosen),
        p_wanted=batch.at(batch.p_correct, wanted),
    )
    cost = batch.at(batch.cost_usd, wanted)
    by_feedback = _alone_by(terms_of(logged), wanted, cost, np.zeros(len(wanted), dtype=bool))
    if not any(request.beside for request in traffic.requests):
        return by_feedback
    terms = paired_terms(logged, pairs_with(traffic.requests, names))
    by_pairs = _alone_by(terms, wanted, cost, terms.weight > 0)
    chosen, both = traffic.chosen, (by_feedback, by_pairs)
    if any(one.rests_on_verdicts(chosen) for one in both):
        return min((one for one in both if one.rests_on_verdicts(chosen)), key=lambda one: one.error)
    return max(both, key=lambda one: one.share_supported)


def _alone_by(terms: Terms, wanted: Indices, cost: Floats, paired: NDArray[np.bool_]) -> _Alone:
    return _Alone(wanted, terms.before, terms.after, cost, terms.weight, terms.supported, paired)


def _picked(ways: Sequence[_Alone], picked: Indices) -> _Alone:
    """For each request the LLM that was picked for it."""

    def of(name: str) -> NDArray[np.generic]:
        stacked: NDArray[np.generic] = np.stack([getattr(way, name) for way in ways])
        return stacked[picked, np.arange(len(picked))]

    return _Alone(**{name: of(name) for name in _Alone.__slots__})  # type: ignore[arg-type]  # each keeps its type


def _compared(traffic: _Traffic, alone: _Alone, rows: NDArray[np.bool_] | None = None) -> Comparison:
    mine = np.ones(len(alone.cost), dtype=bool) if rows is None else rows
    stands_for = alone.weight[mine & alone.paired]
    return compare(
        Answered(alone.routed[mine], traffic.own_cost[mine]),
        Answered(alone.correct[mine], alone.cost[mine]),
        traffic.cost_weight[mine],
        differ=bool((alone.wanted != traffic.chosen)[mine].any()),
        stands_for=float(stands_for.mean()) if len(stands_for) else 1.0,
    )


def _against(traffic: _Traffic, alone: _Alone, name: str, margin: float) -> Against:
    judgement, n_pairs = judge(_compared(traffic, alone), margin=margin), int(alone.paired.sum())
    if alone.rests_on_verdicts(traffic.chosen):
        said = headline(judgement, name)
        return Against(name, judgement, said, supported=alone.share_supported, n_pairs=n_pairs)
    reason = _unknown_because(traffic, alone, name)
    return Against(
        name,
        judgement,
        f"Not known from these records: {reason}",
        known=False,
        unknown_because=reason,
        supported=alone.share_supported,
        n_pairs=n_pairs,
    )


def _unknown_because(traffic: _Traffic, alone: _Alone, name: str) -> str:
    supported, flips = alone.share_supported, alone.wanted != traffic.chosen
    p = traffic.batch.at(traffic.batch.p_correct, alone.wanted)
    difference = float((alone.routed - alone.correct).mean())
    n_names = max(int(traffic.usable.sum(axis=1).max()), 2)
    needed = requests_to_tell(difference, np.where(flips, p * (1 - p), 0.0), _EPSILON / n_names)
    if supported < _ENOUGH:
        said = (
            f"for {1 - supported:.0%} of the requests {name} had no chance to answer, so only predictions speak of it"
        )
    else:
        said = f"the verdicts on answers of {name} count as {effective_n(alone.weight):.0f}, too few"
    if alone.paired.any():
        count, n_pairs = effective_n(alone.weight), int(alone.paired.sum())
        said += f". Judged evaluation is on: {n_pairs:,} requests were answered by both and count as {count:.0f}"
        if count < _FEW:
            said += f", at least {_FEW:.0f} must be; a higher judging.share brings more"
        return said + ("; --since leaves out requests from before it was on." if supported < _ENOUGH else ".")
    return (
        f"{said}. Set exploration: {{epsilon: {_EPSILON:g}, max_loss: 1, max_extra_usd: 1}} in the virtual model; with "
        f"it, {n_words(needed)} with feedback. Or set judging (docs/judging.md): {name} then answers a share of the "
        "requests, too, and a judge compares."
    )


def _topics(traffic: _Traffic, best: _Alone) -> Iterator[Topic]:
    topics = np.array([topic_of(request.category) for request in traffic.requests])
    for topic, n in Counter(topics.tolist()).most_common():
        if n >= _MIN_TOPIC:
            yield Topic(topic, n, _compared(traffic, best, topics == topic))


def _uses(traffic: _Traffic) -> tuple[LlmUse, ...]:
    """By predictions, over the requests that all LLMs could take: who is ever chosen needs no verdicts."""
    columns = np.flatnonzero(traffic.usable.mean(axis=0) >= _COULD_TAKE)
    rows = np.flatnonzero(traffic.usable[:, columns].all(axis=1))
    if len(columns) < 2 or not len(rows):  # noqa: PLR2004 - a choice is between two
        return ()
    block = np.ix_(rows, columns)
    p, cost = traffic.batch.p_correct[block], traffic.batch.cost_usd[block]
    return uses_of(Graded(p, cost, p, cost), [traffic.batch.names[i] for i in columns.tolist()])


def _notes(recorded: Recorded, traffic: _Traffic) -> Iterator[str]:
    n_judged = int(np.isfinite(traffic.score).sum())
    n_explored = sum(request.propensity < 1 for request in traffic.requests)
    yield (
        f"{n_judged:,} of {len(traffic.requests):,} requests have feedback on the chosen LLM's answer; "
        f"{n_explored:,} were decided with exploration on"
    )
    yield "costs are expected ones on both sides; what each LLM is for is by predictions"
    if recorded.n_beyond_limit:
        yield f"{recorded.n_beyond_limit:,} older requests were not read; --limit reads more"


def _pairs(traffic: _Traffic, compared: Mapping[str | None, _Alone | None]) -> Iterator[str]:
    """On how many pairs each comparison rests; by the LLM that routing was compared with."""
    n_scored = sum(bool(request.beside) for request in traffic.requests)
    for name, alone in compared.items():
        if not n_scored or alone is None or not (alone.wanted != traffic.chosen).any():
            continue
        if n_pairs := int(alone.paired.sum()):
            for_requests = float(alone.weight[alone.paired].mean())
            yield (
                f"the comparison with {name} rests on {n_pairs:,} requests that both answered and one judge scored, "
                f"each standing for {for_requests:.1f}; the judge's own error is in `logs summary`"
            )
        else:
            yield (
                f"of {n_scored:,} requests a judge scored other LLMs' answers, too; of {name} they tell less than "
                "other feedback does"
            )
