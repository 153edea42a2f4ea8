"""The guarantee of τ: exact bounds, honest clusters, who is chosen, and that it changes nothing but the manifest."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from planted import planted_artifact
from pydantic import ValidationError
from rich.console import Console

from embedllm_router._stats import clopper_pearson
from embedllm_router.artifact.guarantees import (
    Verdict,
    floor_that_keeps,
    guarantee_tables,
    nearest_row,
    rows_of,
    verdict,
)
from embedllm_router.artifact.manifest import GuaranteeRow, LearnedLLM
from embedllm_router.artifact.weights import load_artifact
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.evaluation.guarantee import card_with_guarantee, measure_guarantee
from embedllm_router.evaluation.inputs import Predictions


def row(value: float, low: float, correct: float, high: float, **changes: object) -> GuaranteeRow:
    fields: dict[str, object] = {
        "promise": "min_p_correct",
        "value": value,
        "n_prompts": 100,
        "n_labels": 100,
        "predicted": correct,
        "correct": correct,
        "low": low,
        "high": high,
        "at_least": low,
    }
    return GuaranteeRow(**{**fields, **changes})  # type: ignore[arg-type]  # names and types are those above


def llm(name: str, price: float | None) -> LearnedLLM:
    return LearnedLLM(
        id=name,
        vendor="planted",
        thinking=False,
        n_labels=1,
        mean_correctness=0.5,
        input_usd_per_mtok=price,
        output_usd_per_mtok=price,
    )


LLMS = (llm("cheap", 1.0), llm("dear", 10.0), llm("unpriced", None))


def held_out(
    p: np.ndarray, right: np.ndarray, *, observed: np.ndarray | None = None, prompts: tuple[str, ...] = ()
) -> tuple[CorrectnessMatrix, Predictions]:
    """Made-up held-out prompts; every answer is expected to take a hundred tokens."""
    n = len(p)
    matrix = CorrectnessMatrix(
        prompts=prompts or tuple(f"what is the colour of item {i} here" for i in range(n)),
        prompt_ids=tuple(map(str, range(n))),
        categories=("any",) * n,
        datasets=tuple("left" if i % 2 else "right" for i in range(n)),
        llm_ids=tuple(one.id for one in LLMS),
        correctness=right.astype(np.float32),
        observed=np.ones(p.shape, bool) if observed is None else observed,
        output_tokens=np.full(p.shape, np.nan, np.float32),
        counted=np.zeros(p.shape, bool),
        input_tokens=np.full(n, np.nan, np.float32),
    )
    return matrix, Predictions(p.astype(np.float32), np.full(p.shape, 100.0, np.float32))


def tail(n: int, share: float, counts: range) -> float:
    return sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in counts)


@pytest.mark.parametrize(("k", "n"), [(0, 7), (7, 7), (3, 20), (58, 60), (1, 1)])
def test_the_exact_interval_ends_where_the_binomial_tails_are_a_fortieth(k: int, n: int) -> None:
    low, high = clopper_pearson(k, n, 0.025, 0.025)
    assert (low == 0) == (k == 0)
    assert (high == 1) == (k == n)
    if k:
        assert tail(n, low, range(k, n + 1)) == pytest.approx(0.025, rel=1e-6)
    if k < n:
        assert tail(n, high, range(k + 1)) == pytest.approx(0.025, rel=1e-6)


def test_the_chosen_llm_is_the_cheapest_that_reaches_the_floor_and_has_a_price() -> None:
    p = np.array([[0.82, 0.93, 0.99], [0.55, 0.84, 0.99], [0.52, 0.56, 0.99], [0.91, 0.83, 0.99]])
    right = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]])  # whoever is cheapest at 0.8 is right
    rows = measure_guarantee(*held_out(p, right), LLMS)
    (at_80,) = (r for r in rows_of(rows, "min_p_correct") if r.value == 0.8)
    assert (at_80.n_prompts, at_80.n_labels, at_80.correct) == (3, 3, 1.0)
    assert at_80.predicted == pytest.approx((0.82 + 0.84 + 0.91) / 3, abs=1e-5)
    everyone = {r.value: r for r in rows_of(rows, "any_llm")}
    assert (everyone[0.8].n_prompts, everyone[0.8].n_labels) == (4, 9)
    assert everyone[0.95].correct == 0  # the unpriced one is graded, but never chosen
    assert max(r.value for r in rows_of(rows, "min_p_correct")) == 0.9
    weights = {r.value: r for r in rows_of(rows, "cost_weight")}
    assert weights[0.0].predicted == pytest.approx((0.93 + 0.84 + 0.56 + 0.91) / 4, abs=1e-5)
    assert weights[500.0].predicted == pytest.approx((0.82 + 0.55 + 0.52 + 0.91) / 4, abs=1e-5)


def test_a_prompt_with_one_graded_candidate_offers_no_choice() -> None:
    p = np.full((3, 3), 0.9)
    observed = np.array([[True, True, False], [True, False, True], [False, True, False]])
    rows = measure_guarantee(*held_out(p, np.ones((3, 3)), observed=observed), LLMS)
    assert {r.n_prompts for r in rows_of(rows, "min_p_correct")} == {1}
    assert {r.n_labels for r in rows_of(rows, "any_llm")} == {5}


def test_data_sets_are_measured_apart() -> None:
    p = np.full((40, 3), 0.95)
    right = np.repeat((np.arange(40) % 2)[:, None], 3, axis=1)  # right where the data set is "left"
    rows = measure_guarantee(*held_out(p, right), LLMS)
    assert {r.correct for r in rows_of(rows, "min_p_correct", data="left")} == {1.0}
    assert {r.correct for r in rows_of(rows, "min_p_correct", data="right")} == {0.0}
    assert {r.correct for r in rows_of(rows, "min_p_correct")} == {0.5}


def test_answers_that_stand_or_fall_together_widen_the_interval() -> None:
    """Forty questions, each asked twenty times in other spellings: the bound is that of forty answers, not of 800."""
    rng = np.random.default_rng(0)
    verdicts = np.repeat(rng.random(40) < 0.9, 20)
    p = np.full((800, 3), 0.9)
    asked = tuple(f"What is the colour of item {i // 20} here{'?' * (i % 20)}" for i in range(800))
    together = measure_guarantee(*held_out(p, np.repeat(verdicts[:, None], 3, axis=1), prompts=asked), LLMS)
    apart = measure_guarantee(*held_out(p, np.repeat(verdicts[:, None], 3, axis=1)), LLMS)
    wide, narrow = (rows_of(rows, "min_p_correct")[0] for rows in (together, apart))
    assert wide.correct == narrow.correct
    assert (wide.high - wide.low) > 3 * (narrow.high - narrow.low)
    exact = clopper_pearson(round(narrow.correct * 800), 800, 0.025, 0.025)
    assert narrow.low <= exact[0] + 1e-6
    assert narrow.high >= exact[1] - 1e-6


def test_the_bound_holds_about_as_often_as_it_says() -> None:
    """Planted truth: answers are right with probability 0.85, all LLMs alike."""
    kept = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        verdicts = rng.random(120) < 0.85
        p = np.full((120, 3), 0.85)
        rows = measure_guarantee(*held_out(p, np.repeat(verdicts[:, None], 3, axis=1)), LLMS)
        kept.append(all(r.at_least <= 0.85 for r in rows_of(rows, "any_llm")))
    assert np.mean(kept) >= 0.88  # 0.95 less two standard errors of forty trials


@pytest.mark.parametrize(
    ("bounds", "said"),
    [((0.81, 0.85, 0.9), Verdict.KEPT), ((0.7, 0.79, 0.81), Verdict.OPEN), ((0.6, 0.7, 0.79), Verdict.BROKEN)],
)
def test_a_promise_is_kept_not_shown_or_broken(bounds: tuple[float, float, float], said: Verdict) -> None:
    assert verdict(row(0.8, *bounds)) is said
    assert verdict(row(20, *bounds, promise="cost_weight")) is None


def test_the_floor_to_sign_is_the_lowest_whose_bound_reaches_the_share() -> None:
    rows = [row(0.9, 0.89, 0.92, 0.94), row(0.7, 0.78, 0.8, 0.82), row(0.8, 0.84, 0.86, 0.9)]
    rows.append(row(0.6, 0.95, 0.96, 0.97, data="easy"))
    found = floor_that_keeps(rows, 0.8)
    assert found is not None
    assert found.value == 0.8
    assert floor_that_keeps(rows, 0.9) is None


def test_the_nearest_row_is_near_in_probability_or_in_the_logarithm_of_a_weight() -> None:
    floors = [row(value, 0.5, 0.6, 0.7) for value in (0.6, 0.7)]
    weights = [row(value, 0.5, 0.6, 0.7, promise="cost_weight") for value in (0.0, 20.0, 500.0)]

    def near(promise: str, value: float) -> float | None:
        found = nearest_row([*floors, *weights], promise, value)  # type: ignore[arg-type]  # the names above
        return None if found is None else found.value

    assert (near("min_p_correct", 0.64), near("min_p_correct", 0.66)) == (0.6, 0.7)
    assert (near("cost_weight", 90.0), near("cost_weight", 120.0), near("cost_weight", 1e9)) == (20.0, 500.0, 500.0)
    assert near("any_llm", 0.6) is None


@pytest.mark.parametrize(
    "changes",
    [{"value": 1.2}, {"low": 0.9}, {"high": 0.4}, {"n_prompts": 0}, {"correct": float("nan")}, {"promise": "other"}],
)
def test_a_row_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    row(20.0, 0.5, 0.6, 0.7, promise="cost_weight")
    with pytest.raises(ValidationError):
        row(**{"value": 0.5, "low": 0.5, "correct": 0.6, "high": 0.7, **changes})  # type: ignore[arg-type]  # on purpose


def test_people_read_the_tables() -> None:
    rows = [row(0.8, 0.81, 0.85, 0.9), row(20, 0.6, 0.7, 0.8, promise="cost_weight")]
    rows += [row(0.8, 0.7, 0.9, 0.95, promise="any_llm"), row(0.8, 0.5, 0.6, 0.7, data="hard")]
    console = Console(width=100, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115 - closed with the test
    for table in guarantee_tables(rows):
        console.print(table)
    console.file.close()
    shown = console.export_text()
    for words in ("cheapest LLM that reaches τ", "highest utility at λ", "by data set", "kept", "not shown", "broken"):
        assert words in shown
    assert guarantee_tables(()) == ()


def test_the_card_has_one_section_before_the_landmarks() -> None:
    first = card_with_guarantee("# Card\n\n## Landmarks\n\nLast.\n", [row(0.8, 0.81, 0.85, 0.9)])
    again = card_with_guarantee(first, [row(0.7, 0.71, 0.75, 0.8)])
    assert again.count("## Guarantee") == 1
    assert again.index("## Guarantee") < again.index("## Landmarks")
    assert "| 0.7 | 100 | 0.750 | 0.750 | [0.710, 0.800] | 0.710 | kept |" in again
    assert "| 0.8 |" not in again
    assert card_with_guarantee(again, ()) == "# Card\n\n## Landmarks\n\nLast.\n"


def test_an_artifact_without_a_contract_still_loads(tmp_path: Path) -> None:
    planted_artifact(tmp_path / "artifact")
    file = tmp_path / "artifact" / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["contract"]  # as written before there was one
    file.write_text(json.dumps(manifest))
    assert load_artifact(tmp_path / "artifact").manifest.contract == ()
