"""What requests are about, in plain words: the topic of the training category that a prompt lies nearest to.

The categories are those of many data sets, each with words of its own; a topic unites those that mean the same. It is
read off the category's name, so that records of older weights have topics too. What no pattern knows is "other".
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from embedllm_router._stats import Estimate, wilson
from embedllm_router.records.reader.source import Filters, RecordSource
from embedllm_router.records.reader.verdicts import counting

__all__ = ["OTHER", "TopicLLM", "TopicLine", "TopicShare", "by_topic", "by_topic_and_llm", "topic_of"]

OTHER: Final = "other"

_PATTERNS: Final = (
    ("SQL", r"sql"),
    ("medicine", r"medic|clinical|anatomy|nutrition|virology|health|aging|sexuality|genetics|pubmed|medbullets"),
    ("law", r"law|jurisprudence|legal"),
    ("history and geography", r"history|geography|prehistory|world_religions|global_facts"),
    ("writing", r"writing|story|screenplay|summar|text_generation|text_completion|text_editing|fiction|commongen"),
    ("staying with a given text", r"hallucin|faithful|needle|reading"),
    ("code", r"cod(e|ing|eio)\b|codeio|crux|human_?eval|mbpp|abap|algotune|program|/bf$|computer[ _]science|machine"),
    ("arithmetic", r"arithmetic|gsm|mgsm|leg_counting|chain_sum"),
    ("mathematics", r"math|algebra|geometry|calculus|statistics|integration|polynomial|equation|probability"),
    ("puzzles and logic", r"logic|zebra|puzzle|game|algorithmic|cognition|induction|graph|^(re)?arc/|fallac"),
    ("economics and business", r"econo|business|account|management|marketing|public_relations|finance"),
    ("natural science", r"physics|chemistry|biology|astronomy|gpqa|science|openbook|arc_challenge"),
    ("engineering and security", r"engineering|computer_security|security_studies"),
    ("people and society", r"psycholog|sociolog|philosoph|moral|politic|foreign_policy|ethic"),
    ("chat", r"chat|arena|instruct|open_ended|mp3pintyo|conversation|quora"),
    ("general knowledge", r"trivia|natural_qa|commonsense|miscellaneous|facts|mmlu|knowledge"),
)
_COMPILED: Final = tuple((topic, re.compile(pattern)) for topic, pattern in _PATTERNS)


def topic_of(category: str | None) -> str:
    """The topic of a category; the first pattern that its name meets decides.

    Args:
        category: Data set and category, for example "mmlu_pro/law"; None for a prompt that is near to none.
    """
    if category is None:
        return OTHER
    dataset, _, name = category.lower().partition("/")
    for said in (name, dataset):  # the category says more than the set it is of
        for topic, pattern in _COMPILED:
            if pattern.search(said):
                return topic
    return OTHER


@dataclass(frozen=True, slots=True)
class TopicShare:
    """Requests on one topic.

    Attributes:
        topic: In plain words.
        n: How many.
        share: Of all requests, in [0, 1].
        p_correct: Mean predicted probability of those that were chosen, in [0, 1]; None when unknown.
        cost_usd: Sum of what they cost, by the bill where it is known, else by forecast.
        llm: The model group chosen most often.
        llm_share: How often, of the topic's requests, in [0, 1].
    """

    topic: str
    n: int
    share: float
    p_correct: float | None
    cost_usd: float
    llm: str
    llm_share: float


@dataclass(slots=True)
class _Sums:
    n: int = 0
    n_predicted: int = 0
    p_correct: float = 0.0
    cost_usd: float = 0.0
    chosen: Counter[str] = field(default_factory=Counter)


def by_topic(source: RecordSource, filters: Filters) -> tuple[TopicShare, ...]:
    """Requests by topic.

    Args:
        source: The records.
        filters: Which requests are meant.

    Returns:
        The topics that occur, most requests first; none without requests.
    """
    where, parameters = filters.where()
    rows = source.rows(
        f"""
        SELECT category, chosen, count(*) AS n, count(p_correct) AS n_predicted, sum(p_correct) AS p_correct,
          sum(COALESCE(billed_cost_usd, expected_cost_usd, 0)) AS cost_usd
        FROM requests WHERE {where} GROUP BY category, chosen
        """,  # noqa: S608 - our own
        parameters,
    )
    total, topics = sum(row["n"] for row in rows), defaultdict[str, _Sums](_Sums)
    for row in rows:
        sums = topics[topic_of(row["category"])]
        sums.n += row["n"]
        sums.n_predicted += row["n_predicted"]
        sums.p_correct += row["p_correct"] or 0.0
        sums.cost_usd += row["cost_usd"] or 0.0
        sums.chosen[row["chosen"]] += row["n"]
    found = (_share(topic, sums, total) for topic, sums in topics.items())
    return tuple(sorted(found, key=lambda one: (-one.n, one.topic)))


def _share(topic: str, sums: _Sums, total: int) -> TopicShare:
    llm, n_llm = min(sums.chosen.items(), key=lambda one: (-one[1], one[0]))
    p_correct = sums.p_correct / sums.n_predicted if sums.n_predicted else None
    return TopicShare(topic, sums.n, sums.n / total, p_correct, sums.cost_usd, llm, n_llm / sums.n)


@dataclass(frozen=True, slots=True)
class TopicLLM:
    """One LLM on one topic, or all of them together.

    Attributes:
        llm: The model group; None for all of them.
        n: Requests it was chosen for.
        share: Of the topic's requests, or of all requests for all LLMs together, in [0, 1].
        p_correct: Mean predicted probability of those, in [0, 1]; None when unknown.
        usd_per_request: What one of those cost, by the bill where it is known, else by forecast; None when unknown.
        judged: Answers that it gave and that have feedback, fallbacks to it included.
        score: Their mean verdict with its 95 % Wilson interval; None without any.
    """

    llm: str | None
    n: int
    share: float
    p_correct: float | None
    usd_per_request: float | None
    judged: int
    score: Estimate | None


@dataclass(frozen=True, slots=True)
class TopicLine:
    """One topic.

    Attributes:
        topic: In plain words.
        all: All its requests.
        llms: By LLM, the one chosen most often first.
    """

    topic: str
    all: TopicLLM
    llms: tuple[TopicLLM, ...]


@dataclass(slots=True)
class _Cell:
    n: int = 0
    n_predicted: int = 0
    p_correct: float = 0.0
    n_paid: int = 0
    usd: float = 0.0
    judged: int = 0
    score: float = 0.0

    def add(self, other: "_Cell") -> None:
        for name in _Cell.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def shown(self, llm: str | None, total: int) -> TopicLLM:
        return TopicLLM(
            llm=llm,
            n=self.n,
            share=self.n / total if total else 0.0,
            p_correct=self.p_correct / self.n_predicted if self.n_predicted else None,
            usd_per_request=self.usd / self.n_paid if self.n_paid else None,
            judged=self.judged,
            score=wilson(self.score / self.judged, self.judged) if self.judged else None,
        )


_MOST_LLMS: Final = 50
_CELLS: Final = """
SELECT category, chosen AS llm, count(*) AS n, count(p_correct) AS n_predicted, sum(p_correct) AS p_correct,
  count(COALESCE(billed_cost_usd, expected_cost_usd)) AS n_paid,
  sum(COALESCE(billed_cost_usd, expected_cost_usd)) AS usd, 0 AS judged, 0.0 AS score
