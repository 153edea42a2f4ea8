"""What routing saved against the baseline, by bills as far as they are known.

What was spent is the bill where it is known, else the forecast. What the baseline would have cost is a forecast, since
it was not asked: beside a bill it is multiplied by what bills were of forecasts, so that both sides are on one footing,
and where the baseline itself answered, its own bill counts on both sides. Requests that failed cost nothing either way
and are left out.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, estimate, resamples
from embedllm_router.analysis.plan.figures import MIN_BILLED
from embedllm_router.analysis.span import RecordQuery
from embedllm_router.records.reader.source import N_GROUPS, RecordSource, group

__all__ = ["Saved", "saved"]

_DRAWS: Final = 1000
_SQL: Final = """
SELECT {bin} AS bin, baseline, served = baseline AS own, billed_cost_usd IS NOT NULL AS billed, count(*) AS n,
  sum(COALESCE(billed_cost_usd, expected_cost_usd)) AS spent_usd, sum(baseline_cost_usd) AS baseline_usd,
  count(CASE WHEN served = chosen AND billed_cost_usd IS NOT NULL THEN 1 END) AS n_foretold,
  sum(CASE WHEN served = chosen THEN billed_cost_usd END) AS billed_usd,
  sum(CASE WHEN served = chosen AND billed_cost_usd IS NOT NULL THEN expected_cost_usd END) AS foretold_usd
FROM requests WHERE {where} AND status <> 'failure' AND expected_cost_usd IS NOT NULL
GROUP BY 1, 2, 3, 4
"""

Floats = NDArray[np.float64]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Saved:
    """What was saved over the requests that a baseline could have taken. Money is USD.

    Attributes:
        baselines: Their names, most requests first; empty without any, and then every figure is 0 or None.
        n: Requests that did not fail and that a baseline could have taken.
        n_billed: Of those, the ones whose bill is known; the rest is counted by forecast.
        n_without: Requests that did not fail and have no baseline.
        spent_usd: What they cost.
        baseline_usd: What the baseline would have cost.
        usd: What was saved; below 0 where routing cost more.
        share: The same as a share of what the baseline would have cost; None where that is 0.
        ratio: What bills were of forecasts; None where too few are known to tell.
        ratio_of: Whose bills say so: "baseline" or "all" LLMs'; None likewise.
    """

    baselines: tuple[str, ...]
    n: int
    n_billed: int
    n_without: int
    spent_usd: float
    baseline_usd: float
    usd: Estimate | None
    share: Estimate | None
    ratio: float | None
    ratio_of: Literal["baseline", "all"] | None


def saved(source: RecordSource, query: RecordQuery, *, seed: int = 0) -> Saved:
    """Compares what was spent with what the baseline would have cost.

    Args:
        source: The records.
        query: Which of them.
        seed: Of the random groups that are resampled.

    Returns:
        The comparison, with 95 % intervals.

    Raises:
        DataError: The records cannot be read.
    """
    where, given = query.filters().where()
    rows = source.rows(_SQL.format(bin=group(seed), where=where), given)
    mine = [row for row in rows if row["baseline"] is not None and row["baseline_usd"] is not None]
    n_by_name: defaultdict[str, int] = defaultdict(int)
    for row in mine:
        n_by_name[row["baseline"]] += row["n"]
    without = sum(row["n"] for row in rows) - sum(n_by_name.values())
    names = sorted(n_by_name, key=lambda name: (-n_by_name[name], name))
    if not names:
        return Saved((), 0, 0, without, 0.0, 0.0, None, None, None, None)
    drawn = _Drawn(np.vstack([np.ones(N_GROUPS), resamples(N_GROUPS, seeds=(seed,), draws=_DRAWS)]))
    ratios = {name: _ratio_of(drawn, rows, name) for name in names}
    spent = drawn.total(mine, "spent_usd")
    other = np.add.reduce([_would_have_cost(drawn, mine, name, ratios[name].values) for name in names])
    n, first = sum(n_by_name.values()), ratios[names[0]]
    share = np.divide(other - spent, other, out=np.full(len(other), np.nan), where=other > 0)
    return Saved(
        baselines=tuple(names),
        n=n,
        n_billed=sum(row["n"] for row in mine if row["billed"]),
        n_without=without,
        spent_usd=float(spent[0]),
        baseline_usd=float(other[0]),
        usd=_estimate(other - spent, n),
        share=_estimate(share, n) if other[0] > 0 else None,
        ratio=float(first.values[0]) if first.of else None,
        ratio_of=first.of,
    )


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Sums over all requests, and over each resample of their random groups.

    Attributes:
        counts: How often each group counts, (1 + draws, N_GROUPS); the first row counts each once.
    """

    counts: Floats

    def total(self, rows: Sequence[Row], name: str) -> Floats:
        """The sum of a column, (1 + draws,)."""
        bins = np.array([row["bin"] for row in rows], dtype=np.intp)
        values = np.array([row[name] or 0.0 for row in rows], dtype=np.float64)
        summed: Floats = self.counts @ np.bincount(bins, weights=values, minlength=N_GROUPS)
        return summed


@dataclass(frozen=True, slots=True)
class _Ratio:
    values: Floats
    of: Literal["baseline", "all"] | None


def _ratio_of(drawn: _Drawn, rows: Sequence[Row], baseline: str) -> _Ratio:
    """Bills over forecasts of the baseline's own answers, where there are enough; else of everybody's; else 1."""
    own = [row for row in rows if row["baseline"] == baseline and row["own"] and row["billed"]]
    if sum(row["n"] for row in own) >= MIN_BILLED:
        return _Ratio(_quotient(drawn.total(own, "spent_usd"), drawn.total(own, "baseline_usd")), "baseline")
    if sum(row["n_foretold"] for row in rows) >= MIN_BILLED:
        return _Ratio(_quotient(drawn.total(rows, "billed_usd"), drawn.total(rows, "foretold_usd")), "all")
    return _Ratio(np.ones(len(drawn.counts)), None)


def _quotient(above: Floats, below: Floats) -> Floats:
    found: Floats = np.divide(above, below, out=np.ones(len(above)), where=below > 0)
    return found


def _would_have_cost(drawn: _Drawn, rows: Sequence[Row], baseline: str, ratio: Floats) -> Floats:
    theirs = [row for row in rows if row["baseline"] == baseline]
    own = [row for row in theirs if row["billed"] and row["own"]]
    billed = [row for row in theirs if row["billed"] and not row["own"]]
    rest = [row for row in theirs if not row["billed"]]
    found: Floats = (
        drawn.total(own, "spent_usd") + ratio * drawn.total(billed, "baseline_usd") + drawn.total(rest, "baseline_usd")
    )
    return found


def _estimate(drawn: Floats, n: int) -> Estimate:
    return estimate(float(drawn[0]), drawn[1:], n)
