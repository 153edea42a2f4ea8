"""What came of asking a pool, LLM by LLM."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from embedllm_router._stats import wilson
from embedllm_router.profiling.journal import CallKey, History
from embedllm_router.profiling.learning import Contestant
from embedllm_router.profiling.set_aside import SetAside

__all__ = ["JudgeResult", "LLMResult", "Result", "judge_result_of", "result_of", "unknown_because"]

_LEFT: Final = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMResult:
    """One LLM.

    Attributes:
        name: Model group.
        llm: Id of its LLM in the weights.
        n_answers: Prompts that it answered.
        n_graded: Of those, the ones with a grade.
        accuracy: Share of right answers among the graded ones; None without any. The next two are its 95 % interval.
        accuracy_low: Lower end.
        accuracy_high: Upper end.
        cost_usd: Its bills.
        unknown_usd: The most that its requests without a known bill can have cost.
        latency_p50_s: Median seconds of an answer; None without any.
        latency_p95_s: 95th percentile.
        input_tokens: Mean of a request; None when unknown.
        output_tokens: Mean of an answer; None when unknown.
        failures: Prompts without an answer by how the last request ended; "lost" were under way when a run died.
        p_before: p_correct that was expected on all prompts, on average.
        p_after: The same by the new weights; None where they do not know it.
        learned: "added", "updated", "length only" where its answers bear out what was known but for their length,
            "unchanged", or why it was left out.
        given_up: Why it was not asked to the end; None where it was.
    """

    name: str
    llm: str
    n_answers: int
    n_graded: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    cost_usd: float
    unknown_usd: float
    latency_p50_s: float | None
    latency_p95_s: float | None
    input_tokens: float | None
    output_tokens: float | None
    failures: Mapping[str, int]
    p_before: float
    p_after: float | None = None
    learned: str = ""
    given_up: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeResult:
    """One judge.

    Attributes:
        name: Model group, or name of the model for LiteLLM.
        n_verdicts: Verdicts that could be read.
        n_unreadable: Replies that were none: no JSON, or JSON that says no grade.
        n_ungraded: Answers that it should have graded and that have no grade.
        failures: Requests without a reply by how the last attempt ended; "lost" were under way when a run died.
        given_up: Why it was not asked to the end; None where it was.
    """

    name: str
    n_verdicts: int
    n_unreadable: int
    n_ungraded: int
    failures: Mapping[str, int]
    given_up: str | None

    @property
    def warning(self) -> str | None:
        """What is to be done about it; None where it graded what it was to grade, as far as it could be read."""
        if not self.n_ungraded or (self.given_up is None and self.n_verdicts):
            return None
        left = f"the judge {self.name} left {self.n_ungraded:,} answers without a grade"
        if self.given_up is not None:
            return f"{left}: it was given up ({self.given_up}). {_MEND_JUDGE}"
        if self.n_unreadable:
            return (
                f"{left}: none of its {self.n_unreadable:,} replies was the JSON object that it is asked for. Name "
                "another --judge; the same --out then has these answers judged without asking for them again."
            )
        if self.failures:
            return f"{left}: every request to it failed. {_MEND_JUDGE}"
        return f"{left}: their text was not kept when they were asked (--forget-answers). Name another --out."


_MEND_JUDGE: Final = (
    "Check its key and its endpoint or raise the budget, or name another --judge; the same --out then has these "
    "answers judged without asking for them again, unless --forget-answers was given."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of it.

    Attributes:
        parent: Id of the weights that it started from.
        artifact: Id of the new ones; None where none were written.
        out: Their folder; None likewise.
        journal: Where answers and bills are.
        llms: One by one.
        judges: Likewise.
        left_out: Why other model groups were not asked.
        spent_usd: All bills, judges' included.
        unknown_usd: The most that requests without a known bill can have cost.
        unknown_because: Requests without a known bill by how they ended: "timeout", "connection"; "lost" were under way
            when a run died; of others, such as "answered", neither LiteLLM nor the provider's token counts say it.
        judges_usd: What judges took of that.
        budget_usd: What it all was allowed to cost.
        set_aside: The prompts set aside for the verdict; None where none were, or the run was stopped.
        interrupted: Whether it was stopped before its end; the same command goes on.
        notes: What else there is to know.
    """

    parent: str
    artifact: str | None
    out: str | None
    journal: str
    llms: tuple[LLMResult, ...]
    judges: tuple[JudgeResult, ...]
    left_out: Mapping[str, str]
    spent_usd: float
    unknown_usd: float
    unknown_because: Mapping[str, int]
    judges_usd: float
    budget_usd: float
    set_aside: SetAside | None
    interrupted: bool
    notes: tuple[str, ...] = ()


def result_of(
    history: History, one: Contestant, p_before: float, scores: Mapping[str, float], others: Collection[str]
) -> LLMResult:
    """What came of asking one LLM, before anything is learned.

    Args:
        history: The journal.
        one: The LLM.
        p_before: What was expected.
        scores: Its grades by task.
        others: Tasks of the journal that are not this run's; they count in USD alone.
    """
    name, mine = one.name, [key for key in history.ended if key.llm == one.name and not key.judged]
    ends = [history.ended[key] for key in mine if key.task not in others]
    answers = [end for end in ends if end.outcome == "answered"]
    failures = Counter(str(end.outcome) for end in ends if end.outcome != "answered")
    lost = _lost(history, name)
    known = wilson(float(np.mean(list(scores.values()))), len(scores)) if scores else None
    p50, p95 = _quantiles([end.latency_s for end in answers])
    return LLMResult(
        name=name,
        llm=one.llm,
        n_answers=len(answers),
        n_graded=len(scores),
        accuracy=known.value if known else None,
        accuracy_low=known.low if known else None,
        accuracy_high=known.high if known else None,
        cost_usd=history.bills.get(name, 0.0),
        unknown_usd=history.unknown_bills.get(name, 0.0) + sum(lost.values()),
        latency_p50_s=p50,
        latency_p95_s=p95,
        input_tokens=_mean([end.input_tokens for end in answers]),
        output_tokens=_mean([end.output_tokens for end in answers]),
        failures={**failures, **({_LEFT: len(lost)} if lost else {})},
        p_before=p_before,
    )


def judge_result_of(history: History, name: str, n_ungraded: int, given_up: str | None) -> JudgeResult:
    """What came of asking one judge.

    Args:
        history: The journal.
        name: The judge.
        n_ungraded: Answers that it should have graded and that have no grade.
        given_up: Why it was not asked to the end.
    """
    ends = [end for key, end in history.ended.items() if key.llm == name and key.judged]
    replies = [end.score for end in ends if end.outcome == "answered"]
    failures = Counter(str(end.outcome) for end in ends if end.outcome != "answered")
    lost = sum(key.llm == name and bool(key.judged) for key in history.lost)
    return JudgeResult(
        name=name,
        n_verdicts=sum(score is not None for score in replies),
        n_unreadable=sum(score is None for score in replies),
        n_ungraded=n_ungraded,
        failures={**failures, **({_LEFT: lost} if lost else {})},
        given_up=given_up,
    )


def unknown_because(history: History) -> dict[str, int]:
    """How the requests ended whose bill is not known."""
    ended = {outcome: n for outcome, n in history.unknown_why.items() if n}
    return {**ended, **({_LEFT: len(history.lost)} if history.lost else {})}


def _lost(history: History, name: str) -> dict[CallKey, float]:
    return {key: usd for key, usd in history.lost.items() if key.llm == name and not key.judged}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _quantiles(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    middle, high = np.quantile(known, [0.5, 0.95])
    return float(middle), float(high)
