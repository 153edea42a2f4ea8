"""The recorded and the new choices side by side, and the figures that compare them.

`reachable` says which new choices exploration could have made when the request was recorded. A record has the
probability of every candidate. An older one has that of the choice alone, without the caps of exploration: the
furthest that exploration of the same virtual model went is within the caps, so no nearer candidate was out of reach.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, Resampling
from embedllm_router.analysis.replay.batch import CandidateBatch, Objectives, choose, floats, mix_of
from embedllm_router.analysis.replay.change import Weighed
from embedllm_router.analysis.replay.off_policy import Logged, Pairs
from embedllm_router.analysis.replay.result import Compared, Flip, Group, MixRow, Yardstick
from embedllm_router.records.reader.recorded import RecordedRequest
from embedllm_router.records.schema import CandidateRecord

__all__ = ["Choices", "Numbers", "make_choices", "own_score", "pairs_with", "reachable"]

_ROUNDING: Final = 1e-9
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Distance:
    """How far candidates are from the best one, by the recorded numbers; NaN where unknown."""

    loss: Floats
    extra_usd: Floats


def reachable(requests: Sequence[RecordedRequest], recorded: CandidateBatch, wanted: Sequence[str | None]) -> Flags:
    """Whether exploration could have chosen the wanted candidate, (n_requests,).

    Args:
        requests: As recorded.
        recorded: Their candidates.
        wanted: Names; None for none.
    """
    column = {name: i for i, name in enumerate(recorded.names)}
    chosen = np.array([column.get(request.chosen, -1) for request in requests], dtype=np.intp)
    preferred = np.array([-1 if name is None else column.get(name, -1) for name in wanted], dtype=np.intp)
    best = choose(recorded, Objectives.of(request.objective for request in requests))
    explores = np.array([request.propensity < 1 for request in requests], dtype=bool)
    model = np.array([request.virtual_model for request in requests], dtype=object)
    usable = (preferred >= 0) & recorded.usable[np.arange(len(requests)), preferred]
    caps = _seen(_distance(recorded, best, chosen), explores, model)
    there = _distance(recorded, best, preferred)
    loss, extra = (np.array([caps.get(name, (-1.0, -1.0))[i] for name in model]) for i in (0, 1))
    within = (there.loss <= loss + _ROUNDING) & (there.extra_usd <= extra + _ROUNDING)
    guessed: Flags = usable & (within | (preferred == best))
    odds = np.array([_odds(request, name) for request, name in zip(requests, wanted, strict=True)], dtype=np.float64)
    found: Flags = explores & np.where(np.isnan(odds), guessed, odds > 0)
    return found


def _odds(request: RecordedRequest, name: str | None) -> float:
    """The recorded probability of a candidate; NaN where records have none."""
    one = request.candidate(name)
    return np.nan if one is None or one.propensity is None else one.propensity


def _distance(recorded: CandidateBatch, best: NDArray[np.intp], other: NDArray[np.intp]) -> _Distance:
    p, usd = recorded.p_correct, recorded.cost_usd
    return _Distance(recorded.at(p, best) - recorded.at(p, other), recorded.at(usd, other) - recorded.at(usd, best))


def _seen(gone: _Distance, explores: Flags, model: NDArray[np.object_]) -> Mapping[str, tuple[float, float]]:
    """The furthest that exploration went, by virtual model: at least not at all."""
    known = explores & np.isfinite(gone.loss) & np.isfinite(gone.extra_usd)
    return {
        str(name): (
            float(np.max(gone.loss, where=known & (model == name), initial=0.0)),
            float(np.max(gone.extra_usd, where=known & (model == name), initial=0.0)),
        )
        for name in set(model[known].tolist())
    }


Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one set of numbers says of both choices; each is (n_requests,), NaN where it says nothing.

    Attributes:
        name: "recorded" or "new".
        p_before: p_correct of the recorded choice.
        p_after: p_correct of the new one.
        usd_before: Expected cost of the recorded choice.
        usd_after: Expected cost of the new one.
    """

    name: str
    p_before: Floats
    p_after: Floats
    usd_before: Floats
    usd_after: Floats


