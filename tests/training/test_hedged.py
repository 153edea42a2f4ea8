"""Decoders with a hedge: rows of LLMs nobody asked, one formula in training and serving, and what is left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit
from synthetic import LLMS, SKILL, small_table, write_set

from embedllm_router.artifact.kin import LLMKind
from embedllm_router.artifact.manifest import BroadSpec, DecoderSpec
from embedllm_router.data.folder import read_folders
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import split_by_stem
from embedllm_router.prediction.ood_score import Gate, Landmarks, OodScorer
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.training.fit.ability import kin_spec
from embedllm_router.training.fit.decoder import Head, KinHead, LearningData
from embedllm_router.training.fit.encoding import BroadColumns, ReadyEncoder, encode_prompts
from embedllm_router.training.fit.facts import Facts
from embedllm_router.training.fit.form import Form, Recipe, train_form
from embedllm_router.training.fit.hedge import USUAL_CONSTANTS, Calibration, answers_of, hedge_spec, hedged_logits
from embedllm_router.training.fit.hedged import BROAD_DEVIATION, EXAM_DEVIATION, KnownLLMs, reference_llms
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.published import Published

SMALL = TrainingOptions(
    hidden=(16,),
    d_llm=6,
    broad_hidden=(12,),
    broad_d_llm=5,
    perturbed_copies=0,
    max_epochs=100,
    patience=100,
    learning_rate=5e-3,
    n_points=20,
    trust_labels=20,
)


class Trained:
    """A small decoder, what it learned from, and an LLM "understudy" of the poet's kind that nobody asked."""

    def __init__(self, place: Path) -> None:
        folders = [write_set(place / name, n=240, seed=i) for i, name in enumerate(("one", "two"))]
        self.matrix: CorrectnessMatrix = read_folders(folders).with_llms(["understudy"])
        self.recipe = Recipe(small_table(place / "planted"), Facts({}), Published(), SMALL, 8, ())
        self.split = split_by_stem(self.matrix.prompts, seed=0)
        self.made: ReadyEncoder = self.recipe.encoder_for([self.matrix.prompts[i] for i in self.split.train])
        self.x = encode_prompts(self.made.encoder, self.matrix.prompts)
        self.data: LearningData = self.recipe.learning_data(self.matrix, self.x, self.split, self.made)
        vendors = {"poet": "muse", "understudy": "muse"}
        self.llms = KnownLLMs(
            self.matrix.llm_ids,
            tuple(
                LLMKind(vendor=vendors.get(llm, "works"), family=llm, thinking=False, small=False)
                for llm in self.matrix.llm_ids
            ),
        )
        self.form: Form = train_form(self.data, self.matrix, self.llms, self.made.broad, SMALL)

    def column(self, llm: str) -> int:
        return self.matrix.llm_ids.index(llm)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("hedged"))


def test_training_and_serving_compute_the_same(trained: Trained) -> None:
    """The batch formula on the parts against the scorer on the tensors, gate, calibration and all."""
    form, test = trained.form, trained.split.test
    constants, calibration = replace(USUAL_CONSTANTS, gate_bias=0.3), Calibration(slope=1.2, offset=-0.1)
    everyone = np.ones((len(test), len(trained.llms.ids)), dtype=np.bool_)
    answers = answers_of(form.read(trained.x[test]), np.zeros(everyone.shape), everyone)
    logits = calibration.offset + calibration.slope * hedged_logits(answers, constants, form.broad_weight)
    spec = hedge_spec(
        constants,
        calibration,
        form.parts.ability.mean[form.parts.reference],
        broad_weight=form.broad_weight,
        usual_novelty=form.usual_novelty,
        n_points=len(form.found.tensors["points"]),
    )
    tensors = form.tensors()
    landmarks = Landmarks(form.found.known, form.found.tensors, tensors, EXAM_DEVIATION)
    gate = OodScorer(landmarks, None, (), Gate(spec, form.found.tensors))
    decoder = _spec_of(trained, tensors)
    scorer = Scorer(tensors, gate, decoder, spec)
    served = np.stack([scorer.score(row).p_correct for row in trained.x[test]])
    np.testing.assert_allclose(served.ravel(), expit(logits), atol=2e-4)


