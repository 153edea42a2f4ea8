"""What a plan is made on: recorded predictions, or those of other weights where text or embedding was kept."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from planted import PRICES, SPRINTER, WIZARD, planted_artifact

from embedllm_router import Router
from embedllm_router.artifact.manifest import GuaranteeRow
from embedllm_router.artifact.weights import save_artifact
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.pool import Candidate, CandidatePool
from embedllm_router.routing.prompt import read_body
from embedllm_router.telemetry.decision_record import DecisionRecord, Outcome, RequestContext, to_record

WORDS = ("hello", "integral", "statute", "function")


def routed(router: Router, number: int, *, keep_text: bool) -> RequestRecord:
    """A request that the real router decided at λ = 0 between wizard and sprinter, and the real recorder wrote down."""
    prompt = read_body({"messages": [{"role": "user", "content": WORDS[number % 4]}], "max_tokens": 300})
    llms = (WIZARD, SPRINTER)
    pool = CandidatePool(
        [Candidate(one, one, router.catalog.row(one), PRICES[one][0] / 1e6, PRICES[one][1] / 1e6) for one in llms]
    )
    routing = router.route(prompt, objective=Objective(), pool=pool)
    chosen = routing.decision.chosen
    assert chosen is not None
    record = DecisionRecord(
        RequestContext(
            f"request-{number}", "auto", "acompletion", datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number), 0.0
        ),
        chosen.name,
        1.0,
        decision=routing.decision,
        objective_from="config",
        artifact=routing.artifact_id,
        encoder=routing.encoder_id,
        timing=routing.timing_ms,
        prompt_chars=len(prompt.text),
        prompt_hash=f"{number:024x}",
        prompt=prompt.text if keep_text else None,
        embedding=None,
    )
    return to_record(record, Outcome(served=chosen.name, status="success"))


def write_log(folder: Path, records: list[RequestRecord], feedback: tuple[FeedbackRecord, ...] = ()) -> Path:
    folder.mkdir()
    for name, rows in (("requests", records), ("feedback", feedback)):
        (folder / f"{name}-planted.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted weights with a contract: at λ = 0, a tenth fewer answers are right than predicted."""
    folder = tmp_path_factory.mktemp("weights") / "artifact"
    plain = planted_artifact(folder)
    row = GuaranteeRow(
        promise="cost_weight", value=0, n_prompts=500, n_labels=500, predicted=0.9, correct=0.8, low=0.78, high=0.82,
        at_least=0.785,
    )  # fmt: skip
    save_artifact(
        folder,
        plain.manifest.model_copy(update={"contract": (row,)}),
        encoder=plain.encoder,
        decoder=plain.decoder,
        tokenizer_json=plain.tokenizer_json,
        model_card="",
    )
    return folder


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights, but the wizard is no better than a coin at anything."""
    folder = tmp_path_factory.mktemp("worse") / "artifact"
    plain = planted_artifact(folder)
    decoder = {name: tensor.copy() for name, tensor in plain.decoder.items()}
    decoder["llm_embeddings"][[llm.id for llm in plain.manifest.llms].index(WIZARD)] = 0.0
    save_artifact(
        folder,
        plain.manifest,
        encoder=plain.encoder,
        decoder=decoder,
        tokenizer_json=plain.tokenizer_json,
        model_card="",
    )
    return folder


def plan(run_command: Callable[..., str], log: Path, *options: str) -> dict[str, Any]:
    told = run_command("plan", "--from", str(log), "--target-accuracy", "0.9", "--json", *options)
    found: dict[str, Any] = orjson.loads(told)
    return found


def test_weights_that_decided_lend_their_contract_and_nothing_is_scored_again(
    weights: Path, tmp_path: Path, run_command: Callable[..., str]
) -> None:
    router = Router.load(weights)
    log = write_log(tmp_path / "log", [routed(router, i, keep_text=False) for i in range(40)])
    found = plan(run_command, log, "--artifact", str(weights))
    assert found["scored"] == {"recorded predictions": 40}
    assert found["best"]["accuracy"]["value"] == pytest.approx(0.9526, abs=1e-3)
    assert found["best"]["held_out"]["accuracy"]["value"] == pytest.approx(0.8526, abs=1e-3)
    assert any("plan with --target-accuracy" in note for note in found["notes"])
    assert found["rate"]["per_month"] == pytest.approx(730)
    without = plan(run_command, log)
    assert without["best"]["held_out"] is None
    assert any("are not at hand" in note for note in without["notes"])


def test_other_weights_score_the_kept_texts_anew(
    weights: Path, worse: Path, tmp_path: Path, run_command: Callable[..., str]
) -> None:
    router = Router.load(weights)
    records = [routed(router, i, keep_text=i < 24) for i in range(40)]
    found = plan(
        run_command, write_log(tmp_path / "log", records), "--artifact", str(worse), "--requests-per-month", "1000"
    )
    assert found["scored"] == {"recorded text": 24}
    assert found["skipped"] == {"neither text nor an embedding by this encoder recorded": 16}
    assert not found["best"]["feasible"], "the wizard tosses a coin now"
    assert {share["name"] for share in found["best"]["mix"]} == {WIZARD, SPRINTER}


def test_weights_that_can_score_nothing_say_why(
    weights: Path, worse: Path, tmp_path: Path, run_command: Callable[..., str]
) -> None:
    router = Router.load(weights)
    log = write_log(tmp_path / "log", [routed(router, i, keep_text=False) for i in range(3)])
    command = ("plan", "--from", str(log), "--target-accuracy", "0.9", "--artifact", str(worse))
    told = " ".join(run_command(*command, code=2).split())
    assert "(3: neither text nor an embedding by this encoder recorded" in told


def test_people_read_of_feedback_bills_floors_and_days(
    weights: Path, tmp_path: Path, run_command: Callable[..., str]
) -> None:
    router = Router.load(weights)
    records = [routed(router, i, keep_text=False) for i in range(8)]
    judged = tuple(FeedbackRecord(at=r.at, request_id=r.request_id, score=1.0, source="user") for r in records[:4])
    log = write_log(tmp_path / "log", records, judged)
    told = run_command("plan", "--from", str(log), "--budget", "1/day", "--requests-per-month", "1000")
    assert "Feedback on 4 recorded answers: 100.0% right where 95.3% were predicted" in told
    assert "USD a day" in told
    assert "8 requests are few" in told
    assert "budgets: [{usd: 1, per: day}]" in told
