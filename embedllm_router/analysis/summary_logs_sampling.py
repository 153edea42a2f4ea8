"""A bounded look at single requests: a random sample of their figures, and random stretches of time with candidates.

Candidates are many and cost time to read. Whole stretches of a log lie together on disk, so a few hundred requests in
each of forty stretches are read in the time that as many scattered over the log would take a hundredfold.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.records.reader.source import RecordSource
from embedllm_router.records.reader.source_logs_draws import N_GROUPS, group, sampled
from embedllm_router.records.reader.source_logs_filters import Filters

__all__ = ["N_SAMPLED", "CandidateSums", "Sample", "read_candidates", "read_sample"]

Floats = NDArray[np.float64]

N_SAMPLED: Final = 50_000
"""Requests in a sample, about; a log that has no more is read whole."""
_STRETCHES: Final = 40

_FIGURES: Final = ("route_ms", "latency_ms")


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures of single requests, chosen at random.

    Attributes:
        at: Their times, rising, UTC without a zone.
        n_total: Of how many they were chosen.
        route_ms: (n,), milliseconds spent in the hook.
        latency_ms: (n,), milliseconds to the last byte; NaN when unknown.
        error: (n,), |billed - expected| / billed cost; NaN unless the chosen LLM answered and was billed.
    """

    at: tuple[datetime, ...]
    n_total: int
    route_ms: Floats
    latency_ms: Floats
    error: Floats

    def __len__(self) -> int:
        return len(self.at)

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out."""
        return self.n_total <= N_SAMPLED


@dataclass(frozen=True, slots=True)
class CandidateSums:
    """Sums over sampled requests, for each candidate over those where it could be chosen.

    Attributes:
        n_requests: Requests that were read and had a candidate chosen.
        unit: (n_rows,), what is resampled: the stretch of time, or the random group of a whole log.
        n_units: How many of them there are.
        name: (n_rows,), the candidate.
        n: (n_rows,), requests where it could be chosen.
        p_correct: (n_rows,), sum of its probabilities in these requests.
        cost_usd: (n_rows,), sum of its costs.
        chosen_p_correct: (n_rows,), sum of the probabilities of those that were chosen in these requests.
        chosen_cost_usd: (n_rows,), sum of their costs.
    """

    n_requests: int
    unit: NDArray[np.intp]
    n_units: int
    name: tuple[str, ...]
    n: Floats
    p_correct: Floats
    cost_usd: Floats
    chosen_p_correct: Floats
    chosen_cost_usd: Floats


def read_sample(source: RecordSource, filters: Filters, n_total: int, seed: int) -> Sample:
    """Reads figures of about `N_SAMPLED` requests of `n_total`."""
    where, parameters = filters.where()
    chance = sampled(seed, N_SAMPLED / max(n_total, 1))
    rows = source.rows(
        f"""
        SELECT "at", route_ms, latency_ms, CASE WHEN status = 'success' AND served = chosen AND billed_cost_usd > 0
          THEN abs(billed_cost_usd - expected_cost_usd) / billed_cost_usd END AS error
        FROM requests WHERE {chance} AND {where} ORDER BY "at"
        """,  # noqa: S608 - our own columns and conditions
        parameters,
    )
    figures = {name: _column(rows, name) for name in (*_FIGURES, "error")}
    return Sample(tuple(row["at"] for row in rows), n_total, **figures)


def read_candidates(source: RecordSource, filters: Filters, sample: Sample, seed: int) -> CandidateSums:
    """Adds up the candidates of sampled requests: of all, or of `_STRETCHES` stretches of time.

    Args:
        source: The records.
        filters: Which requests are meant.
        sample: A sample of the same requests; it says where in time they are dense.
        seed: Decides groups and stretches.
    """
    where, parameters = filters.where()
    unit, n_units = group(seed), N_GROUPS
    if not sample.is_whole:
        bounds = _stretches(sample, seed)
        unit, n_units = _which(len(bounds)), len(bounds)
        inside = " OR ".join(f'("at" >= $from{i} AND "at" < $to{i})' for i in range(n_units))
        where = f"{where} AND ({inside})"
        parameters |= {f"from{i}": start for i, (start, _) in enumerate(bounds)}
        parameters |= {f"to{i}": end for i, (_, end) in enumerate(bounds)}
    could = "p_correct + expected_cost_usd + candidate_p_correct + candidate_cost_usd IS NOT NULL"
    rows = source.rows(
        f"""
        SELECT {unit} AS unit, candidate_name AS name, count(*) AS n, sum(candidate_p_correct) AS p_correct,
          sum(candidate_cost_usd) AS cost_usd, sum(p_correct) AS chosen_p_correct,
          sum(expected_cost_usd) AS chosen_cost_usd, count(CASE WHEN candidate_name = chosen THEN 1 END) AS n_chosen
        FROM weighed WHERE candidate_excluded IS NULL AND {could} AND {where} GROUP BY unit, candidate_name
        """,  # noqa: S608 - our own columns and conditions
        parameters,
    )
    return CandidateSums(
        n_requests=sum(row["n_chosen"] for row in rows),
        unit=np.array([row["unit"] for row in rows], dtype=np.intp),
        n_units=n_units,
        name=tuple(row["name"] for row in rows),
        **{name: _column(rows, name) for name in ("n", "p_correct", "cost_usd", *_CHOSEN)},
    )


_CHOSEN: Final = ("chosen_p_correct", "chosen_cost_usd")


def _stretches(sample: Sample, seed: int) -> list[tuple[datetime, datetime]]:
    """Stretches spread over the sample, each with about the same number of requests; dense times get more of them."""
    n = len(sample)
    wanted = N_SAMPLED / _STRETCHES
    width = max(1, round(wanted * n / sample.n_total))
    step = n / _STRETCHES
    offset = np.random.default_rng(seed).random()
    first = [int((i + offset) * step) for i in range(_STRETCHES)]
    bounds = [(sample.at[i], sample.at[min(i + min(width, int(step)), n - 1)]) for i in first if i < n - 1]
    return [(start, end) for start, end in bounds if start < end]


def _which(n: int) -> str:
    """SQL of the number of the stretch a request lies in; they rise and do not overlap."""
    return "CASE " + " ".join(f'WHEN "at" < $to{i} THEN {i}' for i in range(n)) + " END"


def _column(rows: list[dict[str, Any]], name: str) -> Floats:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)
