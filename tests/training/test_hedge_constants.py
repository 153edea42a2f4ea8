"""The hedge: planted constants are found, answers are what the parts say, and calibration undoes a distortion."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from embedllm_router.training.fit.hedge import (
    USUAL_CONSTANTS,
    Answers,
    HedgeConstants,
    Parts,
    answers_of,
    calibrate,
    fit_constants,
    hedge_spec,
    hedged_logits,
)

TRUE = HedgeConstants(
    base=0.2,
    ability_share=0.5,
    difficulty_share=0.9,
    common_share=0.1,
    difference_share=0.6,
    gate_bias=0.0,
    gate_weight=1.5,
    temperature=1.0,
)


def parts_of(n: int, rng: np.random.Generator, *, novelty: float) -> Parts:
    return Parts(
        exam=rng.normal(0, 1.5, (n, 6)).astype(np.float32),
        broad=rng.normal(0, 1.0, (n, 6)).astype(np.float32),
        difficulty=rng.normal(0, 1.0, n).astype(np.float32),
        novelty=rng.normal(novelty, 1.0, n).astype(np.float32),
        ability=np.linspace(-1, 1.5, 6),
        reference=np.array([True, True, True, True, False, False]),
    )


def answered(n: int, seed: int, *, novelty: float, gate: float) -> Answers:
    """Answers whose chances are those of one prediction: of ordinary prompts where the gate is 0, of novel where 1."""
    rng = np.random.default_rng(seed)
    parts = parts_of(n, rng, novelty=novelty)
    answers = answers_of(parts, np.zeros((n, 6)), np.ones((n, 6), bool))
    p = expit(hedged_logits(answers, TRUE, 0.5, gate=gate))
    return replace(answers, right=(rng.random(len(p)) < p).astype(float))


def test_planted_constants_are_found() -> None:
    left_out = [answered(800, seed, novelty=2.5, gate=1.0) for seed in range(5)]
    found = fit_constants(left_out, answered(3000, 9, novelty=-1.0, gate=0.0), 0.5)
    for name in ("base", "ability_share", "difficulty_share", "common_share", "difference_share"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), abs=0.12)
    assert found.gate_weight > 0.5, "the more novel, the more of the second prediction"
    opened = expit(found.gate_bias + found.gate_weight * np.array([-1.0, 2.5]))
    assert opened[0] < 0.25
    assert opened[1] > 0.75
    assert found.temperature == pytest.approx(1, abs=0.2)


def test_a_better_llm_is_never_expected_to_be_worse() -> None:
    backwards = [answered(300, seed, novelty=1.0, gate=1.0) for seed in range(4)]
    backwards = [replace(one, ability=-one.ability) for one in backwards]
    assert fit_constants(backwards, answered(300, 9, novelty=0.0, gate=0.0), 0.5).ability_share > 0


def test_each_graded_answer_is_one_entry_with_what_the_parts_say_of_it() -> None:
    parts = parts_of(3, np.random.default_rng(0), novelty=0.0)
    observed = np.array([[1, 0, 0, 0, 1, 0], [0] * 6, [0, 0, 1, 0, 0, 0]], bool)
    labels = np.arange(18).reshape(3, 6) % 2
    found = answers_of(parts, labels, observed)
    assert list(zip(found.prompt.tolist(), found.llm.tolist(), strict=True)) == [(0, 0), (0, 4), (2, 2)]
    assert found.right.tolist() == [labels[0, 0], labels[0, 4], labels[2, 2]]
    common = parts.broad[:, :4].mean(axis=1)
    np.testing.assert_allclose(found.common, common[[0, 0, 2]], rtol=1e-6)
    np.testing.assert_allclose(found.common + found.difference, parts.broad[[0, 0, 2], [0, 4, 2]], rtol=1e-5)
    np.testing.assert_allclose(found.mean_ability + found.ability, parts.ability[[0, 4, 2]])


def test_calibration_undoes_a_distortion() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, 40_000)
    right = (rng.random(len(logits)) < expit(logits)).astype(float)
    found = calibrate((logits - 0.4) / 1.7, right)
    assert found.slope == pytest.approx(1.7, abs=0.08)
    assert found.offset == pytest.approx(0.4, abs=0.05)


def test_the_manifest_holds_the_usual_constants_as_they_are() -> None:
    spec = hedge_spec(
        USUAL_CONSTANTS,
        calibrate(np.array([-1.0, 1.0]), np.array([0.0, 1.0])),
        np.array([0.5, 1.5]),
        broad_weight=0.5,
        usual_novelty=(-0.3, 0.2),
        n_points=12,
    )
    assert spec.mean_ability == 1.0
    assert (spec.gate_mean, spec.gate_scale, spec.n_points) == (-0.3, 0.2, 12)
    assert spec.fitted_on == ()
    assert spec.temperature == USUAL_CONSTANTS.temperature
