"""Weights with a broad network and a hedge: the formula, written down a second time, and the ends of the gate."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import WORDS, planted_artifact
from random_weights import SMALL, Sizes, random_weights

from embedllm_router.artifact.manifest import EncoderSpec, LearnedLLM, Manifest
from embedllm_router.artifact.weights import Artifact, load_artifact, save_artifact
from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.ood_score import Landmarks, Shrinkage
from embedllm_router.prediction.scorer import Scorer, Scores
from embedllm_router.prediction.static_encoder import StaticEncoder, unit_sum

LINEAR = replace(SMALL, hidden=(), broad_hidden=())
DEEP = replace(SMALL, hidden=(5, 4), broad_hidden=(4, 3))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("hedge")
    return random_weights(planted_artifact(folder / "base"), folder / "weights", SMALL)


def scaled(x: Sequence[float], bound: float) -> list[float]:
    return [max(-bound, min(bound, one)) for one in x]


def dense(t: Mapping[str, Any], network: str, depth: int, x: list[float]) -> list[float]:
    for layer in range(depth):
        weight, bias = t[f"{network}.{layer}.weight"], t[f"{network}.{layer}.bias"]
        x = [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        if layer < depth - 1:
            x = [max(one, 0.0) for one in x]
    return x


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(one * other for one, other in zip(a, b, strict=True))


class Naive:
    """Everything again, in plain Python and double precision, as the manifest's words have it."""

    def __init__(self, artifact: Artifact) -> None:
        self.manifest: Manifest = artifact.manifest
        self.t = {name: tensor.astype(np.float64).tolist() for name, tensor in artifact.decoder.items()}
        self.l = {name: tensor.astype(np.float64).tolist() for name, tensor in artifact.landmarks.items()}

    def inputs(self, embedding: Sequence[float] | None) -> list[float]:
        if embedding is None:
            return [0.0] * self.manifest.encoder.d_prompt
        places = zip(embedding, self.t["input_mean"], self.t["input_scale"], strict=True)
        return scaled([(one - mean) / scale for one, mean, scale in places], self.manifest.decoder.max_deviation)

    def gate(self, embedding: Sequence[float] | None) -> float:
        hedge = self.manifest.hedge
        assert hedge is not None
        if embedding is None:
            return 1.0
        x = self.inputs(embedding)
        place = [dot(row, x) for row in self.l["projection"]]
        novelty = math.log(max(min(math.dist(place, one) for one in self.l["points"]), 1e-3))
        opened = hedge.gate_bias + hedge.gate_weight * (novelty - hedge.gate_mean) / hedge.gate_scale
        return 1 / (1 + math.exp(-opened))

    def p_correct(self, embedding: Sequence[float] | None, h: float) -> list[float]:
        t, hedge, broad = self.t, self.manifest.hedge, self.manifest.decoder.broad
        assert hedge is not None
        assert broad is not None
        x = self.inputs(embedding)
        narrow = scaled([x[i] for start, end in broad.columns for i in range(start, end)], broad.max_deviation)
        f = dense(t, "prompt_network", len(self.manifest.decoder.hidden) + 1, x)
        g = dense(t, "broad_network", len(broad.hidden) + 1, narrow)
        difficulty = dot(t["difficulty_weight"], narrow) + t["difficulty_bias"][0]
        common = dot(t["reference_embedding"], g) + t["reference_bias"][0]
        found = []
        for llm in range(len(self.manifest.llms)):
            w = dot(t["broad_embeddings"][llm], g) + t["broad_bias"][llm]
            inside = t["llm_bias"][llm] + dot(t["llm_embeddings"][llm], f) + difficulty + hedge.broad_weight * w
            outside = (
                hedge.base
                + hedge.ability_share * (t["ability"][llm] - hedge.mean_ability)
                + hedge.difficulty_share * difficulty
                + hedge.common_share * common
                + hedge.difference_share * (w - common)
            )
            logit = hedge.offset + hedge.slope * ((1 - h) * hedge.temperature * inside + h * outside)
            found.append(1 / (1 + math.exp(-logit)))
        return found


