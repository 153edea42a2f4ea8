"""Landmarks: what they are made of, that the nearest are the nearest, and that they come and go without a trace."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import planted_artifact
from synthetic import tiny_matrix

from embedllm_router.artifact.manifest import Landmark
from embedllm_router.artifact.weights import Artifact, load_artifact, save_artifact
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.ood_score import Landmarks, OodScorer
from embedllm_router.routing.router import Router
from embedllm_router.training.fit.landmarks import FoundLandmarks, find_landmarks, measure_landmarks, measure_ood

PLAIN = {"input_mean": np.zeros(5, np.float32), "input_scale": np.ones(5, np.float32)}


def prompts_of(categories: list[str], *, right: float = 1.0) -> CorrectnessMatrix:
    matrix = tiny_matrix([[right, 0.0]] * len(categories))
    return replace(matrix, categories=tuple(categories))


def clouds(n: int, seed: int) -> tuple[CorrectnessMatrix, np.ndarray]:
    """Two categories a little apart in column 0, each wide in column 1, where they do not differ."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.1, (2 * n, 5))
    x[:, 1] += rng.normal(0, 3, 2 * n)
    x[:n, 0] += 1
    return prompts_of(["left"] * n + ["right"] * n), x.astype(np.float32)


def test_the_nearest_agree_with_a_loop() -> None:
    rng = np.random.default_rng(0)
    known = [Landmark(name=f"set/{i}", n_prompts=i + 1, mean_correctness=i / 10) for i in range(9)]
    tensors = {n: rng.normal(size=s).astype(np.float16) for n, s in (("projection", (3, 5)), ("landmarks", (9, 3)))}
    decoder = {"input_mean": rng.normal(size=5), "input_scale": rng.uniform(0.1, 2, 5)}
    landmarks = Landmarks(known, tensors, decoder)
    for x in (*rng.normal(size=(20, 5)).astype(np.float32), np.full(5, 1e6, np.float32)):
        clipped = [min(max(float(v), -8.0), 8.0) for v in (x - decoder["input_mean"]) / decoder["input_scale"]]
        place = tensors["projection"].astype(float) @ clipped
        naive = [float(np.linalg.norm(place - row)) for row in tensors["landmarks"].astype(float)]
        found = landmarks.nearest(x, n=4)
        assert [one.name for one in found] == [f"set/{i}" for i in sorted(range(9), key=naive.__getitem__)[:4]]
        assert [one.distance for one in found] == pytest.approx(sorted(naive)[:4], rel=1e-4, abs=1e-4)
        assert found[0].share == pytest.approx(found[0].n_prompts / 45)
        assert found[0].mean_correctness == pytest.approx((found[0].n_prompts - 1) / 10)


def test_a_prompt_without_text_is_near_to_nothing() -> None:
    matrix, x = clouds(30, 0)
    found = find_landmarks(matrix, x, PLAIN)
    assert Landmarks(found.known, found.tensors, PLAIN).nearest(None) == ()


def test_a_category_of_twenty_prompts_is_a_landmark_and_one_of_nineteen_is_none() -> None:
    matrix = prompts_of(["large"] * 20 + ["small"] * 19)
    x = np.random.default_rng(0).normal(size=(39, 5)).astype(np.float32)
    (landmark,) = find_landmarks(matrix, x, PLAIN).known
    assert (landmark.name, landmark.n_prompts) == ("made_up/large", 20)
    assert find_landmarks(matrix.select_prompts(np.arange(20, 39)), x[20:], PLAIN).known == ()


def test_mean_correctness_counts_graded_answers_only() -> None:
    matrix = prompts_of(["a"] * 20)
    observed = np.array([[True, i < 5] for i in range(20)])
    (landmark,) = find_landmarks(replace(matrix, observed=observed), np.eye(20, 5, dtype=np.float32), PLAIN).known
    assert landmark.mean_correctness == 20 / 25


