"""What judged evaluation cost and taught: how other LLMs did on users' requests, and how far its judges err."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from embedllm_router._stats import Estimate, wilson
from embedllm_router.records.reader.source import Filters, RecordSource

__all__ = ["Contender", "Judge", "Judged", "judged"]

_SAME: Final = 0.01
"""Scores that differ by no more count as equal."""

_SQL: Final = f"""
SELECT judging, judge, chosen, status, count(*) AS n, count(judge_score) AS n_judged,
  sum(judge_score) AS score, sum(CASE WHEN judge_score IS NOT NULL THEN judge_score_served END) AS score_served,
  count(CASE WHEN judge_score - judge_score_served > {_SAME} THEN 1 END) AS n_better,
  count(CASE WHEN judge_score_served - judge_score > {_SAME} THEN 1 END) AS n_worse,
  count(CASE WHEN judge_reversed THEN 1 END) AS n_reversed,
  sum(abs(judge_score - judge_score_served)) AS apart,
  sum(billed_cost_usd) AS answers_usd, sum(judging_usd) AS judges_usd
FROM answers WHERE judged_for IS NOT NULL AND {{where}} GROUP BY judging, judge, chosen, status
"""  # noqa: S608 - our own columns
_REQUESTS: Final = """
SELECT count(DISTINCT judged_for) AS n,
  count(DISTINCT CASE WHEN judge_score IS NOT NULL AND judging = 'contender' THEN judged_for END) AS n_judged
FROM answers WHERE judged_for IS NOT NULL AND {where}
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """One LLM beside the LLMs that answered users, on the same requests.

    Attributes:
        llm: Candidate of the virtual model.
        n: Answers of it that a judge scored.
        n_failed: Requests to it that brought no answer.
        score: Mean score of its answers, in [0, 1]; None without any.
        score_served: Mean score of the answers that users got to the same requests.
        n_better: How often its answer scored higher than the user's.
        n_worse: How often lower.
        usd: What its answers cost in USD.
    """

    llm: str
    n: int
    n_failed: int
    score: float | None
    score_served: float | None
    n_better: int
    n_worse: int
    usd: float


@dataclass(frozen=True, slots=True)
class Judge:
    """One judge, and how far it errs.

    Attributes:
        judge: Model group.
        n: Answers of other LLMs that it scored beside the user's.
        n_failed: Answers that it was shown and gave no score that could be read.
        n_doubles: Answers that it scored beside a copy of themselves.
        told_apart: Share of these whose copies got different scores, with its interval; None without any.
        apart: Mean difference of the scores of two copies; None without any.
        reversed: Share of its comparisons that came out the other way round when the order was swapped; None without
            any.
    """

    judge: str
    n: int
    n_failed: int
    n_doubles: int
    told_apart: Estimate | None
    apart: float | None
    reversed: Estimate | None


@dataclass(frozen=True, slots=True)
class Judged:
    """Judged evaluation in figures.

    Attributes:
        n_requests: Users' requests that it took up.
        n_verdicts: Verdicts that it gave, on users' answers and on other LLMs'.
        answers_usd: What other LLMs' answers cost in USD.
        judges_usd: What the judges cost in USD.
        contenders: By LLM, the one with the most scored answers first.
        judges: By judge, likewise.
    """

    n_requests: int
    n_verdicts: int
    answers_usd: float
    judges_usd: float
    contenders: tuple[Contender, ...]
    judges: tuple[Judge, ...]

    @property
    def usd(self) -> float:
        """What it cost altogether, in USD."""
        return self.answers_usd + self.judges_usd


Row = Mapping[str, Any]


def judged(source: RecordSource, filters: Filters) -> Judged | None:
    """Adds up what judged evaluation did on the requests that meet some filters.

    Args:
        source: The records.
        filters: Which requests are meant; `llm` and `status` are read as the other LLM's.

    Returns:
        The figures; None where nothing was judged.

    Raises:
        DataError: The records cannot be read.
    """
    where, parameters = filters.where()
    rows = source.rows(_SQL.format(where=where), parameters)
    if not rows:
        return None
    requests = source.rows(_REQUESTS.format(where=where), parameters)[0]
    of_contenders = [row for row in rows if row["judging"] == "contender"]
    names = {row["chosen"] for row in of_contenders}
    judges = {row["judge"] for row in rows} - {None}
    contenders = [_contender(name, [row for row in of_contenders if row["chosen"] == name]) for name in names]
    told = [_judge(name, [row for row in rows if row["judge"] == name]) for name in judges]
    return Judged(
        n_requests=requests["n"],
        n_verdicts=_sum(of_contenders, "n_judged") + requests["n_judged"],
        answers_usd=_total(rows, "answers_usd"),
        judges_usd=_total(rows, "judges_usd"),
        contenders=tuple(sorted(contenders, key=lambda one: (-one.n, one.llm))),
        judges=tuple(sorted(told, key=lambda one: (-one.n, one.judge))),
    )


def _contender(name: str, rows: Sequence[Row]) -> Contender:
    n = _sum(rows, "n_judged")
    return Contender(
        llm=name,
        n=n,
        n_failed=_sum([row for row in rows if row["status"] != "success"], "n"),
        score=_total(rows, "score") / n if n else None,
        score_served=_total(rows, "score_served") / n if n else None,
        n_better=_sum(rows, "n_better"),
        n_worse=_sum(rows, "n_worse"),
        usd=_total(rows, "answers_usd"),
    )


def _judge(name: str, rows: Sequence[Row]) -> Judge:
    doubles = [row for row in rows if row["judging"] == "double"]
    others = [row for row in rows if row["judging"] == "contender"]
    n, n_doubles = _sum(others, "n_judged"), _sum(doubles, "n_judged")
    apart = _sum(doubles, "n_better") + _sum(doubles, "n_worse")
    return Judge(
        judge=name,
        n=n,
        n_failed=_sum(rows, "n") - n - n_doubles,
        n_doubles=n_doubles,
        told_apart=wilson(apart / n_doubles, n_doubles) if n_doubles else None,
        apart=_total(doubles, "apart") / n_doubles if n_doubles else None,
        reversed=wilson(_sum(others, "n_reversed") / n, n) if n else None,
    )


def _sum(rows: Sequence[Row], name: str) -> int:
    return sum(int(row[name]) for row in rows)


def _total(rows: Sequence[Row], name: str) -> float:
    return float(sum(row[name] or 0.0 for row in rows))