FROM requests WHERE {where} GROUP BY category, chosen
UNION ALL
SELECT category, llm, 0, 0, 0.0, 0, 0.0, count(*), sum(score) FROM (
  SELECT min(category) AS category, min(served) AS llm, avg(score) AS score
  FROM ({verdicts}) AS v WHERE is_meant AND served IS NOT NULL GROUP BY request_id, "at"
) AS j GROUP BY category, llm
"""


def by_topic_and_llm(source: RecordSource, filters: Filters) -> tuple[TopicLine, ...]:
    """Requests by topic and LLM: how many, how right by prediction and by feedback, and at what cost.

    Args:
        source: The records.
        filters: Which requests are meant.

    Returns:
        The topics that occur, most requests first; none without requests.

    Raises:
        DataError: The records cannot be read.
    """
    where, parameters = filters.where()
    time, _ = Filters(since=filters.since, until=filters.until).where()
    other, _ = replace(filters, since=None, until=None).where()
    requests = (
        f'SELECT request_id, response_id, "at", category, served, ({other}) AS is_meant FROM requests WHERE {time}'  # noqa: S608 - our own
    )
    rows = source.rows(_CELLS.format(where=where, verdicts=counting(requests)), parameters)
    return _lines(rows)


def _lines(rows: Iterable[dict[str, Any]]) -> tuple[TopicLine, ...]:
    cells = defaultdict[str, defaultdict[str, _Cell]](lambda: defaultdict(_Cell))
    for row in rows:
        cells[topic_of(row["category"])][row["llm"]].add(_Cell(*(row[name] or 0 for name in _Cell.__slots__)))
    totals = {topic: _Cell() for topic in cells}
    for topic, by_llm in cells.items():
        for cell in by_llm.values():
            totals[topic].add(cell)
    n = sum(one.n for one in totals.values())
    found = (_line(topic, by_llm, totals[topic], n) for topic, by_llm in cells.items())
    return tuple(sorted(found, key=lambda one: (-one.all.n, one.topic)))


def _line(topic: str, by_llm: dict[str, _Cell], total: _Cell, n: int) -> TopicLine:
    ordered = sorted(by_llm.items(), key=lambda pair: (-pair[1].n, -pair[1].judged, pair[0]))[:_MOST_LLMS]
    return TopicLine(topic, total.shown(None, n), tuple(cell.shown(llm, total.n) for llm, cell in ordered))