def embeddings(artifact: Artifact, n: int = 12) -> list[np.ndarray]:
    """Of words, of wild prompts that are clipped, and of one on top of the average."""
    encoder, rng = StaticEncoder.from_artifact(artifact), np.random.default_rng(1)
    of_words = [encoder.encode(" ".join(rng.choice(list(WORDS), 3))).prompt_embedding for _ in range(n)]
    wild = [one + rng.normal(scale=2.0, size=one.shape).astype(np.float32) for one in of_words]
    return [*of_words, *wild, artifact.decoder["input_mean"].astype(np.float32)]


@pytest.mark.parametrize("sizes", [SMALL, LINEAR, DEEP], ids=["small", "linear", "deep"])
def test_predictions_are_those_of_the_formula(tmp_path: Path, sizes: Sizes) -> None:
    artifact = random_weights(planted_artifact(tmp_path / "base"), tmp_path / "weights", sizes, seed=3)
    naive, scorer = Naive(artifact), Scorer.from_artifact(artifact)
    strengths = []
    for embedding in embeddings(artifact):
        scores = scorer.score(embedding)
        h = naive.gate(embedding.tolist())
        assert scores.shrinkage.strength == pytest.approx(h, abs=1e-4)
        np.testing.assert_allclose(scores.p_correct, naive.p_correct(embedding.tolist(), h), atol=2e-5)
        assert scores.p_correct.dtype == np.float32
        strengths.append(h)
    assert min(strengths) < max(strengths) - 0.1, "the gate tells prompts apart"


def test_the_bare_scorer_predicts_every_prompt_as_one_like_those_of_training(artifact: Artifact) -> None:
    naive, bare = Naive(artifact), Scorer.from_artifact(artifact, shrinks=False)
    for embedding in [*embeddings(artifact), None]:
        given = None if embedding is None else embedding.tolist()
        np.testing.assert_allclose(bare.score(embedding).p_correct, naive.p_correct(given, 0.0), atol=2e-5)


def test_what_was_predicted_before_the_hedge_is_kept_beside(artifact: Artifact) -> None:
    naive, scorer = Naive(artifact), Scorer.from_artifact(artifact)
    for embedding in [*embeddings(artifact), None]:
        scores = scorer.score(embedding)
        assert scores.unshrunk_logits is not None
        given, before = None if embedding is None else embedding.tolist(), 1 / (1 + np.exp(-scores.unshrunk_logits))
        np.testing.assert_allclose(before, naive.p_correct(given, 0.0), atol=2e-5)
        assert np.abs(before - scores.p_correct).max() > 1e-3
    assert Scorer.from_artifact(artifact, shrinks=False).score(None).unshrunk_logits is None


def test_a_prompt_without_text_is_the_average_prompt_of_an_unknown_kind(artifact: Artifact) -> None:
    scores = Scorer.from_artifact(artifact).score(None)
    np.testing.assert_allclose(scores.p_correct, Naive(artifact).p_correct(None, 1.0), atol=2e-5)
    assert scores.shrinkage == Shrinkage(strength=1.0)


@pytest.mark.parametrize("drift", [0.0, 0.3, 1.0])
def test_a_callers_drift_closes_the_rest_of_the_way(artifact: Artifact, drift: float) -> None:
    naive, scorer = Naive(artifact), Scorer.from_artifact(artifact)
    for embedding in embeddings(artifact, 3):
        own = scorer.score(embedding).shrinkage.strength
        scores, h = scorer.score(embedding, drift), own + (1 - own) * drift
        assert scores.shrinkage.strength == pytest.approx(h)
        np.testing.assert_allclose(scores.p_correct, naive.p_correct(embedding.tolist(), h), atol=2e-5)


def gated(artifact: Artifact, **gate: object) -> Artifact:
    assert artifact.manifest.hedge is not None
    hedge = artifact.manifest.hedge.model_copy(update=gate)
    return replace(artifact, manifest=artifact.manifest.model_copy(update={"hedge": hedge}))


@pytest.mark.parametrize("h", [0.0, 1.0])
def test_a_gate_that_is_shut_or_open_leaves_one_of_both_predictions(artifact: Artifact, h: float) -> None:
    extreme = gated(artifact, gate_bias=1e4 * (2 * h - 1))
    for embedding in embeddings(artifact, 3):
        scores = Scorer.from_artifact(extreme).score(embedding)
        assert scores.shrinkage.strength == pytest.approx(h, abs=1e-9)
        np.testing.assert_allclose(scores.p_correct, Naive(artifact).p_correct(embedding.tolist(), h), atol=2e-5)


