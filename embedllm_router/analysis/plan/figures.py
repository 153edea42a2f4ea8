"""Choices on recorded traffic → accuracy, cost and mix, with intervals. One set of resamples for all, so changes pair.

Costs are expected ones times what billed requests cost against expectation, where enough were billed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, Resampling, estimate, mean_of
from embedllm_router.analysis.plan.goal import Goal, Setting
from embedllm_router.analysis.plan.result import Apart, HeldOut, Observed, Outcome, Share
from embedllm_router.analysis.plan.switches import select
from embedllm_router.analysis.plan.traffic import Traffic
from embedllm_router.analysis.replay.batch import choose, mix_of
from embedllm_router.artifact.guarantees import nearest_row
from embedllm_router.artifact.manifest import GuaranteeRow
from embedllm_router.routing.policy import Objective

__all__ = ["MIN_BILLED", "Figures"]

MIN_BILLED: Final = 30
"""With fewer billed requests, expected costs stand as they are."""

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Figures:
    """Works out what choices lead to.

    Attributes:
        traffic: The requests.
        drawn: Resamples of them.
        billed: Per request, billed cost; 0 where billed or expected cost is unknown.
        foretold: Per request, the expected cost of the same; 0 likewise.
        n_billed: How many of them are known.
    """

    traffic: Traffic
    drawn: Resampling
    billed: Floats
    foretold: Floats
    n_billed: int

    @classmethod
    def of(cls, traffic: Traffic, seed: int = 0) -> "Figures":
        """Prepares the figures of some traffic."""
        batch, requests = traffic.batch, traffic.requests
        billed = np.array([_paid(r.billed_cost_usd) if r.served == r.chosen else np.nan for r in requests])
        foretold = batch.at(batch.cost_usd, traffic.recorded)
        known = np.isfinite(billed) & (foretold > 0)
        return cls(
            traffic,
            Resampling(len(requests), seed),
            np.where(known, billed, 0.0),
            np.where(known, foretold, 0.0),
            int(known.sum()),
        )

    @property
    def billed_counts(self) -> bool:
        """Whether enough was billed to correct costs by."""
        return self.n_billed >= MIN_BILLED

    @property
    def billed_ratio(self) -> Estimate | None:
        """Billed over expected cost; None when nothing was billed."""
        return self.drawn.ratio(self.billed, self.foretold) if self.n_billed else None

    @property
    def usd_factor(self) -> float:
        """What a request's expected cost is multiplied by to be a month's bill, less the number of requests."""
        ratio = float(self.billed.sum() / self.foretold.sum()) if self.billed_counts else 1.0
        return self.traffic.rate.per_month * ratio

    def chosen_by(self, objective: Objective) -> Indices:
        """Who gets each request when the free ones are decided by an objective."""
        traffic = self.traffic
        chosen = traffic.fixed.copy()
        chosen[traffic.free] = choose(select(traffic.batch, traffic.free), objective)
        return chosen

    def means(self, chosen: Indices) -> tuple[float, float]:
        """Mean p_correct, and the cost of a month."""
        batch = self.traffic.batch
        p, cost = batch.at(batch.p_correct, chosen), batch.at(batch.cost_usd, chosen)
        return float(p.mean()), float(cost.mean()) * self.usd_factor

    def outcome(
        self,
        chosen: Indices,
        goal: Goal,
        setting: Setting | None = None,
        value: float | None = None,
        contract: Sequence[GuaranteeRow] = (),
    ) -> Outcome:
        """All figures of some choices.

        Args:
            chosen: (n_requests,), -1 where the choice is unknown: such requests do not count.
            goal: The goal of the plan.
            setting: What was set; None for recorded choices.
            value: To what.
            contract: Of the weights that predicted.
        """
        batch, known = self.traffic.batch, chosen >= 0
        p, cost = (np.nan_to_num(batch.at(column, chosen)) for column in (batch.p_correct, batch.cost_usd))
        ones = known.astype(np.float64)
        accuracy, spent = self.drawn.ratio(p, ones), self._monthly(cost, ones)
        change_p, change_usd, both = self._changes(p, cost, known)
        return Outcome(
            setting=setting,
            value=value,
            feasible=bool(goal.met(accuracy.value, spent.value)),
            accuracy=accuracy,
            usd_per_month=spent,
            usd_per_request=_times(spent, 1 / self.traffic.rate.per_month),
            accuracy_change=self.drawn.ratio(change_p, both),
            usd_per_month_change=self._monthly(change_usd, both),
            unreached=self._unreached(p, value) if setting == "min_p_correct" and value is not None else 0.0,
            mix=self._mix(chosen, cost),
            held_out=_held_out(accuracy, setting, value, contract),
        )

    def alone(self, column: int, otherwise: Indices, *, everyone: bool = False) -> tuple[Indices, float]:
        """Who gets each request when one LLM answers all free ones that it can take; and the share of those.

        Args:
            column: The LLM's column of the batch.
            otherwise: (n_requests,), who gets the others.
            everyone: Whether it answers those that are not free too.
        """
        traffic = self.traffic
        meant = np.ones_like(traffic.free) if everyone else traffic.free
        takes = meant & traffic.batch.usable[:, column]
        share = float(takes.sum() / meant.sum()) if meant.any() else 0.0
        return np.where(takes, column, otherwise), share

    def apart(self) -> Apart | None:
        """The requests that no setting changes; None without any."""
        mine = ~self.traffic.free
        if not mine.any():
            return None
        batch, fixed = self.traffic.batch, self.traffic.fixed
        p, cost = (np.nan_to_num(batch.at(column, fixed)) for column in (batch.p_correct, batch.cost_usd))
        accuracy = self.drawn.ratio(p, mine.astype(np.float64))
        return Apart(int(mine.sum()), accuracy, self._monthly(cost, np.ones(len(cost))))

    def observed(self) -> Observed | None:
        """Feedback on answers of the chosen LLM beside what was predicted of it."""
        batch = self.traffic.batch
        score = np.array([_paid(r.score) if r.served == r.chosen else np.nan for r in self.traffic.requests])
        p = batch.at(batch.p_correct, self.traffic.recorded)
        known = np.isfinite(score) & np.isfinite(p)
        if not known.any():
            return None
        difference = mean_of(np.where(known, score - p, np.nan))
        return Observed(int(known.sum()), float(p[known].mean()), float(score[known].mean()), difference)

    def _changes(self, p: Floats, cost: Floats, known: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
        batch, recorded = self.traffic.batch, self.traffic.recorded
        both = known & (recorded >= 0)
        before = (np.nan_to_num(batch.at(column, recorded)) for column in (batch.p_correct, batch.cost_usd))
        change_p, change_usd = (np.where(both, a - b, 0.0) for a, b in zip((p, cost), before, strict=True))
        return change_p, change_usd, both.astype(np.float64)

    def _monthly(self, cost: Floats, count: Floats) -> Estimate:
        """The mean cost, as billed, times the requests of a month."""
        if not count.any():
            return Estimate(np.nan, np.nan, np.nan, 0)
        samples = self.drawn.samples(cost, count) * self.traffic.rate.per_month
        if self.billed_counts:
            samples = samples * self.drawn.samples(self.billed, self.foretold)
        return estimate(float(cost.sum() / count.sum()) * self.usd_factor, samples, int(count.sum()))

    def _unreached(self, p: Floats, floor: float) -> float:
        free = self.traffic.free
        return float((p[free] < floor).mean()) if free.any() else 0.0

    def _mix(self, chosen: Indices, cost: Floats) -> tuple[Share, ...]:
        names = self.traffic.batch.names
        n, usd = mix_of(chosen, len(names)), mix_of(chosen, len(names), cost)
        total_n, total_usd = max(int(n.sum()), 1), float(usd.sum()) or 1.0
        rows = [Share(names[i], float(n[i] / total_n), float(usd[i] / total_usd)) for i in np.flatnonzero(n).tolist()]
        return tuple(sorted(rows, key=lambda row: (-row.requests, row.name)))


def _held_out(
    accuracy: Estimate, setting: Setting | None, value: float | None, contract: Sequence[GuaranteeRow]
) -> HeldOut | None:
    row = nearest_row(contract, setting, value) if setting is not None and value is not None else None
    if row is None:
        return None
    shifted = accuracy.value + row.correct - row.predicted
    below = math.hypot(accuracy.value - accuracy.low, row.correct - row.low)
    above = math.hypot(accuracy.high - accuracy.value, row.high - row.correct)
    low, middle, high = (min(max(one, 0.0), 1.0) for one in (shifted - below, shifted, shifted + above))
    return HeldOut(
        value=row.value,
        n=row.n_labels,
        predicted=row.predicted,
        correct=row.correct,
        low=row.low,
        high=row.high,
        accuracy=Estimate(middle, low, high, accuracy.n),
    )


def _times(one: Estimate, factor: float) -> Estimate:
    return Estimate(one.value * factor, one.low * factor, one.high * factor, one.n)


def _paid(value: float | None) -> float:
    return np.nan if value is None else value
