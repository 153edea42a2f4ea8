"""Predicted probabilities beside what was said of the answers, for the LLM that answered.

Feedback is matched by request id, else by the id inside the response body. Of several verdicts by one source and key
on one request the newest counts; of several sources their mean. Whoever gives feedback is rarely a random part of the
users: the figures hold for the requests with feedback.

Whether predictions hold: what was predicted for the answers that somebody judged, against what was said of them.

Those who judge are no random sample of those who ask. It knows nothing of HTTP.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, estimate, resamples
from embedllm_router.analysis.span import Asked
from embedllm_router.artifact.weights import Artifact
from embedllm_router.records.reader.source import N_GROUPS, Filters, RecordSource, group

__all__ = ["Bin", "Calibration", "Judged", "OwnTest", "calibration", "wilson"]

Floats = NDArray[np.float64]

N_JUDGED: Final = 100_000
"""Verdicts that are read, about; fewer are read all."""

_BINS: Final = 10
_DRAWS: Final = 1000
_SUMS: Final = ("n", "p", "score", "squared")


@dataclass(frozen=True, slots=True)
class Bin:
    """Requests with nearly the same predicted probability.

    Attributes:
        low: Lower end of the predictions.
        high: Upper end.
        n: Requests.
        p_correct: Mean prediction.
        score: Mean of what was said, with its Wilson interval.
    """

    low: float
    high: float
    n: int
    p_correct: float
    score: Estimate


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far predictions and verdicts agree.

    Attributes:
        n: Requests with feedback and a prediction, of those whose feedback was read.
        is_whole: Whether all feedback was read; of much of it, a random part is.
        n_by_source: Source → verdicts that count.
        p_correct: Mean prediction.
        score: Mean of what was said.
        brier: Mean of (p_correct - score)² (Brier, 1950).
        ece: Mean gap between prediction and verdict over ten bins of equal width, weighted by size (Naeini et al.,
            2015). Chance alone makes it positive, the more the fewer requests there are, in the interval as well.
        bins: By rising prediction; empty ones are left out.
    """

    n: int
    is_whole: bool
    n_by_source: Mapping[str, int]
    p_correct: float
    score: Estimate
    brier: Estimate
    ece: Estimate
    bins: tuple[Bin, ...]


def calibration(source: RecordSource, filters: Filters, seed: int) -> Calibration | None:
    """Compares predictions with feedback; None when no request meant has any.

    Args:
        source: The records.
        filters: Which requests are meant.
        seed: Of the random groups that are resampled.
    """
    n_given = source.rows("SELECT count(*) AS n FROM feedback")[0]["n"]
    rows = source.rows(*_sql(filters, seed, N_JUDGED / max(n_given, 1)))
    binned = [row for row in rows if row["bin"] is not None]
    if not binned:
        return None
    sums = _sums(binned)
    total = {name: float(values.sum()) for name, values in sums.items()}
    counts = resamples(N_GROUPS, seeds=(seed,), draws=_DRAWS).astype(np.float64)
    drawn = {name: counts @ values for name, values in sums.items()}
    n = int(total["n"])
    return Calibration(
        n=n,
        is_whole=n_given <= N_JUDGED,
        n_by_source={row["source"]: row["n"] for row in rows if row["bin"] is None},
        p_correct=total["p"] / n,
        score=_ratio(total["score"] / n, drawn["score"].sum(axis=1), drawn["n"].sum(axis=1), n),
        brier=_ratio(total["squared"] / n, drawn["squared"].sum(axis=1), drawn["n"].sum(axis=1), n),
        ece=_ratio(_gaps(sums).sum() / n, np.abs(drawn["score"] - drawn["p"]).sum(axis=1), drawn["n"].sum(axis=1), n),
        bins=_bins(sums),
    )


def _sums(rows: Sequence[Mapping[str, Any]]) -> dict[str, Floats]:
    """Name of `_SUMS` → sums by random group and bin, (N_GROUPS, _BINS)."""
    found = {name: np.zeros((N_GROUPS, _BINS)) for name in _SUMS}
    for row in rows:
        for name in _SUMS:
            found[name][row["bucket"], row["bin"]] += row[name]
    return found


def _gaps(sums: Mapping[str, Floats]) -> Floats:
    """|sum of verdicts - sum of predictions| of each bin, (_BINS,)."""
    gaps: Floats = np.abs(sums["score"].sum(axis=0) - sums["p"].sum(axis=0))
    return gaps


