"""A log in figures. Four passes over as few columns as it takes; single requests are sampled, see sampling.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from embedllm_router.analysis.calibration import Calibration, calibration
from embedllm_router.analysis.summary_logs_forecast import Forecast, forecast
from embedllm_router.analysis.summary_logs_mix import Count, LlmShare, Outcomes, llm_shares, outcomes, reasons
from embedllm_router.analysis.summary_logs_sampling import read_candidates, read_sample
from embedllm_router.analysis.summary_logs_spend import Spend, spend
from embedllm_router.analysis.summary_logs_totals import read_totals
from embedllm_router.records.reader.file_source import FileSource
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.records.reader.source_logs_filters import Filters

__all__ = ["Percentiles", "Summary", "summarize"]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How long something took, in milliseconds; NaN without any.

    Attributes:
        n: Requests behind it.
        p50: Median.
        p95: 95th percentile.
        p99: 99th percentile.
    """

    n: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A log in figures.

    Attributes:
        where: Where the log lies, without credentials.
        filters: Conditions the requests meet, by name.
        n: Requests.
        first: Time of the first, UTC without a zone; None without any.
        last: Time of the last.
        llms: Every LLM's part; the one chosen most often first.
        outcomes: How requests ended.
        reasons: Reason → how often it decided.
        spend: What routing cost, beside other ways to choose.
        forecast: Predicted beside billed cost.
        calibration: Predicted p_correct beside feedback; None without feedback.
        route_ms: Time that routing added.
        latency_ms: From the call to its last byte, routing included.
        rejected_lines: Lines of record files that were no records, whatever the filters; each may have been one.
    """

    where: str
    filters: Mapping[str, object]
    n: int
    first: datetime | None
    last: datetime | None
    llms: tuple[LlmShare, ...]
    outcomes: Outcomes
    reasons: Mapping[str, Count]
    spend: Spend
    forecast: Forecast
    calibration: Calibration | None
    route_ms: Percentiles
    latency_ms: Percentiles
    rejected_lines: int


def summarize(source: RecordSource, filters: Filters | None = None, *, seed: int = 0) -> Summary:
    """Sums up the requests that meet some filters.

    Args:
        source: The records.
        filters: Which requests are meant; None means all.
        seed: Decides samples and intervals; the same records and seed give the same summary on every back
            end, but for rounding and for which verdicts are drawn of very many.

    Returns:
        The summary; orjson writes it as it is.

    Raises:
        DataError: The records cannot be read.
    """
    filters = filters or Filters()
    totals = read_totals(source, filters, seed)
    sample = read_sample(source, filters, totals.n, seed)
    candidates = read_candidates(source, filters, sample, seed)
    return Summary(
        where=source.where,
        filters=filters.given(),
        n=totals.n,
        first=totals.first,
        last=totals.last,
        llms=llm_shares(totals),
        outcomes=outcomes(totals),
        reasons=reasons(totals),
        spend=spend(totals, candidates, seed),
        forecast=forecast(totals, sample, seed),
        calibration=calibration(source, filters, seed),
        route_ms=_percentiles(sample.route_ms),
        latency_ms=_percentiles(sample.latency_ms),
        rejected_lines=source.rejected_lines() if isinstance(source, FileSource) else 0,
    )


def _percentiles(values: NDArray[np.float64]) -> Percentiles:
    known = values[np.isfinite(values)]
    if not known.size:
        return Percentiles(0, np.nan, np.nan, np.nan)
    return Percentiles(int(known.size), *(float(q) for q in np.quantile(known, [0.5, 0.95, 0.99])))
