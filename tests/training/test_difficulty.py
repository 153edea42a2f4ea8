"""Difficulty: a planted one is found within sets, levels of sets do not pass for it, and D is what the formula says."""

import numpy as np
import pytest

from embedllm_router.training.fit.difficulty import LabelledPrompts, fit_difficulty, prompt_targets

ABILITY = np.array([-1.0, 0.0, 1.0, 0.5])


def planted(
    n: int = 900, *, level: float = 0.0, density: float = 1.0
) -> tuple[LabelledPrompts, np.ndarray, np.ndarray]:
    """Prompts of three sets; column 0 makes them easier, column 1 marks the third set, which is easier by level."""
    rng = np.random.default_rng(0)
    sets = np.arange(n) % 3
    x = rng.normal(size=(n, 3)).astype(np.float32)
    x[:, 1] = sets == 2
    true = 1.2 * x[:, 0]
    logits = ABILITY[None] + (true + level * (sets == 2))[:, None]
    labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    return LabelledPrompts(labels, rng.random(labels.shape) < density, sets), x, true


@pytest.mark.parametrize("density", [1.0, 0.4])
def test_a_planted_difficulty_is_found(density: float) -> None:
    prompts, x, true = planted(density=density)
    found = fit_difficulty(prompts, ABILITY, x, np.ones(3, np.float32))
    assert np.corrcoef(found.of(x), true)[0, 1] > 0.98
    assert 0.5 < found.weight[0] < 1.6
    assert abs(found.of(x).mean()) < 0.2, "0 on average"


def test_the_level_of_a_set_counts_as_few_prompts() -> None:
    prompts, x, _ = planted(level=2.0)
    found = fit_difficulty(prompts, ABILITY, x, np.ones(3, np.float32))
    assert abs(found.weight[1]) < 1.0, "one set in three is little evidence that its mark makes prompts easier"
    assert found.weight[0] > 0.5


def test_a_column_that_weighs_nothing_is_not_read() -> None:
    prompts, x, _ = planted()
    found = fit_difficulty(prompts, ABILITY, x, np.array([1.0, 1.0, 0.0], np.float32))
    assert found.weight[2] == 0


def test_targets_of_prompts_are_what_they_add_beyond_ability_and_set() -> None:
    prompts, _, true = planted(n=3000, level=1.0)
    targets, sets = prompt_targets(prompts, ABILITY)
    assert np.corrcoef(targets, true)[0, 1] > 0.7, "four answers say so much of a prompt"
    assert sets[2] - sets[:2].mean() == pytest.approx(0.8, abs=0.3)


def test_prompts_without_answers_say_nothing() -> None:
    prompts, x, _ = planted(n=600)
    half = np.arange(600) % 2 == 0
    prompts.observed[~half] = False
    some = LabelledPrompts(prompts.labels[half], prompts.observed[half], prompts.sets[half])
    whole = fit_difficulty(prompts, ABILITY, x, np.ones(3, np.float32))
    part = fit_difficulty(some, ABILITY, x[half], np.ones(3, np.float32))
    np.testing.assert_allclose(whole.weight, part.weight, atol=1e-9)
