"""Predicted cost beside billed cost, where both are known: the chosen LLM answered, and its answer was billed."""

from dataclasses import dataclass

import numpy as np

from embedllm_router._stats import Resampling
from embedllm_router.analysis.summary_logs_sampling import Sample
from embedllm_router.analysis.summary_logs_totals import Totals
from embedllm_router.stats_evaluation_bootstrap import Estimate

__all__ = ["Forecast", "LlmForecast", "forecast"]


@dataclass(frozen=True, slots=True)
class LlmForecast:
    """One LLM's forecasts.

    Attributes:
        llm: Its model group.
        n: Requests it answered and was billed for.
        expected_usd: Their predicted cost.
        billed_usd: Their billed cost.
        ratio: Billed over predicted; None when nothing was predicted to cost anything.
    """

    llm: str
    n: int
    expected_usd: float
    billed_usd: float
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """How good forecasts of cost were.

    Attributes:
        n: Requests with a predicted and a billed cost of the same LLM.
        expected_usd: Their predicted cost.
        billed_usd: Their billed cost.
        ratio: Billed over predicted; above 1 the forecasts were too low.
        median_error: Median of |billed - predicted| / billed; NaN without any.
        n_median: Requests behind that median.
        by_llm: Dearest first.
    """

    n: int
    expected_usd: float
    billed_usd: float
    ratio: Estimate
    median_error: float
    n_median: int
    by_llm: tuple[LlmForecast, ...]


def forecast(totals: Totals, sample: Sample, seed: int) -> Forecast:
    """Compares predicted with billed costs."""
    rows = totals.foretold
    billed, expected = totals.per_group("billed_usd", rows), totals.per_group("billed_expected_usd", rows)
    errors = sample.error[np.isfinite(sample.error)]
    n = int(totals.total("n_billed", rows))
    ratio = Resampling(len(billed), seed).ratio(billed, expected)
    return Forecast(
        n=n,
        expected_usd=float(expected.sum()),
        billed_usd=float(billed.sum()),
        ratio=Estimate(ratio.value, ratio.low, ratio.high, n),
        median_error=float(np.median(errors)) if errors.size else np.nan,
        n_median=int(errors.size),
        by_llm=_by_llm(totals),
    )


def _by_llm(totals: Totals) -> tuple[LlmForecast, ...]:
    names = ("n_billed", "billed_expected_usd", "billed_usd")
    n, expected, billed = (totals.per_value("chosen", name, totals.foretold) for name in names)
    found = [
        LlmForecast(
            llm, int(n[llm]), expected[llm], billed[llm], billed[llm] / expected[llm] if expected[llm] else None
        )
        for llm in n
        if n[llm]
    ]
    return tuple(sorted(found, key=lambda one: (-one.billed_usd, one.llm)))
