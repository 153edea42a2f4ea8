"""Data folders → artifact: reads, splits, encodes, trains, measures on the test part, writes.

`add_landmarks` gives an existing folder its landmarks and OOD score, or renews them, without retraining: encoder and
decoder stay as they are.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import NgramSpec
from embedllm_router.artifact.weights import Artifact, check_place, load_artifact, read_card, save_artifact
from embedllm_router.data.folder import merge_folders, read_folders
from embedllm_router.data.ingest_options import OnConflict
from embedllm_router.data.matrix import CorrectnessMatrix, Merged
from embedllm_router.data.split import Split, split_by_stem
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.evaluation.baselines import repeat_means
from embedllm_router.evaluation.guarantee import card_with_guarantee, with_guarantee
from embedllm_router.evaluation.inputs import OnProgress, Part, find_pools, llm_means, pool_means, read_inputs
from embedllm_router.evaluation.learned_baselines import knn
from embedllm_router.evaluation.metrics import auc, brier, expected_calibration_error, log_loss, routing
from embedllm_router.prediction.ood_score import Landmarks, OodScorer
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.prediction.text_features import STYLE_FEATURES
from embedllm_router.prediction.transformer_encoder import TransformerEncoder
from embedllm_router.training.fit.decoder import LearningData, Progress, Trained
from embedllm_router.training.fit.description import describe, model_card, with_landmarks
from embedllm_router.training.fit.distill import TokenTable
from embedllm_router.training.fit.encoding import (
    DEFAULT_NGRAMS,
    ReadyEncoder,
    encode_copies,
    encode_prompts,
    prepare_encoder,
)
from embedllm_router.training.fit.facts import UNRECORDED_TOKENS, Facts, log_output_tokens
from embedllm_router.training.fit.fitting import Checkpoint, fingerprint
from embedllm_router.training.fit.landmarks import find_landmarks, measure_landmarks, measure_ood
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.team import Team
from embedllm_router.training.fit.training import train_decoder

__all__ = ["LearnedArtifact", "add_landmarks", "learn", "learning_data", "llm_means", "load_matrix"]


def evaluate_predictions(test: CorrectnessMatrix, p: NDArray[np.float32], train: CorrectnessMatrix) -> dict[str, float]:
    """Correctness metrics over all labels, per data set, and routing accuracy per data set's pool.

    Args:
        test: The test part.
        p: Predicted probabilities, float32 (n_prompts, n_llms), in test's order.
        train: The train part; it decides who is the best single LLM.

    Returns:
        Names → values; routing values are means over all routed prompts.
    """
    labels, observed = test.labels(), test.observed
    out = _correctness("", labels[observed], p[observed])
    datasets = np.array(test.datasets)
    for name in dict.fromkeys(test.datasets):
        mine = observed & (datasets == name)[:, None]
        out |= _correctness(f"{name}.", labels[mine], p[mine])
    return out | _routing(test, p, train) | {"n_prompts": float(len(p)), "n_labels": float(observed.sum())}


def _correctness(prefix: str, y: NDArray[np.float32], p: NDArray[np.float32]) -> dict[str, float]:
    if not len(y):
        return {}
    return {
        f"{prefix}auc": auc(y, p),
        f"{prefix}log_loss": log_loss(y, p),
        f"{prefix}brier": brier(y, p),
        f"{prefix}ece": expected_calibration_error(y, p),
    }


def _routing(test: CorrectnessMatrix, p: NDArray[np.float32], train: CorrectnessMatrix) -> dict[str, float]:
    totals = {"routing_accuracy": 0.0, "best_single_accuracy": 0.0, "oracle_accuracy": 0.0, "random_accuracy": 0.0}
    n_routed, labels = 0, test.labels()
    for pool in find_pools(test):
        block = np.ix_(pool.rows, pool.columns)
        result = routing(labels[block], p[block], pool_means(pool, train))
        for name in totals:
            totals[name] += getattr(result, name) * result.n_prompts
        n_routed += result.n_prompts
    averages = {name: total / n_routed for name, total in totals.items()} if n_routed else {}
    return averages | {"n_routed": float(n_routed)}


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LearnedArtifact:
    """What a training run leaves behind.

    Attributes:
        artifact: As loaded from disk.
        metrics: Measured on the test part with the numpy scorer.
        merged: What the data sets shared.
        warnings: What its user must know.
    """

    artifact: Artifact
    metrics: dict[str, float]
    merged: Merged
    warnings: tuple[str, ...] = ()


def learn(  # noqa: PLR0913 - the ingredients of a recipe
    folders: Sequence[Path],
    out: Path,
    *,
    encoder: TokenTable | TransformerEncoder,
    facts: Facts,
    options: TrainingOptions,
    prompt_columns: int = 128,
    ngrams: Sequence[NgramSpec] = DEFAULT_NGRAMS,
    min_labels: int = 1000,
    split_seed: int = 0,
    on_conflict: OnConflict = OnConflict.MEAN,
    resume: bool = False,
    command: str = "",
    progress: Progress | None = None,
    team: Team | None = None,
) -> LearnedArtifact | None:
    """Learns an artifact and writes it.

    Args:
        folders: Data sets; see `data.folder`.
        out: Where the artifact shall be.
        encoder: A static encoder's token vectors, or a sentence transformer as it is.
        facts: What the data do not say.
        options: How the decoder is trained.
        prompt_columns: Latent semantic columns added to a token table; see `encoding`.
        ngrams: Tables of n-grams fitted beside a token table; see `encoding`.
        min_labels: LLMs with fewer graded answers are left out.
        split_seed: Decides who is in train, validation and test.
        on_conflict: What becomes of several answers of one LLM to one prompt in several data sets.
        resume: Continue a run to the same `out` that was interrupted, if there is one.
        command: Written into the model card.
        progress: Told about each epoch, and about prompts and their copies being encoded.
        team: Processes that train together, each with the same arguments; this one alone by default.

    Returns:
        The artifact and its test metrics; None in all processes but the main one, which alone writes.

    Raises:
        DataError: The data cannot be used, or no LLM has enough labels.
        ArtifactError: `out` cannot be written.
    """
    check_place(out)
    merged = merge_folders(folders, on_conflict)
    matrix = _chat_llms(merged.matrix, facts, min_labels)
    split = _split(matrix, split_seed)
    train = [matrix.prompts[i] for i in split.train]
    made = prepare_encoder(encoder, train, n_columns=prompt_columns, ngrams=ngrams)
    ready = _Ready(matrix, split, made, encode_prompts(made.encoder, matrix.prompts, progress=progress))
    team = team or Team()
    copies = encode_copies(made.encoder, train, options.perturbed_copies, seed=options.seed, progress=progress)
    learned_from = replace(learning_data(matrix, ready.x, split, facts), copies=copies)
    trained = _train(learned_from, options, out, team, resume=resume, progress=progress)
    if team.rank:
        return None
    how = {"split_seed": split_seed, "on_conflict": on_conflict.value}
    artifact = _write(out, ready, facts, options, trained, how, command)
    Checkpoint(_checkpoint_folder(out), "").remove()  # not before: what cannot be written is not lost
    return LearnedArtifact(artifact, artifact.manifest.metrics, merged, _warnings(artifact, learned_from))


def _warnings(artifact: Artifact, learned_from: LearningData) -> tuple[str, ...]:
    said = []
    if not np.isfinite(learned_from.log_tokens).any():
        said.append(
            f"no data set records output_tokens or output_chars: every answer is taken to have {UNRECORDED_TOKENS:.0f} "
            "tokens, so expected costs tell LLMs apart by their prices alone. Record output_tokens."
        )
    unpriced = [llm.id for llm in artifact.manifest.llms if llm.output_usd_per_mtok is None]
    if unpriced:
        said.append(
            f"{len(unpriced)} of {len(artifact.manifest.llms)} LLMs have no list price ({', '.join(unpriced[:3])}…): "
            "`route` excludes them and `evaluate` cannot judge their cost. Give --prices; the proxy goes by "
            "those of its deployments."
        )
    return tuple(said)


@dataclass(frozen=True, slots=True)
class _Ready:
    """What there is to learn from: labels, who trains, and embeddings, float32 (n_prompts, d_prompt)."""

    matrix: CorrectnessMatrix
    split: Split
    made: ReadyEncoder
    x: NDArray[np.float32]


def _write(  # noqa: PLR0913, PLR0917 - everything an artifact is made of
    out: Path,
    ready: _Ready,
    facts: Facts,
    options: TrainingOptions,
    trained: Trained,
    how: Mapping[str, str | int],
    command: str,
) -> Artifact:
    """Measures on the test part, then writes the folder."""
    matrix, decoder = ready.matrix, trained.decoder.tensors()
    train, test = ready.split.train, ready.split.test
    found = find_landmarks(matrix.select_prompts(train), ready.x[train], decoder)
    landmarks = Landmarks(found.known, found.tensors, decoder)
    manifest = found.described_in(
        describe(matrix, facts, encoder=ready.made.encoder.spec, options=options, trained=trained, how=how)
    )
    novelty = measure_ood(landmarks, matrix.select_prompts(train), ready.x[ready.split.validation])
    scorer = Scorer(decoder, OodScorer(landmarks, novelty, manifest.llms))
    metrics = _measure(matrix, ready.x, ready.split, scorer)
    metrics |= measure_landmarks(found, decoder, ready.x[test], matrix.category_names()[test])
    rounded = {name: round(value, 6) for name, value in metrics.items()}
    manifest = manifest.model_copy(update={"novelty": novelty, "metrics": rounded})
    manifest = with_guarantee(manifest, scorer, Part(matrix.select_prompts(test), ready.x[test]))
    return save_artifact(
        out,
        manifest,
        encoder=ready.made.tensors,
        decoder=decoder,
        tokenizer_json=ready.made.tokenizer_json,
        model_card=card_with_guarantee(model_card(manifest, command), manifest.contract),
        landmarks=found.tensors,
    )


def _train(  # noqa: PLR0913 - a run and where it leaves its checkpoint
    data: LearningData, options: TrainingOptions, out: Path, team: Team, *, resume: bool, progress: Progress | None
) -> Trained:
    """Trains with a checkpoint beside `out`, or goes on from there."""
    run = fingerprint(data, options)
    team.check_same(run)
    of_team = f" in {team.size} processes" if team.size > 1 else ""
    checkpoint = Checkpoint(_checkpoint_folder(out), run + of_team)
    if not resume and not team.rank:
        checkpoint.remove()
    team.wait()
    return train_decoder(data, options, progress, checkpoint=checkpoint, team=team)


def _checkpoint_folder(out: Path) -> Path:
    return out.with_name(f".{out.name}-checkpoint")


def _split(matrix: CorrectnessMatrix, seed: int) -> Split:
    """The split by stem, each of whose parts must have something to learn from or to judge by."""
    split = split_by_stem(matrix.prompts, seed=seed)
    labels = [int(matrix.observed[rows].sum()) for rows in (split.train, split.validation, split.test)]
    if not all(labels):
        raise DataError(
            f"{len(matrix.prompts)} prompts leave {labels[0]} graded answers to train on, {labels[1]} to validate and "
            f"{labels[2]} to test; each part needs some. Add prompts: questions that are alike stay in one part."
        )
    return split


def load_matrix(folders: Sequence[Path], facts: Facts, *, min_labels: int) -> CorrectnessMatrix:
    """The data of every chat LLM with enough labels.

    Args:
        folders: Data sets.
        facts: Says which LLMs are chat LLMs; one it does not know counts as such.
        min_labels: Fewest graded answers.

    Returns:
        The matrix, LLMs sorted by id.

    Raises:
        DataError: The data cannot be used, or no LLM is left.
    """
    return _chat_llms(read_folders(folders), facts, min_labels)


def _chat_llms(matrix: CorrectnessMatrix, facts: Facts, min_labels: int) -> CorrectnessMatrix:
    counts = matrix.observed.sum(axis=0)
    ids = [
        llm
        for llm, n in zip(matrix.llm_ids, counts.tolist(), strict=True)
        if n >= min_labels and (llm not in facts.llms or facts.llms[llm].chat)
    ]
    if not ids:
        raise DataError(
            f"no chat LLM has {min_labels} graded answers; the largest has {int(counts.max())}. "
            "Lower --min-labels or add data."
        )
    return matrix.select_llms(ids)


def predict(scorer: Scorer, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """p_correct of every prompt and LLM, exactly as serving computes it, float32 (n_prompts, n_llms)."""
    return np.stack([scorer.score(row).p_correct for row in x])


def _measure(matrix: CorrectnessMatrix, x: NDArray[np.float32], split: Split, scorer: Scorer) -> dict[str, float]:
    """Test metrics of predictions, and of two yardsticks on the same split."""
    p = predict(scorer, x[split.test])
    train, test = matrix.select_prompts(split.train), matrix.select_prompts(split.test)
    means, pools = llm_means(train), x[:, : -len(STYLE_FEATURES)]
    yardsticks = {
        "llm_means": repeat_means(means, len(test.prompts)),
        "knn_40": knn(pools[split.train], train.labels(), train.observed, means, pools[split.test]),
    }
    labels, seen = test.labels(), test.observed
    return evaluate_predictions(test, p, train) | {
        f"{name}_{metric.__name__}": metric(labels[seen], guess[seen])
        for name, guess in yardsticks.items()
        for metric in (auc, log_loss)
    }


def learning_data(matrix: CorrectnessMatrix, x: NDArray[np.float32], split: Split, facts: Facts) -> LearningData:
    """What training sees of a matrix.

    Args:
        matrix: All parts.
        x: Prompt embeddings, float32 (n_prompts, d_prompt).
        split: Who trains.
        facts: What the data do not say.
    """
    return LearningData(
        x=x,
        labels=matrix.labels().astype(np.uint8),
        observed=matrix.observed,
        log_tokens=log_output_tokens(matrix, facts.reasoning_tokens),
        thinking=np.array([llm in facts.llms and facts.llms[llm].thinking for llm in matrix.llm_ids]),
        categories=np.unique(matrix.category_names(), return_inverse=True)[1],
        split=split,
        datasets=np.unique(matrix.datasets, return_inverse=True)[1],
    )


def add_landmarks(folder: Path, data: Sequence[Path], on_progress: OnProgress = lambda *_: None) -> Artifact:
    """Adds landmarks to an artifact in place.

    Args:
        folder: The weights folder; replaced whole.
        data: The data sets it learned from; those not named are looked for beside these.
        on_progress: Called with what is being done, steps done and steps planned.

    Returns:
        The artifact with landmarks. Its id is another one, its encoder and decoder are the same bytes.

    Raises:
        ArtifactError: The folder cannot be read or written.
        ConfigError: The artifact has a hedge, or its split cannot be rebuilt from the data.
        DataError: No category has enough training prompts.
    """
    artifact = load_artifact(folder)
    if artifact.manifest.hedge is not None:
        raise ConfigError(
            f"{folder} has a hedge, which was fitted to the landmarks it has. Train again to have others."
        )
    card = read_card(folder)
    inputs = read_inputs(artifact, data, on_progress=on_progress)
    assert inputs.train is not None  # split "test" always has one
    found = find_landmarks(inputs.train.matrix, inputs.train.x, artifact.decoder)
    if not found.known:
        raise DataError("no category has enough training prompts for a landmark. Nothing was changed.")
    metrics = measure_landmarks(found, artifact.decoder, inputs.test.x, inputs.test.matrix.category_names())
    manifest = found.described_in(artifact.manifest)
    landmarks = Landmarks(found.known, found.tensors, artifact.decoder)
    novelty = measure_ood(landmarks, inputs.train.matrix, inputs.test.x)
    manifest = manifest.model_copy(update={"metrics": {**manifest.metrics, **metrics}, "novelty": novelty})
    return save_artifact(
        folder,
        manifest,
        encoder=artifact.encoder,
        decoder=artifact.decoder,
        tokenizer_json=artifact.tokenizer_json,
        model_card=with_landmarks(card, manifest),
        landmarks=found.tensors,
    )
