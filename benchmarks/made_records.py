"""One made-up record of realistic size: eight candidates, numbers of every length."""

from datetime import UTC, datetime, timedelta

from embedllm_router.records.schema import CandidateRecord, RequestRecord

__all__ = ["made_record"]

START = datetime(2026, 1, 1, tzinfo=UTC)
LLMS = {
    "gpt-4o": 0.016,
    "gpt-4o-mini": 0.0009,
    "sonnet": 0.012,
    "haiku": 0.002,
    "gemini-flash": 0.0006,
    "llama-70b": 0.0011,
    "llama-8b": 0.0001,
    "qwen-7b": 0.0001,
}
"""Name → cost of a usual answer in USD."""


def made_record(number: int) -> RequestRecord:
    """A record whose id is its number."""
    share = (number * 0.6180339887498949) % 1.0
    ranked = tuple(
        CandidateRecord(name, name, share / (1 + i), 100 + 300 * share, usd * share, share / (1 + i) - usd, None)
        for i, (name, usd) in enumerate(LLMS.items())
    )
    best, second = ranked[:2]
    return RequestRecord(
        at=START + timedelta(seconds=number * share),
        request_id=str(number),
        virtual_model="auto",
        call_type="acompletion",
        key_alias="team-a",
        artifact="0123456789ab",
        encoder="ba9876543210",
        reason="highest_utility",
        objective_from="config",
        cost_weight=20.0,
        chosen=best.name,
        llm=best.llm,
        p_correct=best.p_correct,
        expected_output_tokens=best.expected_output_tokens,
        expected_cost_usd=best.cost_usd,
        utility=best.utility,
        runner_up=second.name,
        likeliest=best.name,
        likeliest_p_correct=best.p_correct,
        likeliest_cost_usd=best.cost_usd,
        cheapest="qwen-7b",
        cheapest_p_correct=ranked[-1].p_correct,
        cheapest_cost_usd=ranked[-1].cost_usd,
        candidates=ranked,
        category="mmlu/high_school_physics",
        prompt_chars=400,
        input_tokens=100,
        prompt_hash=f"{number:024x}",
        encode_ms=share,
        score_ms=share / 3,
        decide_ms=share / 20,
        route_ms=share * 1.5,
        status="success",
        served=best.name,
        served_p_correct=best.p_correct,
        response_id=f"chatcmpl-{number}",
        billed_input_tokens=101,
        billed_output_tokens=140,
        billed_cost_usd=best.cost_usd,
        latency_ms=800 * share,
    )
