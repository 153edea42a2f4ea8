"""A log decided again: the objective's effect is counted by hand, and other weights decide as they would live."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from log_files import Served, routed_record, write_log
from planted import NOVICE, PRICES, SPRINTER, WIZARD
from recorded import USD, make_feedback, make_record, make_records

from embedllm_router import Router
from embedllm_router.analysis.replay.change import Change, NewAim, imply_prices
from embedllm_router.analysis.replay.result import Replay
from embedllm_router.analysis.replay.run import replay
from embedllm_router.artifact.weights import Artifact, load_artifact, save_artifact
from embedllm_router.records.reader.recorded import Basis, Recorded, Rescorer, Wanted, read_recorded
from embedllm_router.records.reader.source import Filters, RecordSource, open_source
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.routing.policy import Objective

TEXTS = ("hello", "integral", "statute", "function", "hello integral", "hello there, statute function")
ALL_PRICES = {WIZARD: PRICES[WIZARD], SPRINTER: PRICES[SPRINTER], NOVICE: None, "stranger": (1.0, 1.0)}


@pytest.fixture
def opened() -> Iterator[list[RecordSource]]:
    sources: list[RecordSource] = []
    yield sources
    for source in sources:
        source.close()


def read(
    folder: Path, opened: list[RecordSource], records: Sequence[RequestRecord], *feedback: FeedbackRecord, **how: object
) -> Recorded:
    source = open_source(write_log(folder, records, feedback))
    opened.append(source)
    return read_recorded(source, Wanted(with_text=True, **how))  # type: ignore[arg-type]  # as given by the test


def aim(**objective: float) -> Change:
    return Change(NewAim(Objective(**objective)))


def by(found: Replay, numbers: str) -> tuple[float, float, float, float]:
    one = next(y for y in found.yardsticks if y.numbers == numbers)
    return one.p_correct.before, one.p_correct.after, one.cost_usd.before, one.cost_usd.after


def test_a_higher_cost_weight_moves_maths_to_the_novice(tmp_path: Path, opened: list[RecordSource]) -> None:
    records = [make_record(i, topic="chat" if i % 4 else "maths") for i in range(400)]
    found = replay(read(tmp_path, opened, records), aim(cost_weight=100), ["cost_weight 100"])
    assert {(row.name, row.before, row.after) for row in found.mix} == {
        ("sprinter", 300, 300),
        ("novice", 0, 100),
        ("wizard", 100, 0),
    }
    p_before, p_after, usd_before, usd_after = by(found, "recorded")
    assert (p_before, p_after) == (pytest.approx(0.95), pytest.approx(0.75 * 0.95 + 0.25 * 0.5))
    assert usd_before == pytest.approx(0.75 * USD["sprinter"] + 0.25 * USD["wizard"])
    assert usd_after == pytest.approx(0.75 * USD["sprinter"] + 0.25 * USD["novice"])
    change = found.yardsticks[0].p_correct.change
    assert change.low < p_after - p_before < change.high
    assert (found.n_flips, len(found.flips), found.flips[0].before, found.flips[0].after) == (
        100,
        20,
        "wizard",
        "novice",
    )
    assert {group.name: group.n_flips for group in found.by_category} == {"planted/chat": 0, "planted/maths": 100}


def test_the_recorded_objective_flips_nothing(tmp_path: Path, opened: list[RecordSource]) -> None:
    records = make_records(500)
    decided = [r for r in records if r.failed_open is None]
    found = replay(read(tmp_path, opened, records), Change(), ["nothing"])
    assert (found.n, found.n_flips, found.flips) == (len(decided), 0, ())
    assert found.n_skipped == {"failed open: nothing was weighed": len(records) - len(decided)}
    assert found.yardsticks[0].cost_usd.change.value == 0


def test_each_request_keeps_its_own_limit_unless_overridden(tmp_path: Path, opened: list[RecordSource]) -> None:
    """The wizard was too expensive for one request; without cost weight it would take both."""
    limited = make_record(0, max_cost_usd=0.001)
    wizard = next(c for c in limited.candidates if c.name == "wizard")
    others = tuple(c for c in limited.candidates if c is not wizard)
    limited = replace(
        limited, candidates=(*others, replace(wizard, excluded="too_expensive")), chosen="novice", served="novice"
    )
    recorded = read(tmp_path, opened, [limited, make_record(1)])
    kept = replay(recorded, aim(cost_weight=0), [""])
    assert {row.name: row.after for row in kept.mix} == {"wizard": 1, "novice": 1}
    lifted = replay(recorded, Change(NewAim(Objective(), max_cost_usd=1.0)), [""])
    assert {row.name: row.after for row in lifted.mix} == {"wizard": 2, "novice": 0}


@pytest.mark.parametrize(
    ("objective", "choices"),
    [
        ({"min_p_correct": 0.9}, {"wizard"}),
        ({"min_p_correct": 0.4}, {"novice"}),
        ({"max_accuracy_drop": 0.01}, {"wizard"}),
        ({"max_accuracy_drop": 0.5}, {"novice"}),
        ({"min_p_correct": 0.99}, {"wizard"}),
    ],
)
def test_floors_decide_as_the_policy_does(
    tmp_path: Path, opened: list[RecordSource], objective: dict[str, float], choices: set[str]
) -> None:
    found = replay(read(tmp_path, opened, [make_record(i) for i in range(3)]), aim(**objective), [""])
    assert {row.name for row in found.mix if row.after} == choices


def test_feedback_counts_once_per_source_by_either_id_and_only_on_the_chosen(
    tmp_path: Path, opened: list[RecordSource]
) -> None:
    fell_back = make_record(2, served="novice", fallback=True)
    records = [make_record(0), make_record(1), fell_back]
    at = records[0].at

    def said(request_id: str, score: float, source: str, minute: int) -> FeedbackRecord:
        return FeedbackRecord(at=at.replace(minute=minute), request_id=request_id, score=score, source=source)

    feedback = (
        said("request-0", 0.0, "user", 1),
        said("chatcmpl-0", 1.0, "user", 2),  # the user thought again
        said("request-0", 0.5, "judge", 1),
        said("request-2", 1.0, "user", 1),
        said("request-99", 1.0, "user", 1),  # of another log
    )
    recorded = read(tmp_path, opened, records, *feedback)
    assert [r.score for r in recorded.requests] == [0.75, None, 1.0]
    found = replay(recorded, aim(cost_weight=100), [""])
    assert found.observed is not None
    assert (found.observed.n_feedback, found.n_feedback_not_used) == (1, 1)
    only_judge = read(tmp_path, opened, records, *feedback, sources=["judge"])
    assert [r.score for r in only_judge.requests] == [0.5, None, None]


def test_only_what_was_judged_can_be_read(tmp_path: Path, opened: list[RecordSource]) -> None:
    records = [make_record(i) for i in range(6)]
    said = [
        FeedbackRecord(at=r.at, request_id=i, score=1.0, source="user")
        for r, i in zip(records, ("request-0", "chatcmpl-3", "request-0", "request-77"), strict=False)
    ]
    recorded = read(tmp_path, opened, records, *said, only_judged=True)
    assert [r.request_id for r in recorded.requests] == ["request-0", "request-3"]
    assert recorded.n_meant == 2


def test_without_feedback_it_says_so(tmp_path: Path, opened: list[RecordSource]) -> None:
    found = replay(read(tmp_path, opened, make_records(50)), aim(cost_weight=100), [""])
    assert found.observed is None
    assert any("predicted probabilities only" in note for note in found.notes)


def test_a_deterministic_log_is_said_to_show_nothing_of_its_flips(tmp_path: Path, opened: list[RecordSource]) -> None:
    records = [r for r in make_records(400) if not r.fallback and r.status == "success"]
    found = replay(read(tmp_path, opened, records, *make_feedback(records, 1.0)), aim(cost_weight=100), [""])
    assert found.observed is not None
    assert found.observed.n_flips_unobserved == found.n_flips > 0
    assert any("deterministic" in note for note in found.notes)
    chat = np.mean([r.chosen == "sprinter" for r in records if r.candidates])
    assert found.observed.supported == pytest.approx(chat)


def test_only_the_newest_requests_within_the_limit_are_read(tmp_path: Path, opened: list[RecordSource]) -> None:
    records = [make_record(i) for i in range(30)]
    recorded = read(tmp_path, opened, records, limit=10, filters=Filters(since=records[5].at))
    assert [r.request_id for r in recorded.requests] == [f"request-{i}" for i in range(20, 30)]
    assert (recorded.n_meant, recorded.n_beyond_limit) == (25, 15)


def test_an_impossible_propensity_is_counted_and_not_used(tmp_path: Path, opened: list[RecordSource]) -> None:
    recorded = read(tmp_path, opened, [make_record(0, propensity=0.0), make_record(1, propensity=0.25)])
    assert (recorded.n_invalid, [r.propensity for r in recorded.requests]) == (1, [0.25])


def test_implied_prices_are_the_real_ones(router: Router, tmp_path: Path, opened: list[RecordSource]) -> None:
    records = [routed_record(router, i, "hello " * (1 + i), Served(ALL_PRICES)) for i in range(12)]
    prices = imply_prices(read(tmp_path, opened, records).requests)
    assert prices.keys() == {WIZARD, SPRINTER}
    for llm, price in prices.items():
        usd = PRICES[llm]
        assert (price.input_usd_per_token * 1e6, price.output_usd_per_token * 1e6) == pytest.approx(usd, rel=1e-4)
        assert price.exact


def test_a_price_that_changed_within_the_log_is_noticed(
    router: Router, tmp_path: Path, opened: list[RecordSource]
) -> None:
    dearer = {**ALL_PRICES, WIZARD: (20.0, 80.0)}
    records = [routed_record(router, i, "hello " * i, Served(dearer if i > 5 else ALL_PRICES)) for i in range(1, 12)]
    prices = imply_prices(read(tmp_path, opened, records).requests)
    assert not prices[WIZARD].exact
    assert prices[SPRINTER].exact


def reversed_artifact(artifact_dir: Path, folder: Path) -> Artifact:
    """Weights by which the sprinter is good at maths, the wizard at nothing, and answers are twice as long."""
    parent = load_artifact(artifact_dir)
    decoder = {name: tensor.copy() for name, tensor in parent.decoder.items()}
    decoder["llm_embeddings"][0] = -3.0
    decoder["llm_embeddings"][1] = [-3.0, 3.0, 1.0, 1.0]
    decoder["length_bias"] = decoder["length_bias"].astype(np.float32) + np.float32(np.log(2.0))
    return save_artifact(
        folder,
        parent.manifest,
        encoder=parent.encoder,
        decoder=decoder,
        tokenizer_json=parent.tokenizer_json,
        model_card="# Reversed\n",
    )


@pytest.mark.parametrize("kept", ["text", "embedding"])
def test_other_weights_decide_as_they_would_live(
    router: Router, artifact_dir: Path, tmp_path: Path, opened: list[RecordSource], kept: str
) -> None:
    objective = Objective(cost_weight=1.0)
    served = Served(ALL_PRICES, objective, kept)
    records = [routed_record(router, i, t, served) for i, t in enumerate(TEXTS)]
    new = reversed_artifact(artifact_dir, tmp_path / "new")
    live = [routed_record(Router(new), i, t, served) for i, t in enumerate(TEXTS)]
    found = replay(read(tmp_path / "log", opened, records), Change(rescorer=Rescorer(new)), ["weights"])
    basis = Basis.TEXT if kept == "text" else Basis.EMBEDDING
    assert found.n_scored == {str(basis): len(TEXTS)}
    assert sum(row.after for row in found.mix) == len(TEXTS)
    assert {row.name: row.after for row in found.mix if row.after} == {
        name: sum(r.chosen == name for r in live) for name in {r.chosen for r in live}
    }
    _, p_after, _, usd_after = by(found, "new")
    assert p_after == pytest.approx(np.mean([r.p_correct for r in live]), abs=1e-3)
    assert usd_after == pytest.approx(np.mean([r.expected_cost_usd for r in live]), rel=1e-3)
    assert found.n_flips == sum(a.chosen != b.chosen for a, b in zip(records, live, strict=True)) > 0


def test_what_was_not_recorded_is_not_guessed(
    router: Router, artifact_dir: Path, tmp_path: Path, opened: list[RecordSource]
) -> None:
    """Neither text nor embedding, another encoder's embedding, half an embedding; and a prompt without text, scored."""
    whole = routed_record(router, 0, "hello", Served(ALL_PRICES, keep="embedding"))
    assert whole.embedding is not None
    records = [
        whole,
        replace(whole, request_id="bare", embedding=None),
        replace(whole, request_id="stranger", encoder="0" * 12),
        replace(whole, request_id="half", embedding=whole.embedding[: 4 * 30]),
        replace(whole, request_id="noise", embedding="?"),
        replace(whole, request_id="image", embedding=None, prompt_chars=0),
    ]
    found = replay(read(tmp_path, opened, records), Change(rescorer=Rescorer(load_artifact(artifact_dir))), [""])
    assert found.n_scored == {str(Basis.EMBEDDING): 1, str(Basis.NO_TEXT): 1}
    assert found.n_skipped == {str(Basis.NOTHING): 2, str(Basis.DAMAGED): 2}


def test_choices_of_a_session_or_a_budget_are_named_where_they_flip(tmp_path: Path, opened: list[RecordSource]) -> None:
    kept = make_record(0, chosen="novice", served="novice", reason="session_kept")
    poor = make_record(1, chosen="novice", served="novice", reason="within_budget")
    found = replay(read(tmp_path, opened, [kept, poor, make_record(2)]), Change(), [""])
    assert found.n_flips == 2
    assert any("session_kept 1, within_budget 1" in note for note in found.notes)


def test_nothing_left_is_no_error(artifact_dir: Path, tmp_path: Path, opened: list[RecordSource]) -> None:
    change = Change(rescorer=Rescorer(load_artifact(artifact_dir)))
    found = replay(read(tmp_path, opened, [make_record()]), change, [""])
    assert (found.n, found.mix, found.yardsticks) == (0, (), ())
