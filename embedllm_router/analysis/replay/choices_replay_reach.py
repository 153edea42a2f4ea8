"""How far exploration went: which candidates it might have asked where it did not.

A record has the probability of every candidate. One from before there were such has that of the choice alone, and not
the caps that exploration kept: the furthest that exploration of the same virtual model was seen to go is within them,
so whoever is no further might have been asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.analysis.replay.batch import CandidateBatch, Objectives, choose
from embedllm_router.records.reader.recorded_replay_recorded import RecordedRequest

__all__ = ["reachable"]

_ROUNDING: Final = 1e-9
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Distance:
    """How far candidates are from the best one, by the recorded numbers; NaN where unknown."""

    loss: Floats
    extra_usd: Floats


def reachable(requests: Sequence[RecordedRequest], recorded: CandidateBatch, wanted: Sequence[str | None]) -> Flags:
    """Whether exploration might have asked the wanted candidate, (n_requests,).

    Args:
        requests: As recorded.
        recorded: Their candidates.
        wanted: Names; None for none.
    """
    column = {name: i for i, name in enumerate(recorded.names)}
    chosen = np.array([column.get(request.chosen, -1) for request in requests], dtype=np.intp)
    asked = np.array([-1 if name is None else column.get(name, -1) for name in wanted], dtype=np.intp)
    best = choose(recorded, Objectives.of(request.objective for request in requests))
    explores = np.array([request.propensity < 1 for request in requests], dtype=bool)
    model = np.array([request.virtual_model for request in requests], dtype=object)
    usable = (asked >= 0) & recorded.usable[np.arange(len(requests)), asked]
    caps = _seen(_distance(recorded, best, chosen), explores, model)
    there = _distance(recorded, best, asked)
    loss, extra = (np.array([caps.get(name, (-1.0, -1.0))[i] for name in model]) for i in (0, 1))
    within = (there.loss <= loss + _ROUNDING) & (there.extra_usd <= extra + _ROUNDING)
    guessed: Flags = usable & (within | (asked == best))
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
