"""What changes of all LLMs at once is found from few verdicts, carries over to LLMs without any, and folds exactly."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from planted import planted_artifact
from planted_hedge import NOVEL, ORDINARY, drawn_rows, hedged_artifact
from scipy.integrate import quad
from scipy.optimize import minimize

from embedllm_router._stats import losses, sigmoid
from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.linear_decoder import LinearDecoder
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.training.add_llm import embed
from embedllm_router.training.update.adaptation import (
    ALL,
    OFFSETS,
    Adaptation,
    Coefficient,
    Directions,
    Freedom,
    adapt,
    shift_of_all,
)
from embedllm_router.training.update.answers import Answers
from embedllm_router.training.update.fit import learn_update

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def hedged(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return hedged_artifact(tmp_path_factory.mktemp("hedged") / "weights", drawn_rows(12, 0))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return planted_artifact(tmp_path_factory.mktemp("plain") / "weights")


def worded(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice([*ORDINARY, NOVEL], size=rng.integers(1, 4))) for _ in range(n)]


def answers_of(artifact: Artifact, texts: list[str], llms: NDArray[np.intp]) -> Answers:
    """Answers of LLMs to texts, none of them judged yet."""
    decoder, prompts = LinearDecoder(artifact), embed(artifact, texts)
    columns, rows, n = decoder.columns(prompts), decoder.evened_rows(), decoder.n_free
    mean_row = rows.mean(axis=0)
    return Answers(
        llm=llms,
        score=np.zeros(len(texts)),
        weight=np.ones(len(texts)),
        logit=np.einsum("ij,ij->i", columns, rows[llms], dtype=np.float64),
        own=np.einsum("ij,ij->i", columns[:, :n], rows[llms, :n], dtype=np.float64),
        columns=columns[:, :n],
        typical=columns @ mean_row,
        own_typical=columns[:, :n] @ mean_row[:n],
        shared=decoder.shared(prompts, columns),
        shared_widths=decoder.shared_widths,
        hedged=n < columns.shape[1],
        key=tuple(str(i) for i in range(len(texts))),
        verdicts=((),) * len(texts),
    )


def every_pair(artifact: Artifact, texts: list[str]) -> Answers:
    n = len(artifact.manifest.llms)
    return answers_of(artifact, [text for text in texts for _ in range(n)], np.tile(np.arange(n), len(texts)))


def served(artifact: Artifact, texts: list[str]) -> Floats:
    """Logits of every LLM by the scorer, (n_texts · n_llms,)."""
    scorer = Scorer.from_artifact(artifact, shrinks=artifact.manifest.hedge is not None)
    p = np.stack([scorer.score(one).p_correct for one in embed(artifact, texts)]).astype(np.float64)
    return np.log(p / (1 - p)).ravel()


@pytest.mark.parametrize("which", ["hedged", "plain"])
def test_adapted_weights_serve_what_the_adaptation_says(which: str, request: pytest.FixtureRequest) -> None:
    """On ordinary prompts, on novel ones, for LLMs with an offset and without."""
    artifact: Artifact = request.getfixturevalue(which)
    texts = worded(30, 1)
    answers = every_pair(artifact, texts)
    kinds = Directions.of(answers.shared, answers.shared_widths)
    adaptation = Adaptation(
        ALL,
        common=Coefficient(-0.4),
        difficulty=Coefficient(0.3),
        differences=Coefficient(-0.2),
        offsets={1: Coefficient(0.6)},
        pivot=0.5,
        kinds=kinds,
        along=np.random.default_rng(0).normal(0.0, 0.3, (kinds.basis.shape[1],)),
    )
    adapted, new = adaptation.adapted(answers), adaptation.applied(artifact)
    np.testing.assert_allclose(served(new, texts), adapted.logit, atol=2e-4)
    np.testing.assert_allclose(every_pair(new, texts).own, adapted.own, atol=2e-4)
    assert np.abs(adapted.logit - answers.logit).max() > 0.5
    assert adapted.typical is answers.typical


def test_no_adaptation_is_the_weights_themselves(hedged: Artifact) -> None:
    answers = every_pair(hedged, worded(3, 0))
    assert Adaptation().applied(hedged) is hedged
    assert Adaptation().adapted(answers) is answers
    assert not Adaptation().changes


def judged(answers: Answers, true_logit: Floats, seed: int) -> Answers:
    right = np.random.default_rng(seed).random(len(answers)) < sigmoid(true_logit)
    return replace(answers, score=right.astype(np.float64))


def world(artifact: Artifact, n: int, seed: int) -> Answers:
    """A verdict each on n prompts, of an LLM drawn by chance."""
    llms = np.random.default_rng(seed).integers(len(artifact.manifest.llms), size=n)
    return answers_of(artifact, worded(n, seed + 100), llms)


def excess(adaptation: Adaptation, truth: Floats, answers: Answers) -> tuple[float, float]:
    """Mean log-loss beyond that of the truth, before and after."""
    p = sigmoid(truth)
    least = float(losses(truth, p).mean())
    before, after = answers.logit, adaptation.adapted(answers).logit
    return float(losses(before, p).mean()) - least, float(losses(after, p).mean()) - least


def test_prompts_that_are_harder_than_predicted_are_noticed_with_forty_verdicts(hedged: Artifact) -> None:
    few = world(hedged, 40, 0)
    found = adapt(judged(few, few.logit - 1.5, 1))
    assert found.changes
    assert found.common.value < -0.5
    rest = every_pair(hedged, worded(40, 7))
    before, after = excess(found, rest.logit - 1.5, rest)
    assert after < before / 2


def test_difficulty_that_counts_for_more_is_learned(hedged: Artifact) -> None:
    many = world(hedged, 1_500, 0)
    harder = many.logit + 0.8 * (many.typical - many.typical.mean())
    found = adapt(judged(many, harder, 1))
    moved = found.adapted(many).logit - many.logit
    assert np.corrcoef(moved, many.typical)[0, 1] > 0.9
    assert found.difficulty.value > 0.1


def test_differences_that_count_for_less_are_learned(hedged: Artifact) -> None:
    many = world(hedged, 1_500, 2)
    found = adapt(judged(many, many.typical + 0.3 * (many.logit - many.typical), 3))
    assert found.differences.value == pytest.approx(-0.7, abs=0.2)
    assert abs(found.common.value) < 0.3


@pytest.mark.parametrize("which", ["hedged", "plain"])
def test_a_topic_that_is_harder_for_all_is_learned_also_for_an_llm_nobody_spoke_of(
    which: str, request: pytest.FixtureRequest
) -> None:
    artifact: Artifact = request.getfixturevalue(which)
    n = len(artifact.manifest.llms)
    many = world(artifact, 800, 4)
    harder = np.array([-2.0 * (ORDINARY[1] in text) for text in worded(800, 104)])
    spoken = many.select(many.llm != n - 1) if n > 3 else many
    harder = harder[many.llm != n - 1] if n > 3 else harder
    found = adapt(judged(spoken, spoken.logit + harder, 5))
    texts = [ORDINARY[0], ORDINARY[1]]
    change = (served(found.applied(artifact), texts) - served(artifact, texts)).reshape(2, n)[:, -1]
    assert change[1] - change[0] < -0.7


def test_an_llm_that_is_worse_than_known_gets_an_offset_and_the_others_hardly_move(hedged: Artifact) -> None:
    many = world(hedged, 1_500, 6)
    found = adapt(judged(many, many.logit - 2.0 * (many.llm == 3), 7))
    assert found.offsets[3].value < -1.0
    assert abs(found.common.value) < 0.15
    rest = every_pair(hedged, worded(20, 8))
    moved = found.adapted(rest).logit - rest.logit
    assert np.abs(moved[rest.llm != 3]).mean() < 0.3


def test_what_one_llm_does_alone_is_not_taken_for_what_all_do(hedged: Artifact) -> None:
    """It fails one topic outright; from the others one cannot tell, so nothing shared is learned."""
    many = world(hedged, 1_500, 9)
    topic = np.array([ORDINARY[1] in text for text in worded(1_500, 109)])
    found = adapt(judged(many, many.logit - 5.0 * (topic & (many.llm == 3)), 10))
    assert found.freedom in {OFFSETS, Adaptation().freedom}


@pytest.mark.parametrize("n", [40, 200, 1000])
def test_verdicts_as_predicted_change_nothing(hedged: Artifact, n: int) -> None:
    worlds = [world(hedged, n, seed) for seed in range(8)]
    assert sum(adapt(judged(few, few.logit, seed)).changes for seed, few in enumerate(worlds)) <= 2


def test_the_ladder_climbs_from_what_all_llms_share(hedged: Artifact) -> None:
    """An LLM that moved with the others needs no change of its own."""
    many = world(hedged, 1_500, 11)
    update = learn_update(judged(many, many.logit - 1.5, 12))
    assert update.adaptation.common.value == pytest.approx(-1.5, abs=0.5)
    assert sum(fit.change.changes for fit in update.fits.values()) <= 4
    np.testing.assert_allclose(
        served(update.applied(hedged), worded(5, 13)), update.logit(every_pair(hedged, worded(5, 13))), atol=1e-3
    )


def test_the_fit_and_its_evidence_beside_a_naive_one(hedged: Artifact) -> None:
    """One coefficient, so that the evidence can be integrated; and the maximum of all terms by a general optimiser."""
    few = world(hedged, 60, 14)
    few = judged(few, few.logit + 1.0, 15)
    only_common = Freedom("common", common=0.7)
    found = adapt(few, [only_common])

    def density(shift: float) -> float:
        fit = -losses(few.logit + shift, few.score).sum() + losses(few.logit, few.score).sum()
        return float(np.exp(fit - 0.5 * (shift / 0.7) ** 2) / (0.7 * np.sqrt(2 * np.pi)))

    total = quad(density, -4, 4)[0]
    assert found.gain == pytest.approx(np.log(total), abs=0.05)

    def objective(c: Floats) -> float:
        scaled = c[1] * (few.typical - few.typical.mean()) + c[2] * (few.logit - few.typical)
        z = few.logit + c[0] + scaled + c[3 + few.llm]
        spreads = np.array([0.7, 0.4, 0.6, *[0.5] * 12])
        return float(losses(z, few.score).sum() + 0.5 * ((c / spreads) ** 2).sum())

    best = minimize(objective, np.zeros(15), method="BFGS").x
    every = adapt(few, [replace(ALL, kind=0.0)])
    assert every.difficulty.value == pytest.approx(best[1], abs=1e-3)
    assert every.differences.value == pytest.approx(best[2], abs=1e-3)
    for row, one in every.offsets.items():
        assert every.common.value + one.value == pytest.approx(best[0] + best[3 + row], abs=1e-3)


def test_directions_have_length_one_a_block_and_are_orthogonal() -> None:
    rng = np.random.default_rng(0)
    prompts = (rng.normal(size=(400, 9)) * [10, 5, 1, 1, 0, 0.1, 0.1, 0.1, 0.1] + 3).astype(np.float32)
    for some in (prompts, prompts[:4]):
        kinds = Directions.of(some, (5, 4))
        places = kinds.of_prompts(some)
        assert np.mean((places**2).sum(axis=1)) == pytest.approx(2.0, abs=1e-3)
        products = kinds.basis.T @ kinds.basis
        assert np.abs(products - np.diag(np.diag(products))).max() < 1e-6
        np.testing.assert_allclose(places.mean(axis=0), 0.0, atol=1e-5)
    assert not Directions.of(prompts, (5, 4)).of_prompts(np.full((2, 9), np.nan, dtype=np.float32)).any()


def test_two_llms_cannot_tell_what_all_share() -> None:
    assert shift_of_all(np.array([-3.0, -3.0]), np.array([0.01, 0.01]), OFFSETS) == 0.0
