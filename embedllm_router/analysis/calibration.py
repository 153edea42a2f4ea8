"""Predicted probabilities beside the verdicts on the answers, for the LLM that answered.

Those who give feedback are rarely a random part of the users: the figures hold for the requests with feedback.

`calibration` is the summary's view, with intervals; `judged_calibration` is the dashboard's, by LLM and beside the
weights' own test. Both are made of the same sums.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, estimate, resamples, wilson
from embedllm_router.analysis.span import RecordQuery
from embedllm_router.artifact.weights import Artifact
from embedllm_router.records.reader.source import N_GROUPS, Filters, RecordSource, group
from embedllm_router.records.reader.verdicts import counting

__all__ = ["Bin", "Calibration", "Judged", "JudgedCalibration", "OwnTest", "calibration", "judged_calibration"]

Floats = NDArray[np.float64]
Row = Mapping[str, Any]

N_JUDGED: Final = 100_000
"""Verdicts that are read for a summary, about; fewer are read all."""

_BINS: Final = 10
_DRAWS: Final = 1000
_MOST_LLMS: Final = 100
_MOST_SOURCES: Final = 20


@dataclass(frozen=True, slots=True)
class Bin:
    """Requests with nearly the same predicted probability.

    Attributes:
        low: Lower end of the predictions.
        high: Upper end.
        n: Requests.
        p_correct: Mean prediction.
        score: Mean verdict, with its Wilson interval.
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
        score: Mean verdict; a request judged by several sources counts once, with their mean.
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


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers that were judged, taken together.

    Attributes:
        of: Which ones: a model group, or the lower edge of a bin of p_correct.
        answers: How many.
        p_correct: Mean prediction.
        score: Mean verdict, in [0, 1].
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
        measured: What they were measured on, a sentence.
    """

    artifact: str
    created: str
    metrics: dict[str, float]
    by_data: dict[str, dict[str, float]]
    measured: str


@dataclass(frozen=True, slots=True)
class JudgedCalibration:
    """All the calibration page shows.

    Attributes:
        answers: How many answers were judged.
        p_correct: Mean prediction for them; None without any. So are the next three.
        score: Mean verdict.
        brier: Mean squared difference of the two.
        ece: Mean distance between prediction and verdict over the bins, weighted by answers.
        bins: Ten equal bins of p_correct, those without answers left out.
        llms: By the group that answered, most judged first.
        sources: Source → verdicts that count, most first, at most 20.
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


def calibration(source: RecordSource, filters: Filters, seed: int) -> Calibration | None:
    """Compares predictions with feedback, with intervals; None when no request meant has any.

    Args:
        source: The records.
        filters: Which requests are meant.
        seed: Of the random groups that are resampled.
    """
    n_given = source.rows("SELECT count(*) AS n FROM feedback")[0]["n"]
    sums = _read(source, filters, seed, share=N_JUDGED / max(n_given, 1))
    return _with_intervals(sums, seed, is_whole=n_given <= N_JUDGED) if sums.n else None


