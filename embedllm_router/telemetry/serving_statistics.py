"""What is measured of each model group while serving: the length of its answers against the forecast, and its latency.

Lengths sharpen the next forecast of cost; latencies feed the objective's latency weight. Both are running averages of
recent answers, kept in this process only.
"""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from embedllm_router.routing.decision import Decision, Observed
from embedllm_router.routing.pool import CandidatePool

__all__ = ["ServingStatistics"]

_MEMORY = 200.0  # answers after which an old one weighs 1/e
_PRIOR = 20.0  # answers that the learned forecast is worth
_MAX_RATIO = 20.0  # an answer further off than this says more of its own limits than of the forecast


@dataclass(slots=True)
class _Group:
    n: float = 0.0
    answered: float = 0.0
    expected: float = 0.0
    timed: float = 0.0
    latency_s: float = 0.0


class ServingStatistics:
    """Running averages per model group; updated by one thread, read by any."""

    def __init__(self) -> None:
        self.groups: defaultdict[str, _Group] = defaultdict(_Group)
        """By name; empty until the first answer."""

    def answered(self, decision: Decision, served: str, output_tokens: int | None, latency_ms: float | None) -> None:
        """Takes an answer into account.

        Args:
            decision: What had been forecast.
            served: The group that answered.
            output_tokens: Tokens of the answer; None when unknown.
            latency_ms: Milliseconds to its last byte; None when unknown.
        """
        group, keep = self.groups[served], math.exp(-1.0 / _MEMORY)
        if latency_ms is not None:
            group.timed = group.timed * keep + 1.0
            group.latency_s += (latency_ms / 1e3 - group.latency_s) / group.timed
        expected = _forecast(decision, served)
        if not output_tokens or not expected or _cut(decision, expected, output_tokens):
            return
        ratio = min(max(output_tokens / expected, 1.0 / _MAX_RATIO), _MAX_RATIO)
        group.n = group.n * keep + 1.0
        group.answered = group.answered * keep + expected * ratio
        group.expected = group.expected * keep + expected

    def length_factor(self, name: str) -> float:
        """Tokens answered per token the weights predict, shrunk to 1 while few answers were seen."""
        group = self.groups.get(name)
        if group is None or group.expected <= 0:
            return 1.0
        mean = group.expected / group.n
        return (group.answered + _PRIOR * mean) / (group.expected + _PRIOR * mean)

    def latency_s(self, name: str) -> float:
        """Mean seconds to the last byte; NaN where nothing was seen."""
        group = self.groups.get(name)
        return group.latency_s if group is not None and group.timed > 0 else math.nan

    def of(self, pool: CandidatePool) -> Observed | None:
        """What was seen of a pool's candidates; None while nothing was."""
        if not self.groups:
            return None
        factors = np.array([self.length_factor(name) for name in pool.names], dtype=np.float64)
        return Observed(factors, np.array([self.latency_s(name) for name in pool.names], dtype=np.float64))


def _forecast(decision: Decision, name: str) -> float | None:
    """Tokens that the weights alone predicted, before what was seen sharpened it; None for an unknown LLM."""
    index = decision.pool.index.get(name)
    if index is None or math.isnan(decision.output_tokens[index]):
        return None
    observed = decision.request.conditions.observed
    return float(decision.output_tokens[index] / (observed.length_factor[index] if observed else 1.0))


def _cut(decision: Decision, expected: float, output_tokens: int) -> bool:
    """Whether the request's own limit cut the answer or the forecast, so that their ratio says nothing."""
    limit = decision.request.max_output_tokens
    return limit is not None and max(output_tokens, expected) >= limit