def _bins(sums: Mapping[str, Floats]) -> tuple[Bin, ...]:
    n = sums["n"].sum(axis=0)
    p, score = sums["p"].sum(axis=0), sums["score"].sum(axis=0)
    return tuple(
        Bin(
            low=i / _BINS,
            high=(i + 1) / _BINS,
            n=int(n[i]),
            p_correct=float(p[i] / n[i]),
            score=wilson(float(score[i] / n[i]), int(n[i])),
        )
        for i in range(_BINS)
        if n[i]
    )


def wilson(mean: float, n: int) -> Estimate:
    """A mean of n values in [0, 1] with its score interval (Wilson, 1927), which holds for few of them, too.

    It is exact in form for values of 0 and 1; values between vary less, so for them it is wider than it need be.
    """
    z2 = NormalDist().inv_cdf(0.975) ** 2
    centre = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 / n * (mean * (1 - mean) + z2 / (4 * n))) / (1 + z2 / n)
    return Estimate(mean, max(centre - half, 0.0), min(centre + half, 1.0), n)


def _ratio(value: float, above: Floats, below: Floats, n: int) -> Estimate:
    samples = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return estimate(float(value), samples, n)


def _sql(filters: Filters, seed: int, share: float) -> tuple[str, dict[str, object]]:
    """Rows of sums by bin and group, and after them one row for each source, whose bin is NULL.

    Conditions but time are looked at after the join: feedback that no request has by its id is looked for by the id
    of its response, which takes another pass, and most often there is none.
    """
    time, parameters = Filters(since=filters.since, until=filters.until).where()
    other, more = replace(filters, since=None, until=None).where()
    later = time if filters.until is None else Filters(since=filters.since).where()[0]
    drawn = "TRUE" if share >= 1 else f"draw_of(request_id) < {share}"
    requests = (
        f'SELECT request_id, response_id, served_p_correct AS p, "at", ({other}) AS is_meant '  # noqa: S608 - as below
        f"FROM requests WHERE {time}"
    )
    sql = f"""
    WITH given AS MATERIALIZED (
      SELECT request_id AS given_for, source, key_alias, score, "at" AS given_at
      FROM feedback WHERE score BETWEEN 0 AND 1 AND {later} AND {drawn}
    ), by_request AS MATERIALIZED (
      SELECT given.*, r.request_id, r.p, r."at", r.is_meant FROM given JOIN ({requests}) r ON given_for = r.request_id
    ), by_response AS (
      SELECT g.*, r.request_id, r.p, r."at", r.is_meant
      FROM (SELECT * FROM given WHERE given_for NOT IN (SELECT given_for FROM by_request)) g
      JOIN ({requests}) r ON given_for = r.response_id
    ), newest AS (
      SELECT *, row_number() OVER (PARTITION BY request_id, source, key_alias ORDER BY given_at DESC) AS place
      FROM (SELECT * FROM by_request UNION ALL SELECT * FROM by_response) either WHERE is_meant AND p IS NOT NULL
    ), counted AS MATERIALIZED (SELECT * FROM newest WHERE place = 1),
    judged AS (
      SELECT min(p) AS p, {group(seed)} AS bucket, avg(score) AS score FROM counted GROUP BY request_id, "at"
    )
    SELECT LEAST(CAST(floor(p * {_BINS}) AS INTEGER), {_BINS - 1}) AS bin, bucket, NULL AS source, count(*) AS n,
      sum(p) AS p, sum(score) AS score, sum((p - score) * (p - score)) AS squared
    FROM judged GROUP BY 1, 2
    UNION ALL SELECT NULL, NULL, source, count(*), NULL, NULL, NULL FROM counted GROUP BY source
    """  # noqa: S608 - our own columns and conditions
    return sql, parameters | more


