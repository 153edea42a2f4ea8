"""What training changes in prompts, that it is not what is measured, and that learning from it makes choices steady."""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import stability
import torch
from planted import planted_artifact
from scipy.special import logit

from embedllm_router.data.split import Split
from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.metrics import log_loss
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.prediction.static_encoder import StaticEncoder
from embedllm_router.prediction.text_features import style_features
from embedllm_router.training.fit import fitting
from embedllm_router.training.fit.decoder import LearningData
from embedllm_router.training.fit.encoding import PHRASES, WORDINGS, encode_copies, encode_prompts, perturbed_copy
from embedllm_router.training.fit.fitting import Copies
from embedllm_router.training.fit.options import TrainingOptions, paper_options
from embedllm_router.training.fit.team import Team
from embedllm_router.training.fit.training import train_decoder

PROMPT = "What are the primes below One Hundred?\nName all of them, however long it takes you."


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def words(phrase: str) -> list[str]:
    return re.findall(r"[a-z']+", phrase.lower())


def stands_in(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether some words follow one another in others."""
    return any(list(whole[i : i + len(part)]) == list(part) for i in range(len(whole) - len(part) + 1))


def measured_phrases() -> list[str]:
    frames = [phrase for pair in stability.FRAMES for phrase in pair if phrase]
    return [*stability.GREETINGS, *stability.THANKS, *frames]


def test_no_phrase_that_is_measured_is_trained_with_not_even_as_a_part() -> None:
    for measured in measured_phrases():
        for trained in PHRASES:
            assert not stands_in(words(measured), words(trained)), (measured, trained)
            assert not stands_in(words(trained), words(measured)), (measured, trained)


def test_no_wording_that_is_measured_is_trained_with() -> None:
    measured = {pattern.pattern.replace(r"\b", "").lower() for pattern, _ in stability.WORDINGS}
    measured |= {other.lower() for _, other in stability.WORDINGS}
    assert measured.isdisjoint(one.lower() for pair in WORDINGS for one in pair)
    assert len(measured) == 2 * len(stability.WORDINGS), "the comparison reads them all"


def test_no_typo_that_is_measured_is_trained_with() -> None:
    """Measured ones swap two letters; trained ones leave one out, double it or strike the key beside it."""
    word, swapped = "wonderful", set()
    for seed in range(200):
        swapped.add(stability.CHANGES["typos"](word, random.Random(seed)))
    copies = {perturbed_copy(word, random.Random(seed)) for seed in range(2000)}
    assert len(swapped) > 3
    assert swapped.isdisjoint(copies)


@pytest.mark.parametrize("text", [PROMPT, "", "?", "a b", "Ünïcode prompt, \U0001f600", "{braces} \\1 %s"])
def test_a_copy_is_small_keeps_the_words_and_is_the_same_for_the_same_seed(text: str) -> None:
    for seed in range(60):
        copy = perturbed_copy(text, random.Random(seed))
        assert copy == perturbed_copy(text, random.Random(seed))
        assert len(copy) <= 1.3 * len(text) + 90
        lost = set(words(text)) - set(words(copy))
        assert len(lost) <= 1 + 0.4 * len(set(words(text)))


def test_copies_differ_and_some_change_case_alone() -> None:
    copies = [perturbed_copy(PROMPT, random.Random(seed)) for seed in range(200)]
    assert len(set(copies)) > 60
    assert PROMPT.lower() in copies


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> StaticEncoder:
    return StaticEncoder.from_artifact(planted_artifact(tmp_path_factory.mktemp("planted")))


def test_copies_are_encoded_in_the_order_of_the_prompts(encoder: StaticEncoder) -> None:
    prompts = [f"{PROMPT} {'integral ' * (3 * i)}" for i in range(6)]
    told: list[tuple[str, int, int]] = []
    copies = encode_copies(encoder, prompts, 3, seed=4, progress=lambda name, n, of, _: told.append((name, n, of)))
    assert copies is not None
    assert told[-1] == ("perturbed copies", 18, 18)
    assert (copies.shape, copies.dtype) == ((3, 6, encoder.spec.d_prompt), np.float16)
    rng = random.Random("4 copies")
    for of_prompts in copies:
        texts = [perturbed_copy(text, rng) for text in prompts]
        np.testing.assert_allclose(of_prompts, encode_prompts(encoder, texts), rtol=1e-3, atol=1e-5)
    assert encode_copies(encoder, prompts, 0) is None
    assert encode_copies(encoder, [], 2) is None


def test_prompts_are_encoded_block_by_block_and_progress_is_told(encoder: StaticEncoder) -> None:
    prompts = [f"{PROMPT} {i}" for i in range(1_100)]
    told: list[tuple[str, int, int]] = []
    found = encode_prompts(encoder, prompts, progress=lambda name, n, of, _: told.append((name, n, of)))
    assert told == [("prompts", 0, 1_100), ("prompts", 1_024, 1_100), ("prompts", 1_100, 1_100)]
    np.testing.assert_array_equal(found[1_050], encoder.encode(prompts[1_050]).prompt_embedding)


def test_a_drawn_copy_is_of_its_own_prompt_and_every_copy_is_drawn() -> None:
    prompt, number = torch.meshgrid(torch.arange(50), torch.arange(3), indexing="ij")
    stored = torch.stack([prompt, number], dim=2).transpose(0, 1).half()
    places = torch.tensor([7, 0, 49, 7] * 20)
    drawn = Copies(stored, lambda x: 2 * x, 0.1).draw(places, Team())
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn[:, 0], 2.0 * places)
    assert set(drawn[:, 1].tolist()) == {0.0, 2.0, 4.0}


def test_consistency_grows_from_nothing_to_its_full_weight() -> None:
    copies = Copies(torch.zeros(1, 1, 1), lambda x: x, 2.0)
    assert [copies.weight(step) for step in (0, 250, 500, 5000)] == [0.0, 1.0, 2.0, 2.0]


def test_a_lesson_counts_its_steps_over_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 prompts in batches of 64 are eight steps an epoch."""
    seen: list[int] = []

    def note(self: Copies, step: int) -> float:
        seen.append(step)
        return self.consistency

    monkeypatch.setattr(Copies, "weight", note)
    train_decoder(shouting()[0], replace(OPTIONS, max_epochs=3))
    assert seen == [*range(24), *range(24)], "correctness, then length"


N, N_LLMS = 700, 4
OPTIONS = TrainingOptions(
    hidden=(16,),
    d_llm=4,
    members=1,
    dropout=0.1,
    input_dropout=0.1,
    learning_rate=0.01,
    batch_prompts=64,
    max_epochs=12,
    patience=12,
    category_smoothing=0.0,
    seed=3,
)


def shouting() -> tuple[LearningData, np.ndarray]:
    """Prompts with many digits are for half of the LLMs, and capitals nearly always come with them; also in lower case.

    Both tell the same of the labels, so a decoder leans on both; but only one of them stays when a user does not care
    for capitals.
    """
    rng, texts = np.random.default_rng(0), []
    hard = rng.random(N) < 0.5
    for many in hard:
        like = rng.random() < 0.95
        share = 0.7 if many == like else 0.1
        chosen = rng.choice(["river", "stone", "cloud", "meadow", "forest", "engine"], 12).tolist()
        cased = [word.capitalize() if rng.random() < share else word for word in chosen]
        texts.append(" ".join(cased) + " " + "7 " * int(rng.integers(4, 9) if many else rng.integers(0, 5)))
    x = np.stack([style_features(text) for text in texts])
    rows, random_copies = np.arange(N), random.Random(0)
    train = [texts[i] for i in rows[:500]]
    copies = [[style_features(perturbed_copy(text, random_copies)) for text in train] for _ in range(2)]
    right = hard[:, None] ^ (np.arange(N_LLMS) < N_LLMS // 2)
    data = LearningData(
        x=x,
        labels=(right ^ (rng.random(right.shape) < 0.1)).astype(np.uint8),
        observed=rng.random(right.shape) < 0.8,
        log_tokens=(4 + hard[:, None] + rng.normal(0, 0.2, right.shape)).astype(np.float32),
        thinking=np.zeros(N_LLMS, dtype=np.bool_),
        categories=np.zeros(N, dtype=np.int64),
        split=Split(rows[:500], rows[500:600], rows[600:]),
        copies=np.array(copies, dtype=np.float16),
    )
    return data, np.stack([style_features(text.lower()) for text in texts])[600:]


def moved(data: LearningData, lower: np.ndarray, options: TrainingOptions) -> tuple[float, float, float]:
    """Mean change of logits and of log tokens by lower case on held-out prompts, and their log-loss as they are."""
    scorer = Scorer(train_decoder(data, options).decoder.tensors())
    test = data.split.test
    before, after = ([scorer.score(row) for row in rows] for rows in (data.x[test], lower))
    p, q = (np.stack([score.p_correct for score in scores]) for scores in (before, after))
    tokens, then = (np.log([score.output_tokens for score in scores]) for scores in (before, after))
    loss = log_loss(data.labels[test].ravel().astype(np.float32), p.ravel())
    return float(np.abs(logit(p) - logit(q)).mean()), float(np.abs(tokens - then).mean()), loss


def test_consistency_makes_predictions_overlook_case_without_predicting_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_GROWING_STEPS", 200)  # half of this short training's
    data, lower = shouting()
    options = replace(OPTIONS, batch_prompts=32, learning_rate=0.01, max_epochs=16)
    bare = moved(replace(data, copies=None), lower, options)
    beside = moved(data, lower, replace(options, consistency=0.0))
    steady = moved(data, lower, replace(options, consistency=4.0))
    assert steady[0] < 0.5 * bare[0]
    assert steady[0] < 0.7 * beside[0], "copies beside the prompts alone do less"
    assert steady[1] < 0.5 * bare[1], "lengths too"
    assert steady[2] < bare[2] + 0.02


def test_without_copies_the_options_about_them_change_nothing() -> None:
    data = replace(shouting()[0], copies=None)
    quick = replace(OPTIONS, max_epochs=2)
    plain, other = (train_decoder(data, replace(quick, consistency=c)).decoder.tensors() for c in (0.0, 5.0))
    assert all(np.array_equal(plain[name], other[name]) for name in plain)


@pytest.mark.parametrize("bad", [{"perturbed_copies": -1}, {"consistency": -0.1}, {"consistency": math.inf}])
def test_impossible_options_are_refused_by_name(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        replace(TrainingOptions(), **bad)


def test_the_papers_decoder_learns_from_no_copies() -> None:
    assert paper_options().perturbed_copies == 0
    with pytest.raises(ConfigError, match="perturbed_copies"):
        replace(paper_options(), perturbed_copies=2)
