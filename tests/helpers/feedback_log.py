"""A log with feedback whose truth is planted: who is right how often on which topic."""

import base64
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from planted import LOGIT, NOVICE, SPRINTER, TOPICS, WIZARD, WORDS

from embedllm_router import Router
from embedllm_router.records.reader.recorded import Recorded, Wanted, read_recorded
from embedllm_router.records.reader.source import open_source
from embedllm_router.records.schema import CandidateRecord, FeedbackRecord, RequestRecord

START = datetime(2026, 1, 1, tzinfo=UTC)
WORD_OF = {topic: word for word, topic in WORDS.items()}
GOOD, BAD, COIN = 0.9526, 0.0474, 0.5
"""What the planted weights say: the probabilities of the logits LOGIT, -LOGIT and 0."""

AS_TRAINED: Mapping[str, Mapping[str, float]] = {
    WIZARD: dict.fromkeys(TOPICS, GOOD),
    SPRINTER: {"chat": GOOD, "maths": BAD, "law": COIN, "code": COIN},
    NOVICE: dict.fromkeys(TOPICS, COIN),
}
assert LOGIT == 3.0


@dataclass(frozen=True)
class World:
    """How a log with feedback comes about.

    Attributes:
        truth: Probability of a right answer by LLM and topic.
        n: Requests, every one with feedback; every LLM is asked equally often unless `asked` says otherwise.
        keep: What is recorded of a prompt: "text", "embedding" or "neither".
        asked: Share of requests per LLM.
        seed: Decides everything.
    """

    truth: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: AS_TRAINED)
    n: int = 1200
    keep: str = "embedding"
    asked: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(AS_TRAINED, 1.0))
    seed: int = 0

    def log(self, router: Router) -> tuple[list[RequestRecord], list[FeedbackRecord]]:
        rng = random.Random(self.seed)
        llms, shares = list(self.asked), list(self.asked.values())
        plain = {topic: _record(router, topic, self.keep) for topic in TOPICS}
        records, feedback = [], []
        for i in range(self.n):
            topic, llm = rng.choice(TOPICS), rng.choices(llms, shares)[0]
            at = START + timedelta(minutes=i)
            chance = self.asked[llm] / sum(shares)
            asked = replace(plain[topic], at=at, request_id=f"r{i}", chosen=llm, served=llm, propensity=chance)
            records.append(replace(asked, prompt_hash=f"{i:024x}"))
            right = float(rng.random() < self.truth[llm][topic])
            feedback.append(FeedbackRecord(at=at, request_id=f"r{i}", score=right, source="user"))
        return records, feedback


def changed(llm: str, topic: str, p: float) -> Mapping[str, Mapping[str, float]]:
    """As trained, but for one LLM on one topic."""
    return {**AS_TRAINED, llm: {**AS_TRAINED[llm], topic: p}}


def read_back(folder: Path, records: Sequence[RequestRecord], feedback: Sequence[FeedbackRecord]) -> Recorded:
    """Through files, as the command reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, written in (("requests", records), ("feedback", feedback)):
        (folder / f"{name}-planted.jsonl").write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in written))
    source = open_source(folder)
    try:
        return read_recorded(source, Wanted(with_text=True, only_judged=True))
    finally:
        source.close()


def _record(router: Router, topic: str, keep: str) -> RequestRecord:
    text = WORD_OF[topic]
    routing = router.route(text)
    assert routing.prompt_embedding is not None
    weighed = routing.decision.assessments()
    return RequestRecord(
        at=START,
        request_id="",
        virtual_model="auto",
        call_type="acompletion",
        artifact=routing.artifact_id,
        encoder=router.encoder_id,
        reason="highest_utility",
        objective_from="config",
        cost_weight=0.0,
        chosen=WIZARD,
        candidates=tuple(
            CandidateRecord(a.name, a.llm, a.p_correct, a.expected_output_tokens, a.cost_usd, a.utility, None)
            for a in weighed
        ),
        prompt_chars=len(text),
        input_tokens=10,
        prompt=text if keep == "text" else None,
        embedding=base64.b64encode(routing.prompt_embedding.astype("<f2").tobytes()).decode()
        if keep == "embedding"
        else None,
        route_ms=1.0,
        status="success",
    )