@dataclass(frozen=True)
class Choices:
    """Who got each request, and who would.

    Attributes:
        requests: As recorded.
        names: Every candidate's name.
        before: (n_requests,), indices of `names`.
        after: (n_requests,), likewise; -1 when nobody could take it.
        same: (n_requests,), whether it is the same candidate, standing for the same LLM.
        reachable: (n_requests,), whether exploration could have made the new choice.
        numbers: The recorded ones, then the new ones where there are any.
        drawn: Resamples of the requests.
    """

    requests: Sequence[RecordedRequest]
    names: tuple[str, ...]
    before: Indices
    after: Indices
    same: Flags
    reachable: Flags
    numbers: tuple[Numbers, ...]
    drawn: Resampling

    def yardsticks(self) -> tuple[Yardstick, ...]:
        """Means before and after, by every set of numbers."""
        return tuple(
            Yardstick(
                one.name, self._compared(one.p_before, one.p_after), self._compared(one.usd_before, one.usd_after)
            )
            for one in self.numbers
        )

    def mix(self) -> tuple[MixRow, ...]:
        """Requests per candidate, most after the change first."""
        # Shifted by one, so that nobody, -1, is counted, too.
        before, after = (mix_of(chosen + 1, len(self.names) + 1).astype(int) for chosen in (self.before, self.after))
        rows = [
            MixRow(self._name(i - 1), int(before[i]), int(after[i])) for i in np.flatnonzero(before + after).tolist()
        ]
        return tuple(sorted(rows, key=lambda row: (-row.after, -row.before)))

    def groups(self, key: Callable[[RecordedRequest], str | None]) -> tuple[Group, ...]:
        """What changes for each value of a key, most requests first."""
        keys = [key(request) for request in self.requests]
        return tuple(self._group(name, np.array([k == name for k in keys])) for name, _ in Counter(keys).most_common())

    def flips(self, most: int) -> tuple[Flip, ...]:
        """The requests another candidate would get, largest change first."""
        last = self.numbers[-1]
        p, usd = last.p_after - last.p_before, last.usd_after - last.usd_before
        largest_first = np.lexsort((-np.nan_to_num(np.abs(usd)), -np.nan_to_num(np.abs(p)), self.same))
        n_flips = int((~self.same).sum())
        return tuple(self._flip(i, p[i], usd[i]) for i in largest_first[: min(most, n_flips)].tolist())

    def logged(self) -> Logged:
        """What happened, for estimates from feedback; of an answer by a fallback nothing is known."""
        last, recorded = self.numbers[-1], self.numbers[0]
        other_llm = ~self.same & (self.before == self.after)  # the name stands for another LLM now
        return Logged(
            chosen=self.before,
            wanted=np.where(other_llm, len(self.names), self.after),
            propensity=np.array([request.propensity for request in self.requests]),
            reachable=self.reachable & ~other_llm,
            score=np.array([own_score(request) for request in self.requests]),
            p_chosen=np.where(np.isnan(last.p_before), recorded.p_before, last.p_before),
            p_wanted=last.p_after,
        )

    def pairs(self) -> Pairs:
        """Answers of the new choices that judged evaluation got beside the recorded ones."""
        names = [self._name(i) for i in self.after.tolist()]
        other_llm = ~self.same & (self.before == self.after)
        wanted = [None if other else name for name, other in zip(names, other_llm.tolist(), strict=True)]
        return pairs_with(self.requests, wanted)

    def _compared(self, before: Floats, after: Floats) -> Compared:
        known = np.isfinite(before) & np.isfinite(after)
        if not known.any():
            return Compared(np.nan, np.nan, Estimate(np.nan, np.nan, np.nan, 0), 0)
        change = self.drawn.ratio(np.where(known, after - before, 0.0), known.astype(np.float64))
        return Compared(float(before[known].mean()), float(after[known].mean()), change, int(known.sum()))

    def _group(self, name: str | None, rows: Flags) -> Group:
        last = self.numbers[-1]

        def change(before: Floats, after: Floats) -> Estimate:
            return self._compared(np.where(rows, before, np.nan), after).change

        p, usd = change(last.p_before, last.p_after), change(last.usd_before, last.usd_after)
        return Group(name, int(rows.sum()), int((rows & ~self.same).sum()), p, usd)

    def _flip(self, i: int, p_change: float, usd_change: float) -> Flip:
        request = self.requests[i]
        return Flip(
            at=request.at,
            request_id=request.request_id,
            virtual_model=request.virtual_model,
            category=request.category,
            before=request.chosen,
            after=self._name(int(self.after[i])),
            p_correct_change=_known(p_change),
            cost_usd_change=_known(usd_change),
            score=request.score,
            explored=request.propensity < 1,
        )

    def _name(self, index: int) -> str | None:
        return self.names[index] if index >= 0 else None