def test_a_direction_in_which_categories_vary_but_do_not_differ_counts_for_little() -> None:
    train, x = clouds(25, 0)
    test, x_test = clouds(200, 1)
    found = find_landmarks(train, x, PLAIN)
    landmarks = Landmarks(found.known, found.tensors, PLAIN)
    assert measure_landmarks(landmarks, x_test, test.category_names())["landmark_own"] > 0.99
    means = np.stack([x[:25].mean(axis=0), x[25:].mean(axis=0)])
    plain = ((x_test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1) == np.repeat([0, 1], 200)
    assert plain.mean() < 0.8


def test_one_is_the_usual_distance_of_a_training_prompt_to_its_own_category() -> None:
    train, x = clouds(200, 0)
    found = find_landmarks(train, x, PLAIN)
    landmarks = Landmarks(found.known, found.tensors, PLAIN)
    own = [
        next(one.distance for one in landmarks.nearest(row) if one.name == name)
        for row, name in zip(x, train.category_names().tolist(), strict=True)
    ]
    assert np.sqrt(np.mean(np.square(own))) == pytest.approx(1, rel=0.01)


def test_measured_shares_are_of_prompts_whose_category_has_a_landmark() -> None:
    known = tuple(Landmark(name=n, n_prompts=1, mean_correctness=0) for n in ("a/x", "a/y", "b/x", "b/y"))
    row = np.array([[0.0], [1.0], [2.0], [3.0]], np.float16)
    found = FoundLandmarks(known, {"projection": np.eye(1, 5, dtype=np.float16), "landmarks": row})
    x = np.zeros((5, 5), np.float32)
    x[:, 0] = (0.1, 0.1, 3.1, 1.9, 0.0)
    landmarks = Landmarks(found.known, found.tensors, PLAIN)
    measured = measure_landmarks(landmarks, x, np.array(["a/x", "a/y", "a/x", "b/x", "c/none"]))
    assert measured == {"landmark_own": 0.5, "landmark_own_in_3": 0.75, "landmark_own_set": 0.75}


def test_categories_of_one_repeated_prompt_make_finite_landmarks() -> None:
    x = np.repeat(np.eye(3, 5, dtype=np.float32) * 8, 20, axis=0)
    found = find_landmarks(prompts_of(["a"] * 20 + ["b"] * 20 + ["c"] * 20), x, PLAIN)
    assert all(np.isfinite(tensor).all() for tensor in found.tensors.values())
    nearest = [Landmarks(found.known, found.tensors, PLAIN).nearest(row)[0].name for row in x[::20]]
    assert nearest == ["made_up/a", "made_up/b", "made_up/c"]


@pytest.fixture
def with_landmarks(tmp_path: Path) -> Artifact:
    """The planted artifact with a landmark for each of two topics."""
    plain = planted_artifact(tmp_path / "artifact")
    router = Router(plain)
    rng = np.random.default_rng(0)
    texts = [
        " ".join(rng.choice(["hello", word], 9, p=[0.3, 0.7])) for word in ("statute", "function") for _ in range(25)
    ]
    x = np.stack([router.encode(text).prompt_embedding for text in texts])
    found = find_landmarks(prompts_of(["law"] * 25 + ["code"] * 25), x, plain.decoder)
    return save_artifact(
        tmp_path / "artifact",
        found.described_in(plain.manifest),
        encoder=plain.encoder,
        decoder=plain.decoder,
        tokenizer_json=plain.tokenizer_json,
        model_card="",
        landmarks=found.tensors,
    )


def test_a_saved_landmark_is_found_again_by_its_words(with_landmarks: Artifact) -> None:
    router, landmarks = Router(with_landmarks), Landmarks.from_artifact(with_landmarks)
    assert len(landmarks) == 2
    for text, name in (("statute statute hello", "made_up/law"), ("function hello function", "made_up/code")):
        assert landmarks.nearest(router.encode(text).prompt_embedding)[0].name == name


@pytest.mark.parametrize(
    ("tensor", "value", "words"),
    [
        (
            "landmarks",
            np.zeros((3, 1), np.float16),
            r"landmarks is float16 \(3, 1\), the manifest says float16 \(2, 1\)",
        ),
        ("landmarks", np.zeros((2, 1), np.float32), "landmarks is float32"),
        ("projection", np.full((1, 124), np.inf, np.float16), "projection holds NaN or infinity"),
    ],
)
def test_tensors_that_do_not_fit_the_landmarks_are_refused(
    with_landmarks: Artifact, tmp_path: Path, tensor: str, value: np.ndarray, words: str
) -> None:
    folder = tmp_path / "artifact"
    with pytest.raises(ArtifactError, match=words):
        save_artifact(
            folder,
            with_landmarks.manifest,
            encoder=with_landmarks.encoder,
            decoder=with_landmarks.decoder,
            tokenizer_json=with_landmarks.tokenizer_json,
            model_card="",
            landmarks={**with_landmarks.landmarks, tensor: value},
        )
    assert load_artifact(folder).id == with_landmarks.id


def test_a_damaged_or_missing_landmarks_file_is_refused(with_landmarks: Artifact, tmp_path: Path) -> None:
    assert with_landmarks.manifest.landmarks
    file = tmp_path / "artifact" / "landmarks.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"landmarks\.safetensors has SHA-256"):
        load_artifact(file.parent)
    file.unlink()
    with pytest.raises(ArtifactError, match=r"cannot read landmarks\.safetensors"):
        load_artifact(file.parent)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(d_landmark=0), "both or neither must be 0"),
        (lambda m: m["landmarks"].append(m["landmarks"][0]), r"landmarks repeat \['made_up/code'\]"),
        (lambda m: m["landmarks"][0].update(mean_correctness=1.5), "mean_correctness"),
    ],
)
def test_a_manifest_whose_landmarks_do_not_fit_says_where(
    with_landmarks: Artifact, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    assert with_landmarks.manifest.landmarks
    file = tmp_path / "artifact" / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=words):
        load_artifact(file.parent)


