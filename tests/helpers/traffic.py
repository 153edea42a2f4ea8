"""A made-up day of routed requests with the texture of a real one: a rhythm, an outage, eight LLMs, four topics."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from embedllm_router.records.schema import CandidateRecord, FeedbackRecord, RequestRecord

COST_WEIGHT = {"auto": 20.0, "auto-cheap": 500.0, "auto-best": 0.0}
OUTAGE_H = (8.0, 9.0)
"""Hours before the end between which gemini-pro answers nobody."""
RELOADED = timedelta(hours=10)
"""How long before the end the configuration was taken up anew."""


@dataclass(frozen=True, slots=True)
class LLM:
    name: str
    learned: str | None
    skill: float
    usd_in: float
    usd_out: float
    tokens: float
    ms_per_token: float


LLMS = (
    LLM("gpt-4o", "gpt-4o-2024-08-06", 1.5, 2.5e-6, 10e-6, 420, 9),
    LLM("claude-sonnet-4", "claude-sonnet-4-20250514", 2.3, 3e-6, 15e-6, 520, 11),
    LLM("o3-mini", "o3-mini-2025-01-31", 2.2, 1.1e-6, 4.4e-6, 1900, 6),
    LLM("gemini-pro", "gemini-1.5-pro-002", 1.4, 1.25e-6, 5e-6, 430, 10),
    LLM("llama-70b", "llama-3.3-70b-instruct", 1.1, 0.6e-6, 0.7e-6, 450, 8),
    LLM("gpt-4o-mini", "gpt-4o-mini-2024-07-18", 0.9, 0.15e-6, 0.6e-6, 400, 7),
    LLM("gemini-flash", "gemini-1.5-flash-002", 0.8, 0.075e-6, 0.3e-6, 380, 4),
    LLM("qwen-7b", "qwen2.5-7b-instruct", 0.2, 0.04e-6, 0.1e-6, 390, 5),
)
TOPICS = {  # ease in logits, and who is better at it than elsewhere
    "zeroeval/chat": (1.6, {}),
    "mmlu_pro/law": (-0.4, {"claude-sonnet-4": 0.7, "gpt-4o": 0.5}),
    "zeroeval/math": (-0.6, {"o3-mini": 1.6, "qwen-7b": 0.4}),
    "reasoning_gym/code": (-0.2, {"claude-sonnet-4": 0.8, "llama-70b": -0.5}),
}


def make_day(n: int, end: datetime, seed: int = 7) -> tuple[list[RequestRecord], list[FeedbackRecord]]:
    """So many requests over the 24 hours before `end`, in order of time, and feedback on one in seven."""
    rng = random.Random(seed)
    times = sorted(end - timedelta(hours=_hours_ago(rng)) for _ in range(n))
    records = [_record(number, at, end, rng) for number, at in enumerate(times)]
    return records, [_opinion(r, rng) for r in records if r.served_p_correct is not None and rng.random() < 1 / 7]


def write_lines(folder: Path, records: Sequence[RequestRecord], feedback: Sequence[FeedbackRecord] = ()) -> Path:
    """Writes records as the store does before it seals them."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, rows in (("requests", records), ("feedback", feedback)):
        lines = b"".join(orjson.dumps(row, option=orjson.OPT_UTC_Z) + b"\n" for row in rows)
        (folder / f"{kind}-20260101T000000Z-test.jsonl").write_bytes(lines)
    return folder


def _hours_ago(rng: random.Random) -> float:
    while True:
        hours = rng.uniform(0.005, 24)
        if rng.random() < 0.55 + 0.45 * math.cos((hours - 5) / 24 * 2 * math.pi):
            return hours


def _record(number: int, at: datetime, end: datetime, rng: random.Random) -> RequestRecord:
    topic = rng.choices(list(TOPICS), (6, 2, 3, 3))[0]
    virtual_model = rng.choices(list(COST_WEIGHT), (7, 2, 1))[0]
    tokens = int(math.exp(rng.uniform(3.5, 7.5)))
    needs = ("vision",) if rng.random() < 0.04 else ()
    ranked = _ranked(topic, tokens, needs, COST_WEIGHT[virtual_model], rng)
    usable = [c for c in ranked if c.excluded is None]
    first, likeliest = usable[0], max(usable, key=lambda c: c.p_correct or 0)
    cheapest = min(usable, key=lambda c: c.cost_usd or 0)
    record = RequestRecord(
        at=at,
        request_id=f"{rng.getrandbits(128):032x}",
        virtual_model=virtual_model,
        call_type="acompletion",
        key_alias=rng.choice(["search", "support-bot", "batch-jobs", None]),
        team_alias="platform",
        artifact="3f09ac21b7d4",
        encoder="ba9876543210",
        reason="highest_utility",
        objective_from="config",
        cost_weight=COST_WEIGHT[virtual_model],
        chosen=first.name,
        llm=first.llm,
        p_correct=first.p_correct,
        expected_output_tokens=first.expected_output_tokens,
        expected_cost_usd=first.cost_usd,
        utility=first.utility,
        runner_up=usable[1].name,
        likeliest=likeliest.name,
        likeliest_p_correct=likeliest.p_correct,
        likeliest_cost_usd=likeliest.cost_usd,
        cheapest=cheapest.name,
        cheapest_p_correct=cheapest.p_correct,
        cheapest_cost_usd=cheapest.cost_usd,
        **_baseline(virtual_model, ranked),
        candidates=tuple(ranked),
        category=topic,
        prompt_chars=tokens * 4,
        input_tokens=tokens,
        needs=needs,
        prompt_hash=f"{number % 977:024x}",
        generation=1 if at < end - RELOADED else 2,
        encode_ms=0.35 * rng.lognormvariate(0, 0.2),
        score_ms=0.14 * rng.lognormvariate(0, 0.2),
        decide_ms=0.06 * rng.lognormvariate(0, 0.2),
        route_ms=0.72 * rng.lognormvariate(0, 0.25),
        status="unknown",
    )
    return _with_outcome(record, (end - at) / timedelta(hours=1), rng)


