"""Data folders → artifact: reads, splits, encodes, trains, measures on the test part, writes.

`add_landmarks` gives an existing folder its landmarks and OOD score, or renews them, without retraining: encoder and
decoder stay as they are.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import BroadSpec, ContradictedLabels, LeftOutSet, Manifest, NgramSpec
from embedllm_router.artifact.weights import (
    Artifact,
    check_place,
    load_artifact,
    read_card,
    save_artifact,
    weights_place,
)
from embedllm_router.data.folder import find_set_facts, merge_folders, read_folders
from embedllm_router.data.ingest_options import OnConflict
from embedllm_router.data.matrix import CorrectnessMatrix, Merged
from embedllm_router.data.split import Split, split_by_stem
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.evaluation.baselines import repeat_means
from embedllm_router.evaluation.guarantee import card_with_guarantee, with_guarantee
from embedllm_router.evaluation.inputs import OnProgress, Part, find_pools, llm_means, pool_means, read_inputs
from embedllm_router.evaluation.learned_baselines import knn
from embedllm_router.evaluation.metrics import auc, brier, expected_calibration_error, log_loss, routing
from embedllm_router.prediction.loading import WholeEncoder
from embedllm_router.prediction.ood_score import Gate, Landmarks, OodScorer
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.prediction.text_features import STYLE_FEATURES
from embedllm_router.training.fit.ability import kin_spec
from embedllm_router.training.fit.benchmarks import with_benchmarks
from embedllm_router.training.fit.contradicted import trusted
from embedllm_router.training.fit.decoder import LearningData, Progress, Trained
from embedllm_router.training.fit.description import Learned, describe, model_card, with_landmarks
from embedllm_router.training.fit.distill import TokenTable
from embedllm_router.training.fit.encoding import DEFAULT_NGRAMS, ReadyEncoder, encode_prompts
from embedllm_router.training.fit.facts import UNRECORDED_TOKENS, Facts
from embedllm_router.training.fit.fitting import Checkpoint, fingerprint
from embedllm_router.training.fit.form import Form, Recipe, chat_llms, learning_data, train_form
from embedllm_router.training.fit.hedge import USUAL_CONSTANTS, calibrate, fit_constants, hedge_spec, hedged_logits
from embedllm_router.training.fit.hedged import BROAD_DEVIATION, EXAM_DEVIATION, KnownLLMs
from embedllm_router.training.fit.landmarks import FoundLandmarks, find_landmarks, measure_landmarks, measure_ood
from embedllm_router.training.fit.leave_out import LeaveOutOptions, leave_each_out, nested_constants
from embedllm_router.training.fit.leave_out_figures import left_out_set
from embedllm_router.training.fit.options import TrainingOptions
from embedllm_router.training.fit.published import Published, with_listed_prices
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
    encoder: TokenTable | WholeEncoder,
    facts: Facts,
    options: TrainingOptions,
    published: Published | None = None,
    prompt_columns: int = 128,
    ngrams: Sequence[NgramSpec] = DEFAULT_NGRAMS,
    min_labels: int = 1000,
    max_prompts: int | None = None,
    unlabelled: Sequence[str] = (),
    split_seed: int = 0,
    split_first: Sequence[str] = (),
    on_conflict: OnConflict = OnConflict.MEAN,
    fit_hedge: LeaveOutOptions | None = None,
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
        published: What was published of LLMs; nothing by default.
        prompt_columns: Latent semantic columns added to a token table; see `encoding`.
        ngrams: Tables of n-grams fitted beside a token table; see `encoding`.
        min_labels: LLMs with fewer graded answers are left out.
        max_prompts: Most prompts that are taken of each data set; None takes all.
        unlabelled: LLMs that join with what is expected of their kind, by a decoder with a hedge.
        split_seed: Decides who is in train, validation and test.
        split_first: Names of data sets whose questions are split as if there were no others.
        on_conflict: What becomes of several answers of one LLM to one prompt in several data sets.
        fit_hedge: How data sets are left out in turn to find the constants of the hedge; None takes the usual ones.
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
    published = published or Published()
    merged = merge_folders(folders, on_conflict, max_prompts=max_prompts)
    facts = with_listed_prices(facts, published, merged.matrix.llm_ids)
    recipe = Recipe(encoder, facts, published, options, prompt_columns, tuple(ngrams))
    known = trusted(chat_llms(merged.matrix, facts, min_labels), facts.sources, published, min_labels)
    matrix = known.matrix
    if options.hedged:
        matrix = matrix.with_llms(llm for llm in unlabelled if llm not in matrix.llm_ids)
    split = _split(matrix, split_seed, split_first)
    made = recipe.encoder_for([matrix.prompts[i] for i in split.train])
    x = encode_prompts(made.encoder, matrix.prompts, progress=progress)
    ready = _Ready(matrix, split, made, x, _domains(folders), known.contradicted)
    team = team or Team()
    data = recipe.learning_data(matrix, ready.x, split, made, progress=progress)
    llms = recipe.known_llms(matrix.llm_ids)
    checkpoint = _checkpoint(out, fingerprint(data, options, llms if options.hedged else ""), team, resume=resume)
    if options.hedged:
        form = train_form(data, matrix, llms, made.broad, options, progress=progress, checkpoint=checkpoint, team=team)
        learned = None if team.rank else _hedged(recipe, ready, form, llms, fit_hedge, out, progress)
    else:
        trained = train_decoder(data, options, progress, checkpoint=checkpoint, team=team)
        learned = _plain(ready, llms, trained)
    if team.rank or learned is None:
        return None
    artifact = _write(out, ready, recipe, learned, _how(split_seed, on_conflict, max_prompts, split_first), command)
    checkpoint.remove()  # not before: what cannot be written is not lost
    return LearnedArtifact(artifact, artifact.manifest.metrics, merged, (*known.warnings, *_warnings(artifact, data)))


def _domains(folders: Sequence[Path]) -> dict[str, str]:
    """What each data set is about, by its name."""
    return {folder.resolve().name: find_set_facts(folder).domain for folder in folders}


def _how(
    split_seed: int, on_conflict: OnConflict, max_prompts: int | None, split_first: Sequence[str]
) -> dict[str, str | int]:
    """What a manifest says of how the data were joined and split, so that evaluation does it again."""
    how: dict[str, str | int] = {"split_seed": split_seed, "on_conflict": on_conflict.value}
    if max_prompts is not None:
        how["max_prompts"] = max_prompts
    if split_first:
        how["split_first"] = ",".join(split_first)
    return how


def _plain(ready: "_Ready", llms: KnownLLMs, trained: Trained) -> "_Assembled":
    tensors = trained.decoder.tensors()
    found = find_landmarks(ready.matrix.select_prompts(ready.split.train), ready.x[ready.split.train], tensors)
    return _Assembled(Learned(tensors, len(trained.history), llms), found)


def _hedged(  # noqa: PLR0913, PLR0917 - everything a hedge is made of
    recipe: Recipe,
    ready: "_Ready",
    form: Form,
    llms: KnownLLMs,
    fit_hedge: LeaveOutOptions | None,
    out: Path,
    progress: Progress | None,
) -> "_Assembled":
    """Weighs the parts of a decoder against each other, by the usual constants or by leaving data sets out."""
    matrix, options, held_out = ready.matrix, recipe.options, ready.split.validation
    labels, observed = matrix.labels()[held_out], matrix.observed[held_out]
    ordinary = form.answers(ready.x[held_out], labels, observed)
    constants, figures = USUAL_CONSTANTS, tuple[LeftOutSet, ...]()
    if fit_hedge is not None:
        sets = np.array(matrix.datasets)[held_out][ordinary.prompt]
        runs = leave_each_out(matrix, recipe, fit_hedge, cache=_left_out_folder(out), progress=progress)
        constants = fit_constants([run.left for run in runs], ordinary, options.broad_weight)
        nested = nested_constants(runs, lambda name: ordinary.select(sets != name), options.broad_weight)
        figures = tuple(
            left_out_set(run, own, options.broad_weight, ready.domains.get(run.name, ""))
            for run, own in zip(runs, nested, strict=True)
        )
    calibration = calibrate(hedged_logits(ordinary, constants, options.broad_weight), ordinary.right)
    broad = BroadSpec(
        columns=ready.made.broad.ranges,
        max_deviation=BROAD_DEVIATION,
        hidden=options.broad_hidden,
        d_llm=options.broad_d_llm,
    )
    hedge = hedge_spec(
        constants,
        calibration,
        form.parts.ability.mean[form.parts.reference],
        broad_weight=options.broad_weight,
        usual_novelty=form.usual_novelty,
        n_points=len(form.found.tensors["points"]),
        left_out=figures,
    )
    kin = kin_spec(form.parts.ability.kin, form.parts.features)
    learned = Learned(form.tensors(), len(form.parts.history), llms, broad, EXAM_DEVIATION, hedge, kin)
    return _Assembled(learned, form.found)


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
    """What there is to learn from.

    Attributes:
        matrix: Labels.
        split: Who trains.
        made: The encoder.
        x: Prompt embeddings, float32 (n_prompts, d_prompt).
        domains: What each data set is about.
        contradicted: Labels that were left out of the matrix.
    """

    matrix: CorrectnessMatrix
    split: Split
    made: ReadyEncoder
    x: NDArray[np.float32]
    domains: Mapping[str, str]
    contradicted: tuple[ContradictedLabels, ...]


@dataclass(frozen=True, slots=True)
class _Assembled:
    """What an artifact is made of, besides its encoder."""

    learned: Learned
    found: FoundLandmarks

    def complete(self, manifest: Manifest) -> Manifest:
        """The manifest with landmarks and hedge."""
        learned = self.learned
        decoder = manifest.decoder.model_copy(update={"broad": learned.broad})
        described = self.found.described_in(manifest)
        return described.model_copy(update={"decoder": decoder, "hedge": learned.hedge, "kin": learned.kin})


def _write(  # noqa: PLR0913, PLR0917 - everything an artifact is made of
    out: Path,
    ready: _Ready,
    recipe: Recipe,
    made: _Assembled,
    how: Mapping[str, str | int],
    command: str,
) -> Artifact:
    """Measures on the test part, then writes the folder."""
    matrix, tensors, encoder = ready.matrix, made.learned.tensors, ready.made
    train, test = ready.split.train, ready.split.test
    manifest = made.complete(
        describe(
            matrix,
            recipe.facts,
            encoder=encoder.encoder.spec,
            options=recipe.options,
            learned=made.learned,
            how=how,
        )
    ).model_copy(update={"contradicted": ready.contradicted})
    landmarks = Landmarks(made.found.known, made.found.tensors, tensors, made.learned.max_deviation)
    measured = measure_ood(landmarks, matrix.select_prompts(train), ready.x[ready.split.validation])
    manifest = manifest.model_copy(update={"novelty": measured})
    scorer = _scorer(manifest, made, landmarks)
    manifest = _with_expected_correctness(manifest, predict(scorer, ready.x[ready.split.validation]))
    manifest = with_benchmarks(manifest, tensors, recipe.published.scores)
    metrics = _measure(matrix, ready.x, ready.split, scorer)
    metrics |= measure_landmarks(landmarks, ready.x[test], matrix.category_names()[test])
    manifest = manifest.model_copy(update={"metrics": {name: round(value, 6) for name, value in metrics.items()}})
    manifest = with_guarantee(manifest, scorer, Part(matrix.select_prompts(test), ready.x[test]))
    return save_artifact(
        out,
        manifest,
        encoder=encoder.tensors,
        decoder=tensors,
        tokenizer_json=encoder.tokenizer_json,
        model_card=card_with_guarantee(model_card(manifest, command), manifest.contract),
        landmarks=made.found.tensors,
    )


def _scorer(manifest: Manifest, made: _Assembled, landmarks: Landmarks) -> Scorer:
    gate = None if manifest.hedge is None else Gate(manifest.hedge, made.found.tensors)
    ood_scorer = OodScorer(landmarks, manifest.novelty, manifest.llms, gate)
    return Scorer(made.learned.tensors, ood_scorer, manifest.decoder, manifest.hedge)


def _with_expected_correctness(manifest: Manifest, p_correct: NDArray[np.float32]) -> Manifest:
    """The manifest, the mean correctness of LLMs without answers being the one predicted of them."""
    expected = p_correct.mean(axis=0).tolist()
    llms = tuple(
        llm if llm.n_labels else llm.model_copy(update={"mean_correctness": round(mean, 4)})
        for llm, mean in zip(manifest.llms, expected, strict=True)
    )
    return manifest.model_copy(update={"llms": llms})


def _checkpoint(out: Path, run: str, team: Team, *, resume: bool) -> Checkpoint:
    """The checkpoint beside `out`, emptied unless the run goes on from there."""
    team.check_same(run)
    of_team = f" in {team.size} processes" if team.size > 1 else ""
    checkpoint = Checkpoint(_checkpoint_folder(out), run + of_team)
    if not resume and not team.rank:
        checkpoint.remove()
    team.wait()
    return checkpoint


def _checkpoint_folder(out: Path) -> Path:
    return out.with_name(f".{out.name}-checkpoint")


def _left_out_folder(out: Path) -> Path:
    return out.with_name(f".{out.name}-left-out")


def _split(matrix: CorrectnessMatrix, seed: int, first: Sequence[str]) -> Split:
    """The split by stem, each of whose parts must have something to learn from or to judge by."""
    unknown = sorted(set(first) - set(matrix.datasets))
    if unknown:
        raise DataError(f"--split-first names {unknown}, the data sets are {sorted(set(matrix.datasets))}.")
    early = np.isin(np.array(matrix.datasets), list(first)) if first else None
    split = split_by_stem(matrix.prompts, seed=seed, first=early)
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
    return chat_llms(read_folders(folders), facts, min_labels)


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
    folder = weights_place(folder)
    artifact = load_artifact(folder)
    if artifact.manifest.hedge is not None:
        raise ConfigError(
            f"{folder} has a hedge, which was fitted to the landmarks it has. Train again to have others."
        )
    card = read_card(folder)
    inputs = read_inputs(artifact, data, on_progress=on_progress)
    assert inputs.train is not None  # split "test" always has one
    bound = artifact.manifest.decoder.max_deviation
    found = find_landmarks(inputs.train.matrix, inputs.train.x, artifact.decoder, bound)
    if not found.known:
        raise DataError("no category has enough training prompts for a landmark. Nothing was changed.")
    landmarks = Landmarks(found.known, found.tensors, artifact.decoder, bound)
    metrics = measure_landmarks(landmarks, inputs.test.x, inputs.test.matrix.category_names())
    manifest = found.described_in(artifact.manifest)
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