def test_a_prompt_that_training_saw_has_no_distance_and_a_finite_prediction(artifact: Artifact) -> None:
    """Its point is its own place: the logarithm of nothing is cut off, and the gate is shut."""
    mean = artifact.decoder["input_mean"].astype(np.float32)
    there = {**artifact.landmarks, "points": np.zeros_like(artifact.landmarks["points"])}
    scores = Scorer.from_artifact(replace(artifact, landmarks=there)).score(mean)
    assert np.isfinite(scores.p_correct).all()
    assert scores.shrinkage.strength < 1e-4


def test_being_an_ordinary_prompt_widens_nothing_although_the_gate_is_never_shut(artifact: Artifact) -> None:
    """Uncertainty is that of ordinary prompts unless one prompt in a hundred lies as far, or the caller's do."""
    scorer = Scorer.from_artifact(artifact)
    found = [scorer.score(embedding).shrinkage for embedding in embeddings(artifact)]
    ordinary = [one for one in found if one.ood_score is not None and one.ood_score < 0.99]
    assert ordinary
    assert min(one.strength for one in ordinary) > 0
    assert {one.widening for one in ordinary} == {1.0}
    drifted = [scorer.score(embedding, 0.5).shrinkage.widening for embedding in embeddings(artifact, 3)]
    assert min(drifted) >= 1.5


def test_landmarks_are_sought_among_inputs_clipped_as_the_decoder_clips_them(artifact: Artifact) -> None:
    wild = embeddings(artifact)[-2] + np.float32(1e6)
    (nearest,) = Landmarks.from_artifact(artifact).nearest(wild, 1)
    assert nearest == Scorer.from_artifact(artifact).score(wild).shrinkage.nearest


def permuted(artifact: Artifact, order: Sequence[int]) -> Artifact:
    per_llm = {"llm_embeddings", "llm_bias", "length_embeddings", "length_bias"}
    per_llm |= {"broad_embeddings", "broad_bias", "ability", "ability_sd"}
    tensors = {name: t[list(order)] if name in per_llm else t for name, t in artifact.decoder.items()}
    llms = tuple(artifact.manifest.llms[i] for i in order)
    return replace(artifact, decoder=tensors, manifest=artifact.manifest.model_copy(update={"llms": llms}))


def test_permuting_the_catalog_permutes_the_scores(artifact: Artifact) -> None:
    order = [3, 1, 6, 0, 2, 5, 4]
    other = Scorer.from_artifact(permuted(artifact, order))
    for embedding in embeddings(artifact, 3):
        before, after = Scorer.from_artifact(artifact).score(embedding), other.score(embedding)
        np.testing.assert_allclose(after.p_correct, before.p_correct[order], atol=1e-6)


# Blocks of the token table


def test_each_block_of_the_token_table_is_pooled_to_unit_length_by_itself(artifact: Artifact) -> None:
    encoder = StaticEncoder.from_artifact(artifact)
    text = "hello statute hello integral"
    table = artifact.encoder["token_embeddings"].astype(np.float64)
    total = sum(table[i] * artifact.encoder["token_scales"][i].astype(np.float64) for i in encoder.token_ids(text))
    start, pooled = 0, encoder.encode(text).prompt_embedding
    for width in (2, 1, 1):
        part = total[start : start + width]
        np.testing.assert_allclose(pooled[start : start + width], part / np.linalg.norm(part), atol=1e-6)
        start += width