def _baseline(virtual_model: str, ranked: Sequence[CandidateRecord]) -> dict[str, Any]:
    """Only `auto` names one."""
    if virtual_model != "auto":
        return {}
    used = next(one for one in ranked if one.name == "gpt-4o")
    return {"baseline": used.name, "baseline_p_correct": used.p_correct, "baseline_cost_usd": used.cost_usd}


def _ranked(
    topic: str, tokens: int, needs: tuple[str, ...], cost_weight: float, rng: random.Random
) -> list[CandidateRecord]:
    ease, strengths = TOPICS[topic]
    luck = rng.gauss(0, 1.1)
    weighed = [_candidate(llm, ease + luck + strengths.get(llm.name, 0), tokens, cost_weight, rng) for llm in LLMS]
    blind = {"llama-70b", "qwen-7b", "o3-mini"} if needs else set()
    marked = [replace(c, excluded="no_vision") if c.name in blind else c for c in weighed]
    marked.append(CandidateRecord("in-house", None, None, None, None, None, "llm_unknown"))
    return sorted(marked, key=lambda c: (c.excluded is not None, -(c.utility or 0)))


def _candidate(llm: LLM, logit: float, tokens: int, cost_weight: float, rng: random.Random) -> CandidateRecord:
    p = 1 / (1 + math.exp(-(llm.skill + logit + rng.gauss(0, 0.5))))
    out = llm.tokens * math.exp(-0.25 * logit)
    cost = tokens * llm.usd_in + out * llm.usd_out
    return CandidateRecord(llm.name, llm.learned, p, out, cost, p - cost_weight * cost, None)


def _with_outcome(record: RequestRecord, hours_ago: float, rng: random.Random) -> RequestRecord:
    fate = rng.random()
    if fate < 0.003:
        return _failed_open(record, rng)
    if fate < 0.009:
        return replace(record, status="failure", error=rng.choice(["APIConnectionError", "RateLimitError", "Timeout"]))
    out = OUTAGE_H[0] < hours_ago < OUTAGE_H[1] and record.chosen == "gemini-pro"
    served = next(c for c in record.candidates if c.name == record.runner_up) if out or fate < 0.02 else None
    answered = served or record.candidates[0]
    llm = next(one for one in LLMS if one.name == answered.name)
    n_out = (answered.expected_output_tokens or 0) * rng.lognormvariate(0, 0.35)
    latency_ms = (250 + n_out * llm.ms_per_token + (4000 if out else 0)) * rng.lognormvariate(0, 0.25)
    return replace(
        record,
        failed_attempts=(f"{record.chosen}: RateLimitError",) if served else (),
        total_ms=latency_ms + (1_200 if served else 3),
        status="success",
        served=answered.name,
        fallback=served is not None,
        served_p_correct=answered.p_correct,
        response_id=f"chatcmpl-{record.request_id[:20]}",
        billed_input_tokens=record.input_tokens,
        billed_output_tokens=int(n_out),
        billed_cost_usd=(record.input_tokens or 0) * llm.usd_in + n_out * llm.usd_out,
        latency_ms=latency_ms,
    )


def _failed_open(record: RequestRecord, rng: random.Random) -> RequestRecord:
    unknown: tuple[str, ...] = (
        "artifact",
        "encoder",
        "objective_from",
        "cost_weight",
        "llm",
        "p_correct",
        "expected_output_tokens",
    )
    unknown += ("expected_cost_usd", "utility", "runner_up", "likeliest", "likeliest_p_correct", "likeliest_cost_usd")
    unknown += ("cheapest", "cheapest_p_correct", "cheapest_cost_usd", "category", "encode_ms", "score_ms", "decide_ms")
    return replace(
        record,
        **dict.fromkeys(unknown),  # type: ignore[arg-type]  # each of these columns may be empty
        candidates=(),
        reason="failed_open",
        failed_open="TimeoutError",
        chosen="gpt-4o-mini",
        served="gpt-4o-mini",
        status="success",
        latency_ms=1800 * rng.lognormvariate(0, 0.3),
        billed_cost_usd=0.0003,
    )


def _opinion(record: RequestRecord, rng: random.Random) -> FeedbackRecord:
    """Right a little less often than predicted where the prediction is high."""
    assert record.served_p_correct is not None
    right = rng.random() < record.served_p_correct - 0.08 * max(record.served_p_correct - 0.5, 0)
    source = rng.choices(["user", "judge:gpt-4o"], (3, 1))[0]
    by_response = record.response_id is not None and rng.random() < 0.3
    request_id = record.response_id if by_response else record.request_id
    assert request_id is not None
    return FeedbackRecord(
        at=record.at + timedelta(seconds=40),
        request_id=request_id,
        score=float(right),
        source=source,
        key_alias="search",
    )


def now() -> datetime:
    return datetime.now(UTC)
