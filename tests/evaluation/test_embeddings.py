"""Neighbours, probes and the noise ceiling find what was planted and say when there is too little."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted import NOVICE, SPRINTER, WIZARD, planted_artifact
from planted_parts import matrix

from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.embeddings import (
    accuracy_probes,
    centred_embeddings,
    label_probes,
    llm_map,
    nearest_llms,
    size_class,
)
from embedllm_router.evaluation.metrics import noise_ceiling
from embedllm_router.evaluation.plots import label_places

N = 30


@pytest.fixture
def crowd(tmp_path: Path) -> Artifact:
    """Thirty LLMs: the first axis of their embedding is skill, the second their vendor."""
    base = planted_artifact(tmp_path / "artifact")
    rng = np.random.default_rng(0)
    embeddings = rng.normal(0, 0.05, (N, 4)).astype(np.float32)
    embeddings[:, 0] = np.linspace(-1, 1, N)
    embeddings[:, 1] = np.where(np.arange(N) % 2, 1.0, -1.0)
    llms = tuple(
        LearnedLLM(
            id=f"llm{i}-{7 if i % 3 else 70}b",
            vendor=("east", "west")[i % 2],
            thinking=i > 20,
            n_labels=9,
            mean_correctness=0.5,
        )
        for i in range(N)
    )
    manifest = base.manifest.model_copy(update={"llms": llms})
    return replace(base, manifest=manifest, decoder={**base.decoder, "llm_embeddings": embeddings})


def test_the_nearest_llms_are_those_with_the_same_profile(crowd: Artifact) -> None:
    found = nearest_llms(crowd, "llm29-7b", 5)
    assert [one.vendor for one in found] == ["west"] * 5
    assert found[0].llm == "llm27-70b"
    assert all(a.similarity >= b.similarity for a, b in itertools.pairwise(found))
    assert len(nearest_llms(crowd, "llm0-70b", 99)) == N - 1


def test_similarity_does_not_depend_on_the_basis_of_the_embedding_space(crowd: Artifact) -> None:
    turn = np.random.default_rng(1).normal(0, 1, (4, 4))
    e, w = (crowd.decoder[name].astype(np.float32) for name in ("llm_embeddings", "prompt_network.0.weight"))
    tensors = {**crowd.decoder, "llm_embeddings": e @ turn, "prompt_network.0.weight": np.linalg.inv(turn) @ w}
    assert centred_embeddings(replace(crowd, decoder=tensors)) == pytest.approx(centred_embeddings(crowd), abs=1e-5)


def test_an_unknown_llm_is_refused_with_the_nearest_names(crowd: Artifact) -> None:
    with pytest.raises(ConfigError, match=r"does not know the LLM 'nobody'.*Nearest known ids"):
        nearest_llms(crowd, "nobody", 3)
    with pytest.raises(ConfigError, match="at least 1"):
        nearest_llms(crowd, "llm0-70b", 0)


def test_the_map_keeps_the_two_widest_axes(crowd: Artifact) -> None:
    places, share = llm_map(crowd)
    assert places.shape == (N, 2)
    assert share[0] >= share[1] > 0.1
    assert sum(share) > 0.95


def test_labels_on_the_map_do_not_lie_on_each_other() -> None:
    places = np.array([[0.0, 0.0], [0.0, 0.001], [1.0, 1.0]])
    assert sorted(label_places(places, ["first", "second", "third"])) in ([0, 2], [1, 2])


def test_a_probe_reads_skill_from_the_embedding(crowd: Artifact) -> None:
    rng = np.random.default_rng(0)
    skill = np.linspace(0.1, 0.9, N)
    sets = ("one",) * 200 + ("two",) * 200
    made = matrix((rng.random((400, N)) < skill).astype(float), datasets=sets)
    one, two = accuracy_probes(crowd, made)
    assert (one.benchmark, two.benchmark) == ("one", "two")
    assert one.n_llms == one.n_transfer == N
    assert one.left_out_llm_error < one.mean_error / 2
    assert one.transfer_correlation > 0.9
    assert one.transfer_baseline > 0.9


def test_a_probe_of_too_few_llms_is_not_made(tmp_path: Path) -> None:
    artifact = planted_artifact(tmp_path / "artifact")
    assert accuracy_probes(artifact, matrix(np.ones((50, 3)))) == ()
    assert label_probes(artifact) == ()


def test_probes_tell_what_the_embedding_holds_from_what_it_does_not(crowd: Artifact) -> None:
    vendor, size, reasoning = label_probes(crowd)
    assert (vendor.name, vendor.n_llms, vendor.majority) == ("vendor", N, 0.5)
    assert vendor.accuracy == 1
    assert reasoning.accuracy > 0.9
    assert size.accuracy <= size.majority + 0.1
    assert label_probes(crowd, seed=1) == label_probes(crowd, seed=1)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("llama-3-8b-instruct", "up to 9B"),
        ("mixtral-8x22b", "over 40B"),
        ("qwen2.5-0.5b", "up to 9B"),
        ("qwen1.5-32b-chat", "up to 40B"),
        ("qwen3-30b-a3b", "up to 40B"),
        ("gpt-4o", None),
        ("claude-3-5-sonnet-20240620", None),
    ],
)
def test_size_classes_are_read_from_names(name: str, size: str | None) -> None:
    assert size_class(name) == size


STEM = "which of these very many words make one question number"


def test_the_noise_ceiling_counts_pairs_that_disagree() -> None:
    prompts = (f"{STEM} one?", f"{STEM} one?\nA. this\nB. that", f"{STEM} two?", f"{STEM} one?\nA. other\nB. options")
    labels = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    observed = np.array([[True, True], [True, True], [True, True], [True, False]])
    made = matrix(labels, observed=observed, datasets=("a", "a", "a", "b"), prompts=prompts)
    same, across = noise_ceiling(made)
    assert (same.kind, same.n_questions, same.n_pairs) == ("same data set", 1, 2)
    assert same.disagreement.value == 0.5
    assert same.brier_floor == 0.25
    assert same.log_loss_floor == pytest.approx(math.log(2))
    assert (across.n_pairs, across.disagreement.value) == (2, 0)


def test_the_floor_is_below_the_loss_of_whoever_knows_the_true_probabilities() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(2000)
    labels = (rng.random((2, 2000)) < p).astype(float)
    (found,) = noise_ceiling(matrix(labels, prompts=(f"{STEM} one?",) * 2))
    best = float(np.mean(-(p * np.log(p) + (1 - p) * np.log(1 - p))))
    assert found.brier_floor == pytest.approx(float(np.mean(p * (1 - p))), abs=0.01)
    assert 0.8 * best < found.log_loss_floor < best


def test_without_repeated_questions_there_is_no_ceiling() -> None:
    assert noise_ceiling(matrix(np.ones((3, 2)))) == ()


def test_the_planted_llms_are_known_by_their_names() -> None:
    assert size_class(SPRINTER) == "up to 9B"
    assert size_class(NOVICE) == "up to 9B"
    assert size_class(WIZARD) is None
