"""Whether predictions hold: what was predicted for the answers that somebody judged, against what was said of them.

Those who judge are no random sample of those who ask. It knows nothing of HTTP.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from embedllm_router.analysis.calibration import wilson
from embedllm_router.analysis.span import Asked
from embedllm_router.artifact.weights import Artifact
from embedllm_router.records.reader.source import RecordSource

__all__ = ["Calibration", "Judged", "OwnTest", "calibration"]

_BINS: Final = 10
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
class Calibration:
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


def calibration(source: RecordSource, asked: Asked, artifact: Artifact | None) -> Calibration:
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
    return Calibration(
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
