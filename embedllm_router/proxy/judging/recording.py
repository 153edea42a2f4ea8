"""What is written down of judged evaluation: a record of each answer that no user got, and feedback on scored ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from secrets import token_hex

from embedllm_router.proxy.call import Reply
from embedllm_router.proxy.comparing import Comparison
from embedllm_router.proxy.judging.drawing import Job
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.routing.pool import Candidate

__all__ = ["Answer", "Verdict", "feedback_of", "record_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One answer, and what it cost.

    Attributes:
        name: Candidate or judge that gave it.
        text: Empty where it cannot be used.
        reply: What came; None where nothing did.
        error: Why there is no text; None where there is one.
        usd: What it cost; None for the answer that the user paid.
    """

    name: str
    text: str
    reply: Reply | None = None
    error: str | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said.

    Attributes:
        judge: Who.
        judged: The answers it was shown, the user's first.
        said: Its scores of them; None where there are none.
        usd: What it cost.
    """

    judge: Candidate
    judged: Sequence[Answer]
    said: Comparison | None
    usd: float


def record_of(job: Job, one: Answer, verdict: Verdict, *, is_first: bool) -> RequestRecord:
    """The record of an answer that no user got, at the time of the user's request: learning keeps them together.

    Args:
        job: The user's request.
        one: The answer.
        verdict: What the judge said.
        is_first: Whether it is the first of its request; that one carries what the judge cost.
    """
    weighed, reply, settings = job.decision.named(one.name), one.reply, job.settings
    place = next((i for i, judged in enumerate(verdict.judged) if judged is one), None)
    scores = verdict.said.scores if verdict.said is not None and place is not None else None
    share = settings.share * (1 - settings.doubles if job.contenders else settings.doubles)
    is_copy = not job.contenders
    return replace(
        job.row,
        request_id=f"judged-{token_hex(12)}",
        reason="judged",
        chosen=one.name,
        llm=weighed.llm if weighed else None,
        p_correct=weighed.p_correct if weighed else None,
        expected_output_tokens=weighed.expected_output_tokens if weighed else None,
        expected_cost_usd=weighed.cost_usd if weighed else None,
        utility=weighed.utility if weighed else None,
        propensity=job.odds,
        status="success" if one.text else "failure",
        served=one.name if one.text else None,
        fallback=False,
        served_p_correct=weighed.p_correct if weighed else None,
        error=one.error,
        response_id=None,
        billed_input_tokens=reply.input_tokens if reply else None,
        billed_output_tokens=reply.output_tokens if reply else None,
        billed_cost_usd=one.usd,
        latency_ms=reply.latency_s * 1e3 if reply else None,
        total_ms=None,
        failed_attempts=(),
        judged_for=job.row.request_id,
        judging="double" if is_copy else "contender",
        judging_share=share,
        judge=verdict.judge.group if place is not None and len(verdict.judged) > 1 else None,
        judge_score=scores[place] if scores is not None and place is not None else None,
        judge_score_served=scores[0] if scores is not None else None,
        judge_reversed=verdict.said.reversed[place] if verdict.said is not None and place is not None else None,
        judging_usd=verdict.usd if is_first else None,
    )


def feedback_of(
    job: Job, answers: Sequence[Answer], records: Sequence[RequestRecord], verdict: Verdict, at: datetime
) -> list[FeedbackRecord]:
    """The scores as feedback on the user's request and on the records of other answers; none for a double.

    Args:
        job: The user's request.
        answers: The user's, then the others'.
        records: Of the others, in the same order.
        verdict: What the judge said.
        at: When, UTC.
    """
    if verdict.said is None or not job.contenders:
        return []
    scored = dict(zip(map(id, verdict.judged), verdict.said.scores, strict=True))
    ids = (job.row.request_id, *(one.request_id for one in records))
    given = [(about, scored.get(id(one))) for about, one in zip(ids, answers, strict=True)]
    source = f"judge:{verdict.judge.group}"
    return [FeedbackRecord(at=at, request_id=a, score=s, source=source) for a, s in given if s is not None]