def test_a_block_that_says_nothing_stays_zero() -> None:
    vectors = np.array([[3, 4, 0], [3, 4, 0]], dtype=np.int8)
    found = unit_sum(np.ones(2, dtype=np.float32), vectors, (2, 1))
    np.testing.assert_allclose(found, [0.6, 0.8, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(unit_sum(np.ones(2, dtype=np.float32), vectors), found)
    assert not unit_sum(np.zeros(0, dtype=np.float32), np.zeros((0, 3), dtype=np.int8), (2, 1)).any()


# Weights of the older form


@pytest.fixture(scope="module")
def older(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A folder as it was written before there was a second form: none of the newer fields stands in its manifest."""
    folder = tmp_path_factory.mktemp("older") / "weights"
    decoder = artifact.manifest.decoder.model_copy(update={"broad": None, "max_deviation": 8.0})
    encoder = artifact.manifest.encoder.model_copy(update={"blocks": ()})
    llms = tuple(llm.model_copy(update={"family": None, "released": None}) for llm in artifact.manifest.llms)
    form = {"decoder": decoder, "encoder": encoder, "llms": llms, "hedge": None, "kin": None}
    newer = ("broad", "difficulty", "reference", "ability", "kin")
    save_artifact(
        folder,
        artifact.manifest.model_copy(update=form),
        encoder=artifact.encoder,
        decoder={name: tensor for name, tensor in artifact.decoder.items() if not name.startswith(newer)},
        tokenizer_json=artifact.tokenizer_json,
        model_card="# Older\n",
        landmarks={name: tensor for name, tensor in artifact.landmarks.items() if name != "points"},
    )
    written = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for part, names in (("decoder", ("broad", "max_deviation")), ("encoder", ("blocks",))):
        for name in names:
            del written[part][name]
    for name in ("hedge", "kin"):
        del written[name]
    for llm in written["llms"]:
        for name in ("known_by", "family", "released", "size_b"):
            del llm[name]
    (folder / "manifest.json").write_text(json.dumps(written), encoding="utf-8")
    return load_artifact(folder)


def test_older_manifests_are_read_as_they_were_meant(older: Artifact) -> None:
    manifest = older.manifest
    assert isinstance(manifest.encoder, EncoderSpec)
    assert (manifest.encoder.blocks, manifest.decoder.max_deviation, manifest.decoder.broad) == ((), 8.0, None)
    assert (manifest.hedge, manifest.kin) == (None, None)
    assert {(llm.known_by, llm.family, llm.released, llm.size_b) for llm in manifest.llms} == {
        ("labels", None, None, None)
    }
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def older_scores(artifact: Artifact, embedding: np.ndarray) -> Scores:
    """As the scorer computed them before there was a second form, in its order of operations."""
    t = {name: tensor.astype(np.float32) for name, tensor in artifact.decoder.items()}
    x = np.clip((embedding - t["input_mean"]) * (1.0 / t["input_scale"]), -8.0, 8.0)
    first = np.concatenate([t["prompt_network.0.weight"], t["length_network.0.weight"]]) @ x
    first += np.concatenate([t["prompt_network.0.bias"], t["length_network.0.bias"]])
    n = len(t["prompt_network.0.bias"])
    f = t["prompt_network.1.weight"] @ np.maximum(first[:n], 0) + t["prompt_network.1.bias"]
    length = t["length_network.1.weight"] @ np.maximum(first[n:], 0) + t["length_network.1.bias"]
    logits = t["llm_embeddings"] @ f + t["llm_bias"]
    tokens = np.exp(np.maximum(t["length_embeddings"] @ length + t["length_bias"], 0))
    return Scores(1 / (1 + np.exp(-logits)), tokens)


def test_weights_of_the_older_form_predict_the_same_bits_as_ever(older: Artifact) -> None:
    artifact = older
    encoder, scorer = StaticEncoder.from_artifact(artifact), Scorer(artifact.decoder)
    for text in ("Tom has 12 apples and gives away 5.", "def f(x):\n    return x", "Was ist die Hauptstadt?"):
        embedding = encoder.encode(text).prompt_embedding
        found, expected = scorer.score(embedding), older_scores(artifact, embedding)
        np.testing.assert_array_equal(found.p_correct, expected.p_correct.astype(np.float32))
        np.testing.assert_array_equal(found.output_tokens, expected.output_tokens)
        for scorer_of in (Scorer.from_artifact(artifact, shrinks=False), scorer):
            np.testing.assert_array_equal(scorer_of.score(embedding).p_correct, found.p_correct)


# What a manifest may not say


def edited(manifest: Manifest, path: str, value: object) -> dict[str, object]:
    """The manifest's fields with one replaced."""
    fields = manifest.model_dump(mode="json")
    *parents, last = path.split(".")
    place: Any = fields
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    place[last] = value
    return fields


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        (
            "decoder",
            {"ability": np.zeros(2, np.float32)},
            r"ability is float32 \(2,\), the manifest says float32 \(7,\)",
        ),
        ("decoder", {"ability_sd": np.zeros(7, np.float32)}, "ability_sd must be positive"),
        ("decoder", {"broad_bias": None}, r"missing \['broad_bias'\]"),
        ("decoder", {"kin_embeddings": np.zeros((2, 3), np.float32)}, r"unexpected \['kin_embeddings'\]"),
        ("landmarks", {"points": np.zeros((9, 3), np.float32)}, "points is float32"),
        ("landmarks", {"points": np.full((9, 3), np.inf, np.float16)}, "holds NaN or infinity"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    artifact: Artifact, tmp_path: Path, part: str, change: dict[str, np.ndarray | None], words: str
) -> None:
    tensors = {"decoder": artifact.decoder, "landmarks": artifact.landmarks}
    changed = {**tensors[part], **change}
    tensors[part] = {name: tensor for name, tensor in changed.items() if tensor is not None}
    with pytest.raises(ArtifactError, match=words):
        save_artifact(
            tmp_path / "weights",
            artifact.manifest,
            encoder=artifact.encoder,
            tokenizer_json=artifact.tokenizer_json,
            model_card="",
            **tensors,
        )


KIN = {
    "base_ability": 0.1,
    "covariates": [{"name": "price", "mean": 0.0, "scale": 1.0, "weight": 0.2}],
    "vendors": {"north": [0.3, 0.4]},
    "families": {"north|a": [0.2, 0.3]},
    "unknown_vendor": [0.0, 0.5],
    "features": ["one", "price"],
}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("hedge", None, "decoder.broad is given and hedge is not; expected both or neither"),
        ("decoder.broad", None, "hedge is given and decoder.broad is not"),
        ("encoder.blocks", [2, 1], "blocks sum to 3, expected d_embedding, 4"),
        ("encoder.blocks", [4, 0], "greater than 0"),
        ("decoder.broad.columns", [[0, 3], [2, 9]], "do not overlap"),
        ("decoder.broad.columns", [[3, 3]], "ascending half-open ranges"),
        ("decoder.broad.columns", [[-1, 3]], "ascending half-open ranges"),
        ("decoder.broad.columns", [], "at least 1 item"),
        ("decoder.broad.columns", [[0, 125]], "reads columns up to 125, the prompt embedding has 124"),
        ("decoder.broad.max_deviation", 9.0, r"broad.max_deviation is 9.0, expected at most max_deviation, 6.0"),
        ("decoder.max_deviation", 0.0, "greater than 0"),
        ("hedge.gate_scale", 0.0, "greater than 0"),
        ("hedge.slope", 0.0, "greater than 0"),
        ("hedge.ability_share", 0.0, "greater than 0"),
        ("hedge.temperature", -1.0, "greater than 0"),
        ("hedge.broad_weight", 1.5, "less than or equal to 1"),
        ("hedge.n_points", 0, "greater than 0"),
        ("kin", {**KIN, "features": []}, "at least 1 item"),
        ("kin", {**KIN, "unknown_vendor": [0.0, -1.0]}, "greater than or equal to 0"),
        ("llms.0.n_labels", 0, "llm-0 is known by labels and has none"),
        ("llms.0.released", "2025-13", "should match pattern"),
        ("llms.0.size_b", 0.0, "greater than 0"),
        ("llms.0.known_by", "rumour", "known_by"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(artifact: Artifact, path: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Manifest.model_validate(edited(artifact.manifest, path, value))


def test_what_is_expected_of_ungraded_llms_needs_both_networks(older: Artifact) -> None:
    manifest = older.manifest
    with pytest.raises(ValueError, match=r"kin is given and decoder\.broad is not"):
        Manifest.model_validate({**manifest.model_dump(), "kin": KIN})


def test_a_hedge_without_landmarks_is_refused(artifact: Artifact) -> None:
    fields = {**artifact.manifest.model_dump(), "landmarks": (), "d_landmark": 0, "novelty": None}
    with pytest.raises(ValueError, match="the hedge measures distances to landmarks, of which there are none"):
        Manifest.model_validate(fields)


def test_an_llm_that_nobody_graded_may_be_known_by_its_family() -> None:
    llm = LearnedLLM(
        id="a", vendor="b", thinking=False, n_labels=0, mean_correctness=0.6, known_by="family", released="2025-12"
    )
    assert llm.known_by == "family"
