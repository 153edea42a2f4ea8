"""What requests are about, in plain words: the topic of the training category that a prompt lies nearest to.

The categories are those of many data sets, each with words of its own; a topic unites those that mean the same. It is
read off the category's name, so that records of older weights have topics too. What no pattern knows is "other".
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

from embedllm_router.records.reader.source import Filters, RecordSource

__all__ = ["OTHER", "TopicShare", "by_topic", "topic_of"]

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
