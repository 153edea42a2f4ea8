"""Logs on disk for tests: planted records, or requests that the real router decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from embedllm_router import Router
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.pool import Candidate, CandidatePool
from embedllm_router.routing.prompt import read_body
from embedllm_router.telemetry.decision_record import DecisionRecord, Outcome, RequestContext, to_record

START = datetime(2026, 1, 1, tzinfo=UTC)


def write_log(folder: Path, records: Sequence[RequestRecord], feedback: Sequence[FeedbackRecord] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, written in (("requests", records), ("feedback", feedback)):
        (folder / f"{name}-planted.jsonl").write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in written))
    return folder


@dataclass(frozen=True)
class Served:
    """How requests were decided, and what was kept of them. Prices are per million tokens, in and out."""

    prices: Mapping[str, tuple[float, float] | None]
    objective: Objective = field(default_factory=Objective)
    keep: str = "neither"


def routed_record(router: Router, number: int, text: str, served: Served) -> RequestRecord:
    """A request that the real router decided and the real recorder wrote down; candidates are named by their LLM."""
    prompt = read_body({"messages": [{"role": "user", "content": text}], "max_tokens": 300})
    pool = CandidatePool([_candidate(router, llm, price) for llm, price in served.prices.items()])
    routing = router.route(prompt, objective=served.objective, pool=pool)
    chosen = routing.decision.chosen
    assert chosen is not None
    record = DecisionRecord(
        RequestContext(f"request-{number}", "auto", "acompletion", START + timedelta(seconds=number), 0.0),
        chosen.name,
        1.0,
        decision=routing.decision,
        objective_from="config",
        artifact=routing.artifact_id,
        encoder=routing.encoder_id,
        timing=routing.timing_ms,
        prompt_chars=len(prompt.text),
        prompt_hash=f"{number:024x}",
        prompt=prompt.text if served.keep == "text" else None,
        embedding=routing.prompt_embedding if served.keep == "embedding" else None,
    )
    return to_record(record, Outcome(served=chosen.name, status="success"))


def _candidate(router: Router, llm: str, price: tuple[float, float] | None) -> Candidate:
    known = router.catalog.match(llm).llm
    usd = (None, None) if price is None else (price[0] / 1e6, price[1] / 1e6)
    return Candidate(llm, known, router.catalog.row(known) if known else None, *usd)
