"""Made-up records of routed requests with known structure: one LLM dear and good, one cheap, one tossing a coin."""

import random
from datetime import UTC, datetime, timedelta

from embedllm_router.records.schema import CandidateRecord, FeedbackRecord, RequestRecord

LLMS = {"wizard": "wizard-2025-01-01", "sprinter": "sprinter-7b-instruct", "novice": "novice-1.5b"}
USD = {"wizard": 0.016, "sprinter": 0.00006, "novice": 0.00002}
P_CORRECT = {
    "chat": {"wizard": 0.95, "sprinter": 0.95, "novice": 0.5},
    "maths": {"wizard": 0.95, "sprinter": 0.05, "novice": 0.5},
}
START = datetime(2026, 1, 1, tzinfo=UTC)
COST_WEIGHT = 20.0


def make_record(number: int = 0, *, topic: str = "maths", **changes: object) -> RequestRecord:
    """One answered request; at λ = 20 maths goes to the wizard and chat to the sprinter."""
    p = P_CORRECT[topic]
    ranked = sorted(p, key=lambda name: -(p[name] - COST_WEIGHT * USD[name]))
    candidates = [
        CandidateRecord(name, LLMS[name], p[name], 100.0, USD[name], p[name] - COST_WEIGHT * USD[name], None)
        for name in ranked
    ]
    first = candidates[0]
    likeliest = max(p, key=lambda name: (p[name], -USD[name]))
    fields: dict[str, object] = {
        "at": START + timedelta(seconds=number),
        "request_id": f"request-{number}",
        "virtual_model": "auto",
        "call_type": "acompletion",
        "key_alias": "team-a",
        "artifact": "0123456789ab",
        "encoder": "ba9876543210",
        "reason": "highest_utility",
        "objective_from": "config",
        "cost_weight": COST_WEIGHT,
        "chosen": first.name,
        "llm": first.llm,
        "p_correct": first.p_correct,
        "expected_output_tokens": first.expected_output_tokens,
        "expected_cost_usd": first.cost_usd,
        "utility": first.utility,
        "runner_up": ranked[1],
        "likeliest": likeliest,
        "likeliest_p_correct": p[likeliest],
        "likeliest_cost_usd": USD[likeliest],
        "cheapest": "novice",
        "cheapest_p_correct": p["novice"],
        "cheapest_cost_usd": USD["novice"],
        "candidates": (*candidates, CandidateRecord("stranger", None, None, None, None, None, "llm_unknown")),
        "category": f"planted/{topic}",
        "prompt_chars": 40,
        "input_tokens": 10,
        "prompt_hash": f"{number % 97:024x}",
        "encode_ms": 0.3,
        "score_ms": 0.1,
        "decide_ms": 0.05,
        "route_ms": 0.5,
        "status": "success",
        "served": first.name,
        "served_p_correct": first.p_correct,
        "response_id": f"chatcmpl-{number}",
        "billed_input_tokens": 12,
        "billed_output_tokens": 90,
        "billed_cost_usd": USD[first.name] * 0.9,
        "latency_ms": 800.0,
    }
    return RequestRecord(**{**fields, **changes})  # type: ignore[arg-type]  # names and types are those above


def make_records(n: int, seed: int = 0) -> list[RequestRecord]:
    """So many requests, one a second: 70 % chat, 4 % fall back to the novice, 2 % fail, 1 % fail open."""
    rng = random.Random(seed)
    return [_varied(number, rng) for number in range(n)]


def _varied(number: int, rng: random.Random) -> RequestRecord:
    topic = "chat" if rng.random() < 0.7 else "maths"
    fate = rng.random()
    changes: dict[str, object] = {
        "key_alias": rng.choice(["team-a", "team-b", None]),
        "virtual_model": rng.choice(["auto", "auto", "auto-cheap"]),
        "latency_ms": rng.lognormvariate(6.5, 0.6),
        "route_ms": rng.lognormvariate(-0.7, 0.3),
    }
    if fate < 0.04:
        changes |= {"served": "novice", "fallback": True, "served_p_correct": 0.5, "billed_cost_usd": USD["novice"]}
    elif fate < 0.06:
        changes |= {"served": None, "status": "failure", "error": "APIConnectionError", "served_p_correct": None}
        changes |= dict.fromkeys(("billed_cost_usd", "billed_input_tokens", "billed_output_tokens", "response_id"))
    elif fate < 0.07:
        nothing: tuple[str, ...] = (
            "artifact",
            "objective_from",
            "cost_weight",
            "llm",
            "p_correct",
            "expected_output_tokens",
        )
        nothing += ("expected_cost_usd", "utility", "runner_up", "category", "prompt_chars", "served_p_correct")
        nothing += ("likeliest", "likeliest_p_correct", "likeliest_cost_usd", "prompt_hash", "input_tokens")
        nothing += ("cheapest", "cheapest_p_correct", "cheapest_cost_usd", "encode_ms", "score_ms", "decide_ms")
        changes |= {"reason": "failed_open", "failed_open": "ArtifactError", "chosen": "sprinter", "served": "sprinter"}
        changes |= {"candidates": (), **dict.fromkeys(nothing)}
    return make_record(number, topic=topic, **changes)


def make_feedback(records: list[RequestRecord], share: float = 0.2, seed: int = 0) -> list[FeedbackRecord]:
    """Feedback on a share of the answered requests, right with the probability that was predicted."""
    rng = random.Random(seed)
    return [
        FeedbackRecord(
            at=r.at + timedelta(seconds=30),
            request_id=r.request_id,
            score=float(rng.random() < r.served_p_correct),
            source="user",
        )
        for r in records
        if r.served_p_correct is not None and rng.random() < share
    ]
