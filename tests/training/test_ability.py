"""Abilities: planted ones are found, the gradient is right, and what is expected of kin is what the posterior says."""

import numpy as np
import pytest

from embedllm_router.artifact.kin import LLMKind
from embedllm_router.training.fit import ability
from embedllm_router.training.fit.ability import USUAL_SPREADS, Ability, Cells, count_cells, fit_ability, kin_spec

VENDORS = ("north", "south")


def kind(vendor: str = "north", family: str = "pine", *, thinking: bool = False, usd: float | None = None) -> LLMKind:
    return LLMKind(vendor=vendor, family=family, thinking=thinking, small=False, output_usd_per_mtok=usd)


def planted(n_sets: int = 6, n_llms: int = 30, n: int = 400) -> tuple[Cells, np.ndarray, list[str], list[LLMKind]]:
    """LLMs that think are better by one logit, those of the second vendor by half a one."""
    rng = np.random.default_rng(0)
    ids = [f"{VENDORS[i % 2]}-{i}" for i in range(n_llms)]
    kinds = [kind(VENDORS[i % 2], thinking=i % 3 == 0) for i in range(n_llms)]
    true = np.array([one.thinking + 0.5 * (one.vendor == "south") for one in kinds]) + rng.normal(0, 0.3, n_llms)
    logits = true[None] + rng.normal(0, 0.5, n_sets)[:, None] + rng.normal(0, 0.2, (n_sets, n_llms))
    right = rng.binomial(n, 1 / (1 + np.exp(-logits)))
    return Cells(np.full((n_sets, n_llms), float(n)), right.astype(float)), true, ids, kinds


@pytest.fixture(scope="module")
def fitted() -> tuple[Ability, np.ndarray]:
    cells, true, ids, kinds = planted()
    cells.n[:, -6:] = 0  # the last six were never asked
    cells.n[2:, -12:-6] = 0
    return fit_ability(cells, ids, kinds), true


def test_planted_abilities_are_found(fitted: tuple[Ability, np.ndarray]) -> None:
    found, true = fitted
    error = (found.mean - found.mean.mean()) - (true - true.mean())
    assert np.corrcoef(found.mean[:-12], true[:-12])[0, 1] > 0.95
    assert np.abs(error / found.sd).mean() < 1.5, "they are as far off as the posterior says"


def test_llms_nobody_asked_are_expected_where_their_kin_are(fitted: tuple[Ability, np.ndarray]) -> None:
    found, true = fitted
    unasked, expected = found.mean[-6:], true[-6:]
    assert np.corrcoef(unasked, expected)[0, 1] > 0.7
    assert found.sd[-6:].min() > found.sd[:-12].max(), "and less is known of them"


def test_the_gradient_of_the_evidence_is_right() -> None:
    cells, _, ids, kinds = planted(n_sets=3, n_llms=8)
    answers = ability._Answers.of(cells, ability._Kinship.of(ids, kinds))
    usual = np.log(USUAL_SPREADS.variances()) / 2
    at = usual + np.random.default_rng(1).normal(0, 0.3, 7)
    _, slopes = ability._evidence(at, usual, answers)
    for i, step in enumerate(np.eye(7) * 1e-5):
        up, down = (ability._evidence(at + sign * step, usual, answers)[0] for sign in (1, -1))
        assert slopes[i] == pytest.approx((up - down) / 2e-5, abs=1e-4)


def test_what_is_expected_of_kin_is_the_posterior_of_an_llm_without_answers() -> None:
    """The manifest's formula for an LLM that joins later against the same LLM as one more row of the fit."""
    cells, _, ids, kinds = planted()
    spreads = fit_ability(cells, ids, kinds).spreads
    newcomer = kind("south", "pine", thinking=True)
    more = Cells(*(np.hstack([part, np.zeros((len(part), 1))]) for part in (cells.n, cells.right)))
    whole = fit_ability(more, [*ids, "south-new"], [*kinds, newcomer], spreads)
    spec = kin_spec(whole.kin, ["one"])
    figures = newcomer.figures()
    told = sum(c.weight * (figures[c.name] - c.mean) / c.scale for c in spec.covariates)
    expected = spec.base_ability + told + spec.families["south|pine"][0]
    assert expected == pytest.approx(whole.mean[-1], abs=2e-3)
    assert spec.families["south|pine"][1] == pytest.approx(whole.sd[-1], rel=0.1)
    assert spec.unknown_vendor[1] > spec.families["south|pine"][1]


def test_figures_that_are_the_same_of_all_say_nothing() -> None:
    cells, _, ids, _ = planted()
    found = fit_ability(cells, ids, [kind()] * len(ids))
    assert found.kin.covariates == ()
    assert np.isfinite(found.mean).all()


def test_one_set_and_one_llm_are_enough() -> None:
    found = fit_ability(Cells(np.array([[10.0]]), np.array([[7.0]])), ["only"], [kind()])
    assert 0 < found.mean[0] < 2
    assert found.sd[0] > 0


def test_answers_are_counted_by_set() -> None:
    labels = np.array([[1, 0], [1, 1], [0, 1]])
    observed = np.array([[True, True], [True, False], [True, True]])
    cells = count_cells(labels, observed, np.array([0, 0, 2]))
    assert cells.n.tolist() == [[2, 1], [0, 0], [1, 1]]
    assert cells.right.tolist() == [[2, 0], [0, 0], [0, 1]]