_MOST_LLMS: Final = 100


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers that were judged, taken together.

    Attributes:
        of: Which ones: a model group, or the lower edge of a bin of p_correct.
        answers: How many.
        p_correct: Mean of what was predicted.
        score: Mean of what was said, in [0, 1]; an answer judged repeatedly counts once, with its mean.
        low: Lower end of the 95 % Wilson interval of that mean, as if every answer were right or wrong.
        high: Its upper end.
    """

    of: str | float
    answers: int
    p_correct: float
    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OwnTest:
    """How the weights did on the prompts that training set aside.

    Attributes:
        artifact: Id of the weights.
        created: When they were made.
        metrics: Over all data, by name.
        by_data: Data set → metric → value.
    """

    artifact: str
    created: str
    metrics: dict[str, float]
    by_data: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class JudgedCalibration:
    """All the calibration page shows.

    Attributes:
        answers: How many answers were judged.
        p_correct: Mean of what was predicted for them; None without any. So are the next three.
        score: Mean of what was said.
        brier: Mean squared difference of the two.
        ece: Mean distance between prediction and score over the bins, weighed by answers.
        bins: Ten equal bins of p_correct, those without answers left out.
        llms: By the group that answered, most judged first.
        sources: Who judged → how many answers.
        own_test: The live weights on their own test prompts; None without weights.
    """

    answers: int
    p_correct: float | None
    score: float | None
    brier: float | None
    ece: float | None
    bins: tuple[Judged, ...]
    llms: tuple[Judged, ...]
    sources: dict[str, int]
    own_test: OwnTest | None


_JUDGED: Final = f"""
WITH said AS (SELECT request_id AS id, avg(score) AS score FROM feedback GROUP BY request_id),
asked AS (
  SELECT request_id, response_id, served, served_p_correct AS p FROM requests
  WHERE {{where}} AND served IS NOT NULL AND served_p_correct IS NOT NULL
), judged AS (
  SELECT served, p, score FROM asked JOIN said ON said.id = asked.request_id
  UNION ALL
  SELECT served, p, score FROM asked JOIN said ON said.id = asked.response_id
  WHERE asked.response_id <> asked.request_id AND asked.request_id NOT IN (SELECT id FROM said)
), binned AS (
  SELECT *, CASE WHEN p >= 1 THEN {_BINS - 1} ELSE CAST(floor(p * {_BINS}) AS INTEGER) END AS bin FROM judged
)
SELECT GROUPING(bin, served) AS grouped, bin, served, count(*) AS answers, sum(p) AS p, sum(score) AS score,
  sum((p - score) * (p - score)) AS squares
FROM binned GROUP BY GROUPING SETS ((bin), (served))
"""  # noqa: S608 - our own SQL
_BY_BIN, _BY_SERVED = 0b01, 0b10
_SOURCES: Final = """
SELECT f.source, count(DISTINCT f.request_id) AS answers FROM feedback AS f
WHERE CAST($since AS TIMESTAMP) IS NULL OR f."at" >= CAST($since AS TIMESTAMP)
GROUP BY f.source ORDER BY answers DESC, f.source LIMIT 20
"""


def judged_calibration(source: RecordSource, asked: Asked, artifact: Artifact | None) -> JudgedCalibration:
    """Compares predictions with feedback.

    Args:
        source: The records.
        asked: Which requests.
        artifact: The live weights, whose own test figures are shown beside.

    Returns:
        The comparison; empty without feedback.

    Raises:
        DataError: The records cannot be read.
    """
    where, given = asked.filters().where()
    parts: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in source.rows(_JUDGED.format(where=where), given):
        parts[row["grouped"]].append(row)
    bins = sorted(parts[_BY_BIN], key=lambda row: row["bin"])
    llms = sorted(parts[_BY_SERVED], key=lambda row: (-row["answers"], row["served"]))[:_MOST_LLMS]
    n = sum(row["answers"] for row in bins)
    return JudgedCalibration(
        answers=n,
        p_correct=sum(row["p"] for row in bins) / n if n else None,
        score=sum(row["score"] for row in bins) / n if n else None,
        brier=sum(row["squares"] for row in bins) / n if n else None,
        ece=sum(abs(row["p"] - row["score"]) for row in bins) / n if n else None,
        bins=tuple(_judged(row["bin"] / _BINS, row) for row in bins),
        llms=tuple(_judged(row["served"], row) for row in llms),
        sources={row["source"]: row["answers"] for row in source.rows(_SOURCES, {"since": asked.filters().since})},
        own_test=None if artifact is None else _own_test(artifact),
    )


def _judged(of: str | float, row: Mapping[str, Any]) -> Judged:
    n, score = row["answers"], row["score"] / row["answers"]
    share = wilson(score, n)
    return Judged(of, n, row["p"] / n, score, share.low, share.high)


def _own_test(artifact: Artifact) -> OwnTest:
    metrics = artifact.manifest.metrics
    by_data: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for name, value in metrics.items():
        data, dot, metric = name.rpartition(".")
        if dot:
            by_data[data][metric] = value
    whole = {name: value for name, value in metrics.items() if "." not in name}
    return OwnTest(artifact.id, artifact.manifest.created, whole, dict(by_data))