def _spec_of(trained: Trained, tensors: dict[str, NDArray[np.generic]]) -> DecoderSpec:
    broad = BroadSpec(
        columns=trained.made.broad.ranges, max_deviation=BROAD_DEVIATION, hidden=(12,), d_llm=SMALL.broad_d_llm
    )
    return DecoderSpec(
        kind="network",
        hidden=(16,),
        d_llm=tensors["llm_embeddings"].shape[1],
        length_hidden=(64,),
        d_length=16,
        max_deviation=EXAM_DEVIATION,
        broad=broad,
    )


def test_planted_skills_are_learned(trained: Trained) -> None:
    test = trained.split.test
    p = expit(
        hedged_logits(
            trained.form.answers(trained.x[test], np.ones((len(test), 4)), np.ones((len(test), 4), bool)),
            USUAL_CONSTANTS,
            0.5,
            gate=0.0,
        )
    ).reshape(len(test), 4)
    topics = [trained.matrix.categories[i] for i in test]
    right = [trained.matrix.llm_ids[j] for j in p[:, [trained.column(llm) for llm in LLMS]].argmax(axis=1)]
    best = [max(LLMS, key=lambda llm: SKILL[llm][topic]) for topic in topics]
    assert np.mean([a == b for a, b in zip(right, best, strict=True)]) > 0.85


def test_an_llm_nobody_asked_has_the_row_of_its_kind(trained: Trained) -> None:
    tensors = trained.form.tensors()
    rows = tensors["llm_embeddings"]
    to_poet, to_engineer = (
        float(np.linalg.norm(rows[trained.column("understudy")] - rows[trained.column(other)]))
        for other in ("poet", "engineer")
    )
    assert to_poet < to_engineer
    sd = tensors["ability_sd"]
    assert sd[trained.column("understudy")] > 2 * sd[trained.column("poet")]


def test_rows_of_llms_that_join_later_are_those_of_the_formula(trained: Trained) -> None:
    """Serving multiplies raw figures with kin_embeddings; training standardised them."""
    form, tensors = trained.form, trained.form.tensors()
    spec = kin_spec(form.parts.ability.kin, form.parts.features)
    place = trained.column("understudy")
    z = np.array(trained.llms.kinds[place].features(float(tensors["ability"][place]), spec.features))
    for kin, rows in (("kin_embeddings", "llm_embeddings"), ("kin_broad_embeddings", "broad_embeddings")):
        np.testing.assert_allclose(z @ tensors[kin].astype(np.float64), tensors[rows][place], atol=1e-4)


def test_a_kin_head_folds_into_the_head_that_predicts_the_same() -> None:
    torch.manual_seed(0)
    head = KinHead(Head(7, (5,), 3, 4), torch.randn(4, 2), torch.rand(4), n_sets=3).eval()
    torch.nn.init.normal_(head.set_intercepts)
    x = torch.randn(6, 7)
    torch.testing.assert_close(head.folded()(x), head(x))


def test_latent_semantic_columns_are_not_broad() -> None:
    columns = BroadColumns(pools=((0, 256), (256, 512)), style=(1024, 1144))
    assert columns.ranges == ((0, 512), (1024, 1144))
    scale = np.linspace(0.1, 2, 1144).astype(np.float32)
    weights = columns.weights(scale)
    assert len(weights) == len(columns.numbers()) == 632
    for block in (weights[:256], weights[256:512], weights[512:]):
        assert float((block**2).sum()) == pytest.approx(1, rel=1e-4), "all groups weigh alike"


def test_the_broad_columns_of_a_table_leave_out_what_was_learned_from_prompts(trained: Trained) -> None:
    assert trained.made.broad.pools == ((0, 16),)
    assert trained.made.encoder.spec.d_embedding == 24
    assert trained.made.broad.ranges[-1][1] == trained.made.encoder.spec.d_prompt


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([5000, 1000, 999], [True, True, False]),
        ([5000, 40, 30], [True, False, False]),
        ([50, 40, 10], [True, True, False]),
    ],
)
def test_reference_llms_are_those_of_many_labels(counts: list[int], expected: list[bool]) -> None:
    assert reference_llms(np.array(counts)).tolist() == expected