def judged_calibration(source: RecordSource, query: RecordQuery, artifact: Artifact | None) -> JudgedCalibration:
    """Compares predictions with all feedback, by LLM too.

    Args:
        source: The records.
        query: Which requests.
        artifact: The live weights, whose own test figures are shown beside.

    Returns:
        The comparison; empty without feedback.

    Raises:
        DataError: The records cannot be read.
    """
    sums = _read(source, query.filters())
    mean: Mapping[str, float] = sums.means() if sums.n else {}
    per_bin = zip(*(sums.per_bin(name).tolist() for name in ("n", "p", "score")), strict=True)
    llms = sorted(sums.llms, key=lambda row: (-row["n"], row["name"]))[:_MOST_LLMS]
    sources = sorted(sums.n_by_source.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_SOURCES]
    return JudgedCalibration(
        answers=sums.n,
        p_correct=mean.get("p"),
        score=mean.get("score"),
        brier=mean.get("squared"),
        ece=sums.ece if sums.n else None,
        bins=tuple(_judged(i / _BINS, int(n), p, score) for i, (n, p, score) in enumerate(per_bin) if n),
        llms=tuple(_judged(row["name"], row["n"], row["p"], row["score"]) for row in llms),
        sources=dict(sources),
        own_test=None if artifact is None else _own_test(artifact),
    )


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over judged requests.

    Attributes:
        by_bin: "n", "p" (prediction), "score" and "squared" (difference) → sums, (N_GROUPS, _BINS).
        llms: One row per group that answered: its "name", and the same four.
        n_by_source: Source → verdicts that count.
    """

    by_bin: Mapping[str, Floats]
    llms: Sequence[Row]
    n_by_source: Mapping[str, int]

    @property
    def n(self) -> int:
        """Judged requests."""
        return int(self.by_bin["n"].sum())

    @property
    def ece(self) -> float:
        """Expected calibration error; needs a request."""
        return float(np.abs(self.per_bin("score") - self.per_bin("p")).sum() / self.n)

    def per_bin(self, name: str) -> Floats:
        """Sums over the random groups, (_BINS,)."""
        total: Floats = self.by_bin[name].sum(axis=0)
        return total

    def means(self) -> dict[str, float]:
        """Name → mean over all requests; needs one."""
        return {name: float(values.sum()) / self.n for name, values in self.by_bin.items()}


_SUMMED: Final = {"n": "count(*)", "p": "sum(p)", "score": "sum(score)", "squared": "sum((p - score) * (p - score))"}


def _read(source: RecordSource, filters: Filters, seed: int = 0, share: float = 1.0) -> _Sums:
    """Adds up predictions and verdicts of the requests meant, of a share of the feedback drawn at random."""
    parts: defaultdict[str, list[Row]] = defaultdict(list)
    for row in source.rows(*_sql(filters, seed, share)):
        parts[row["part"]].append(row)
    by_bin = {name: np.zeros((N_GROUPS, _BINS)) for name in _SUMMED}
    for cell in parts["bin"]:
        for name, sums in by_bin.items():
            sums[cell["bucket"], cell["bin"]] += cell[name]
    return _Sums(by_bin, parts["llm"], {row["name"]: row["n"] for row in parts["source"]})


def _sql(filters: Filters, seed: int, share: float) -> tuple[str, dict[str, object]]:
    """Rows of sums by bin and random group, by group that answered, and counts by source.

    Conditions but time are looked at after the join, so that feedback on a request that is not meant has its request
    and is not looked for among the response ids.
    """
    time, parameters = Filters(since=filters.since, until=filters.until).where()
    other, more = replace(filters, since=None, until=None).where()
    requests = (
        f'SELECT request_id, response_id, served, served_p_correct AS p, "at", ({other}) AS is_meant '  # noqa: S608 - as below
        f"FROM requests WHERE {time}"
    )
    drawn = "TRUE" if share >= 1 else f"draw_of(request_id) < {share}"
    sums = ", ".join(f"{sql} AS {name}" for name, sql in _SUMMED.items())
    sql = f"""
    WITH counted AS MATERIALIZED (
      SELECT * FROM ({counting(requests, drawn)}) AS v WHERE is_meant AND p IS NOT NULL AND served IS NOT NULL
    ), judged AS MATERIALIZED (
      SELECT min(p) AS p, min(served) AS served, {group(seed)} AS bucket, avg(score) AS score
      FROM counted GROUP BY request_id, "at"
    )
    SELECT 'bin' AS part, LEAST(CAST(floor(p * {_BINS}) AS INTEGER), {_BINS - 1}) AS bin, bucket, NULL AS name, {sums}
    FROM judged GROUP BY 2, 3
    UNION ALL SELECT 'llm', NULL, NULL, served, {sums} FROM judged GROUP BY served
    UNION ALL SELECT 'source', NULL, NULL, source, count(*), NULL, NULL, NULL FROM counted GROUP BY source
    """  # noqa: S608 - our own columns and conditions
    return sql, parameters | more


def _with_intervals(sums: _Sums, seed: int, *, is_whole: bool) -> Calibration:
    mean, counts = sums.means(), resamples(N_GROUPS, seeds=(seed,), draws=_DRAWS).astype(np.float64)
    drawn = {name: counts @ values for name, values in sums.by_bin.items()}
    below = drawn["n"].sum(axis=1)

    def ratio(value: float, above: Floats) -> Estimate:
        samples = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
        return estimate(value, samples, sums.n)

    return Calibration(
        n=sums.n,
        is_whole=is_whole,
        n_by_source=sums.n_by_source,
        p_correct=mean["p"],
        score=ratio(mean["score"], drawn["score"].sum(axis=1)),
        brier=ratio(mean["squared"], drawn["squared"].sum(axis=1)),
        ece=ratio(sums.ece, np.abs(drawn["score"] - drawn["p"]).sum(axis=1)),
        bins=_bins(sums),
    )


def _bins(sums: _Sums) -> tuple[Bin, ...]:
    n, p, score = (sums.per_bin(name) for name in ("n", "p", "score"))
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


def _judged(of: str | float, n: int, p: float, score: float) -> Judged:
    share = wilson(score / n, n)
    return Judged(of, n, p / n, score / n, share.low, share.high)


def _own_test(artifact: Artifact) -> OwnTest:
    metrics = artifact.manifest.metrics
    by_data: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for name, value in metrics.items():
        data, dot, metric = name.rpartition(".")
        if dot:
            by_data[data][metric] = value
    whole = {name: value for name, value in metrics.items() if "." not in name}
    return OwnTest(artifact.id, artifact.manifest.created, whole, dict(by_data), artifact.manifest.measured)