def make_choices(weighed: Sequence[Weighed], *, new_numbers: bool, seed: int = 0) -> Choices:
    """Decides every request again.

    Args:
        weighed: The requests, at least one.
        new_numbers: Whether their candidates have other numbers than the recorded ones.
        seed: Decides the resamples.

    Returns:
        Both sets of choices.
    """
    requests = [one.request for one in weighed]
    weights = [request.objective.cost_weight for request in requests]
    recorded = CandidateBatch.from_records((r.candidates, w) for r, w in zip(requests, weights, strict=True))
    new = recorded
    if new_numbers:
        new = CandidateBatch.from_records((one.candidates, w) for one, w in zip(weighed, weights, strict=True))
        new = replace(new, waiting=new.waiting * np.array([one.slower for one in weighed])[:, None])
    chosen = choose(new, Objectives.of(one.objective for one in weighed))
    after = [new.names[i] if i >= 0 else None for i in chosen.tolist()]
    names = tuple(sorted({*(r.chosen for r in requests), *(name for name in after if name is not None)}))
    column = {name: i for i, name in enumerate(names)}
    numbers = [_numbers("recorded", [r.candidate(r.chosen) for r in requests], recorded, after)]
    if new_numbers:
        numbers.append(_numbers("new", [one.before for one in weighed], new, after))
    return Choices(
        requests=requests,
        names=names,
        before=np.array([column[r.chosen] for r in requests], dtype=np.intp),
        after=np.array([-1 if name is None else column[name] for name in after], dtype=np.intp),
        same=np.array([one.stays(name) for one, name in zip(weighed, after, strict=True)], dtype=bool),
        reachable=reachable(requests, recorded, after),
        numbers=tuple(numbers),
        drawn=Resampling(len(weighed), seed),
    )


def _numbers(
    name: str, before: Sequence[CandidateRecord | None], batch: CandidateBatch, after: Sequence[str | None]
) -> Numbers:
    column = {candidate: i for i, candidate in enumerate(batch.names)}
    chosen = np.array([-1 if one is None else column.get(one, -1) for one in after], dtype=np.intp)
    return Numbers(
        name=name,
        p_before=floats([one.p_correct if one else None for one in before]),
        p_after=batch.at(batch.p_correct, chosen),
        usd_before=floats([one.cost_usd if one else None for one in before]),
        usd_after=batch.at(batch.cost_usd, chosen),
    )


def own_score(request: RecordedRequest) -> float:
    """Verdict on the answer of the LLM that was chosen; NaN without one, or where another answered."""
    return request.score if request.score is not None and request.served == request.chosen else np.nan


@dataclass(slots=True)
class _Drawn:
    """What judged evaluation has drawn of one virtual model: requests like these could have been drawn."""

    times: list[datetime] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)
    call_types: set[str] = field(default_factory=set)

    def span(self) -> tuple[datetime, datetime]:
        """From when to when it was on: from the first to the last, and the usual distance of two beyond."""
        first, last = min(self.times), max(self.times)
        gap = (last - first) / max(len(self.times) - 1, 1)
        return first - gap, last + gap

    def is_like(self, request: RecordedRequest, name: str) -> bool:
        """Whether a request is of a kind that was drawn, and an LLM one that was asked and could have been here."""
        one = request.candidate(name)
        kind = self.needs.issuperset(request.needs) and request.call_type in self.call_types
        return kind and name in self.names and one is not None and one.excluded is None


def pairs_with(requests: Sequence[RecordedRequest], wanted: Sequence[str | None]) -> Pairs:
    """The pairs of each request with the candidate that is wanted.

    A pair could have been drawn while the virtual model was judged, from the first pair to the last and the usual
    distance of two pairs beyond, of a request whose endpoint and needs some pair has.

    Args:
        requests: As recorded.
        wanted: Names; None for none.
    """
    drawn: dict[str, _Drawn] = {}
    for request in requests:
        if request.beside:
            of_model = drawn.setdefault(request.virtual_model, _Drawn())
            of_model.times.append(request.at)
            of_model.names.update(one.name for one in request.beside)
            of_model.needs.update(request.needs)
            of_model.call_types.add(request.call_type)
    spans = {name: one.span() for name, one in drawn.items()}

    def possible(request: RecordedRequest, name: str | None) -> bool:
        if name is None or request.virtual_model not in drawn:
            return False
        since, until = spans[request.virtual_model]
        return since <= request.at <= until and drawn[request.virtual_model].is_like(request, name)

    found = [
        next((one for one in request.beside if one.name == name and request.served == request.chosen), None)
        for request, name in zip(requests, wanted, strict=True)
    ]
    return Pairs(
        score_chosen=floats([one.score_served if one else None for one in found]),
        score_wanted=floats([one.score if one else None for one in found]),
        odds=floats([one.odds if one else None for one in found]),
        possible=np.array([possible(one, name) for one, name in zip(requests, wanted, strict=True)], dtype=bool),
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