def test_landmarks_change_no_decision(with_landmarks: Artifact, tmp_path: Path) -> None:
    plain = Router(planted_artifact(tmp_path / "plain"))
    assert plain.artifact.id != with_landmarks.id
    one, other = (r.route("hello statute").decision.assessments() for r in (plain, Router(with_landmarks)))
    assert one == other


def test_an_artifact_without_landmarks_still_loads_and_is_near_to_nothing(tmp_path: Path) -> None:
    planted_artifact(tmp_path / "artifact")
    file = tmp_path / "artifact" / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["landmarks"], manifest["d_landmark"]  # as written before there were any
    file.write_text(json.dumps(manifest))
    artifact = load_artifact(tmp_path / "artifact")
    assert artifact.manifest.format_version == 1
    landmarks = Landmarks.from_artifact(artifact)
    assert len(landmarks) == 0
    assert landmarks.nearest(Router(artifact).encode("hello").prompt_embedding) == ()


def test_novelty_of_prompts_like_the_training_prompts_is_evenly_spread_and_of_others_high() -> None:
    train, x = clouds(200, 0)
    _, held_out = clouds(300, 1)
    _, later = clouds(300, 2)
    found = find_landmarks(train, x, PLAIN)
    landmarks = Landmarks(found.known, found.tensors, PLAIN)
    spec = measure_ood(landmarks, train, held_out)
    assert spec is not None
    assert spec.n_prompts == 600
    novelty = OodScorer(landmarks, spec, [])
    ordinary = np.array([novelty.shrinkage(row).ood_score for row in later])
    assert ordinary.mean() == pytest.approx(0.5, abs=0.05)
    assert np.quantile(ordinary, 0.9) == pytest.approx(0.9, abs=0.05)
    later[:, 0] += 4
    assert min(novelty.shrinkage(row).ood_score or 0.0 for row in later) > 0.99


def test_where_hardly_a_prompt_is_nearest_the_spread_is_what_is_usual() -> None:
    train, x = clouds(30, 0)
    found = find_landmarks(train, x, PLAIN)
    assert [one.spread for one in found.known] == pytest.approx([1.0, 1.0], rel=0.4)
    lonely = prompts_of(["a"] * 20 + ["b"] * 20)
    same = find_landmarks(lonely, np.zeros((40, 5), np.float32), PLAIN)  # both landmarks in one place: "a" is nearest
    assert same.known[1].spread > 0
