"""What an evaluation measures: train and test parts of data, their pools of LLMs, and the artifact's predictions.

The test part is the one the artifact's training set aside: the same seed on the same prompts. Where that cannot be
rebuilt, nothing is reported as test. A pool is the LLMs that graded nearly every prompt of a data set; a missing label
is never counted as wrong.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router._hashing import digest_of
from embedllm_router.artifact.weights import Artifact
from embedllm_router.config.settings import encoder_place
from embedllm_router.data.folder import check_folders, read_folder
from embedllm_router.data.ingest_options import OnConflict
from embedllm_router.data.matrix import CorrectnessMatrix, merge
from embedllm_router.data.split import Split, question_stem, split_by_stem
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.prediction.loading import encode_all, load_encoder
from embedllm_router.prediction.scorer import Scorer
from embedllm_router.routing.router import Router

__all__ = [
    "Inputs",
    "OnProgress",
    "Part",
    "Pool",
    "Predictions",
    "Standardiser",
    "find_pools",
    "llm_means",
    "pool_means",
    "read_inputs",
]

_MIN_SHARE: Final = 0.9  # an LLM joins a data set's pool when it answered this share of the set's prompts


@dataclass(frozen=True, slots=True)
class Pool:
    """Prompts and LLMs without a missing label.

    Attributes:
        dataset: Where the prompts are from.
        rows: int64 (n_prompts,), rows of the matrix; at least one.
        columns: int64 (n_llms,), columns of the matrix; at least two.
    """

    dataset: str
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def block(self, values: NDArray[np.generic]) -> NDArray[np.float64]:
        """The pool's part of a matrix of all prompts and LLMs, float64 (n_prompts, n_llms)."""
        return values[np.ix_(self.rows, self.columns)].astype(np.float64)


def find_pools(matrix: CorrectnessMatrix, allowed: NDArray[np.bool_] | None = None) -> tuple[Pool, ...]:
    """Per data set, LLMs that answered nearly all its prompts, and the prompts all of those answered.

    Args:
        matrix: Labels.
        allowed: bool (n_llms,), LLMs that may join; None allows all.

    Returns:
        Pools of at least two LLMs and one prompt, in the order of the data sets.
    """
    return tuple(_pools(matrix, np.ones(len(matrix.llm_ids), dtype=np.bool_) if allowed is None else allowed))


def _pools(matrix: CorrectnessMatrix, allowed: NDArray[np.bool_]) -> Iterator[Pool]:
    datasets = np.array(matrix.datasets)
    for name in dict.fromkeys(matrix.datasets):
        rows = np.flatnonzero(datasets == name)
        columns = np.flatnonzero((matrix.observed[rows].mean(axis=0) >= _MIN_SHARE) & allowed)
        rows = rows[matrix.observed[np.ix_(rows, columns)].all(axis=1)]
        if len(rows) and len(columns) > 1:
            yield Pool(name, rows, columns)


def pool_means(pool: Pool, train: CorrectnessMatrix) -> NDArray[np.float64]:
    """Correctness in training of a pool's LLMs on the pool's data set, float64 (n_llms,); 0 for one without labels."""
    mine = np.array(train.datasets) == pool.dataset
    seen = train.observed[mine][:, pool.columns]
    right = (train.labels()[mine][:, pool.columns] * seen).sum(axis=0)
    means: NDArray[np.float64] = right / np.maximum(seen.sum(axis=0), 1)
    return means


_MIN_SCALE = 1e-4


@dataclass(frozen=True, slots=True)
class Part:
    """Prompts, their labels and their embeddings.

    Attributes:
        matrix: Labels and texts.
        x: Prompt embeddings, float32 (n_prompts, d_prompt), in the matrix's order.

    Raises:
        DataError: The two do not have the same number of rows.
    """

    matrix: CorrectnessMatrix
    x: NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.matrix.prompts):
            raise DataError(
                f"{len(self.x)} prompt embeddings for {len(self.matrix.prompts)} prompts; expected as many."
            )


@dataclass(frozen=True, slots=True)
class Standardiser:
    """Shifts and scales embeddings so that a row's length is about 1, as a sentence embedding's is.

    Attributes:
        mean: float32 (d_prompt,).
        scale: float32 (d_prompt,), positive.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def fit(cls, x: NDArray[np.float32]) -> "Standardiser":
        """Learns mean and scale from float32 (n_prompts, d_prompt)."""
        scale = np.maximum(x.std(axis=0), _MIN_SCALE) * np.sqrt(x.shape[1])
        return cls(x.mean(axis=0), scale.astype(np.float32))

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardised embeddings, float32 (n_prompts, d_prompt)."""
        z: NDArray[np.float32] = (x - self.mean) / self.scale
        return z


def llm_means(train: CorrectnessMatrix) -> NDArray[np.float32]:
    """Share of correct answers of each LLM, float32 (n_llms,); 0.5 for an LLM without labels."""
    counts = train.observed.sum(axis=0)
    right = (train.labels() * train.observed).sum(axis=0)
    means: NDArray[np.float32] = ((right + 0.5) / (counts + 1)).astype(np.float32)
    return means


OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, steps done and steps planned."""
_EVERY: Final = 512  # prompts between two reports of progress


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the artifact says of the test part, exactly as serving computes it.

    Attributes:
        p_correct: float32 (n_prompts, n_llms), in [0, 1].
        output_tokens: Expected output tokens, float32 (n_prompts, n_llms), positive.
    """

    p_correct: NDArray[np.float32]
    output_tokens: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything an evaluation measures.

    Attributes:
        test: Prompts that are measured; columns are the artifact's LLMs, in its order.
        train: What the artifact learned from, in the same columns; None when that is unknown.
        everything: All labels read, in the same columns; for probes and the noise ceiling.
        predictions: The artifact's, for the test part.
        skipped: Labels that were left out, by reason.
        warnings: What a reader of the figures must know.
        strangers: Names in the data that stand for no LLM of the artifact.
    """

    test: Part
    train: Part | None
    everything: CorrectnessMatrix
    predictions: Predictions
    skipped: Mapping[str, int]
    warnings: tuple[str, ...]
    strangers: tuple[str, ...] = ()


def read_inputs(  # noqa: PLR0913 - what is read and how, each said by the caller
    artifact: Artifact,
    folders: Sequence[Path],
    *,
    split: Literal["test", "all"] = "test",
    train_x: bool = True,
    keep_in: Path | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
    on_progress: OnProgress = lambda *_: None,
) -> Inputs:
    """Reads, splits, encodes and scores.

    Args:
        artifact: What is evaluated.
        folders: Data sets. For split "test", data sets of the artifact's training that are missing here are looked for
            beside them, because the split can only be rebuilt with all of them.
        split: "test" keeps the part training set aside, "all" every prompt.
        train_x: Whether baselines will need embeddings of the train part; encoding them takes most of the time.
        keep_in: Folder where a sentence transformer's embeddings are kept and found again; None keeps none.
        names: The LLM's id by what else the data may call it, such as the name of a model group.
        on_progress: Called with what is being done, steps done and steps planned.

    Returns:
        The inputs.

    Raises:
        DataError: A folder cannot be used, or holds no label of the artifact's LLMs.
        ConfigError: The artifact's split cannot be rebuilt.
    """
    wanted = [folder.resolve().name for folder in folders]
    helpers = _missing_training_sets(artifact, folders) if split == "test" else []
    matrix, skipped, strangers = _read(artifact, [*folders, *helpers], wanted, names, as_trained=split == "test")
    asked = np.isin(np.array(matrix.datasets), wanted)
    parts = _rebuild_split(artifact, matrix) if split == "test" else None
    test_rows = np.flatnonzero(asked) if parts is None else parts.test[asked[parts.test]]
    test, everything = matrix.select_prompts(test_rows), matrix.select_prompts(np.flatnonzero(asked))
    if not test.n_labels:
        raise DataError("no label is left to measure; name data whose LLMs the artifact knows, or use --split all.")
    skipped["in the artifact's train or validation part"] = everything.n_labels - test.n_labels
    router = Router(artifact, load_encoder(artifact, keep_in, place=encoder_place()))
    train = (
        None if parts is None else _train_part(router, matrix.select_prompts(parts.train), on_progress, encode=train_x)
    )
    x_test = _encode(router, test.prompts, "encoding test", on_progress)
    return Inputs(
        test=Part(test, x_test),
        train=train,
        everything=everything,
        predictions=_score(artifact, x_test, on_progress),
        skipped={reason: n for reason, n in skipped.items() if n},
        warnings=_warnings(artifact, matrix, split),
        strangers=strangers,
    )


def _train_part(router: Router, train: CorrectnessMatrix, on_progress: OnProgress, *, encode: bool) -> Part:
    if not encode:
        return Part(train, np.zeros((len(train.prompts), 0), dtype=np.float32))
    return Part(train, _encode(router, train.prompts, "encoding train", on_progress))


def _read(
    artifact: Artifact,
    folders: Sequence[Path],
    wanted: Sequence[str],
    names: Mapping[str, str],
    *,
    as_trained: bool,
) -> tuple[CorrectnessMatrix, dict[str, int], tuple[str, ...]]:
    """Labels of the artifact's LLMs in its order; how many others the wanted folders held, and of whom.

    Training sets are merged as training did, in its order, by its rule, and where `as_trained` asks for it, they hold
    the prompts that it had. Every other set stays by itself.
    """
    thinned = artifact.manifest.training.get("max_prompts") if as_trained else None
    max_prompts = thinned if isinstance(thinned, int) else None
    known = [llm.id for llm in artifact.manifest.llms]
    learned = [source.name for source in artifact.manifest.data]
    unparsed, n_strange, n_wanted = 0, 0, 0
    matrices, strangers = [], dict[str, None]()
    for folder in sorted(folders, key=lambda f: (*learned, f.resolve().name).index(f.resolve().name)):
        name = folder.resolve().name
        most = max_prompts if name in learned else None
        matrix = read_folder(folder).thinned(most)
        if name in wanted:
            matrix = _renamed(matrix, names)
            is_strange = ~np.isin(np.array(matrix.llm_ids), known)
            strange = int(matrix.observed[:, is_strange].sum())
            strangers.update(dict.fromkeys(np.array(matrix.llm_ids)[is_strange].tolist()))
            unparsed += read_folder(folder, keep_unparsed=True).thinned(most).n_labels - matrix.n_labels
            n_strange, n_wanted = n_strange + strange, n_wanted + matrix.n_labels - strange
        own_ids = matrix.prompt_ids if name in learned else tuple(f"{name}:{item}" for item in matrix.prompt_ids)
        matrices.append(replace(matrix, prompt_ids=own_ids))
    rule = OnConflict(str(artifact.manifest.training.get("on_conflict", OnConflict.MEAN)))
    whole = _align(merge(matrices, rule).matrix, known)
    merged = _without_later_prompts(artifact, whole) if as_trained else whole
    trusted = merged.without(labels.cell for labels in artifact.manifest.contradicted)
    asked = np.isin(np.array(merged.datasets), wanted)
    n_kept = int(merged.observed[asked].sum())
    n_later = int(whole.observed[np.isin(np.array(whole.datasets), wanted)].sum()) - n_kept
    skipped = {
        "LLM not in the artifact": n_strange,
        "no verdict could be read from the answer": unparsed,
        "answer to a prompt that another data set holds too": n_wanted - n_kept - n_later,
        "answer to a prompt that only LLMs answered that joined by `add`": n_later,
        "far below a published score or worse than guessing, so that its format failed": (
            n_kept - int(trusted.observed[asked].sum())
        ),
    }
    return trusted, skipped, tuple(strangers)


def _renamed(matrix: CorrectnessMatrix, names: Mapping[str, str]) -> CorrectnessMatrix:
    """The matrix with LLMs by their ids; a column that has an id as its name keeps it before all others."""
    taken, ids = set(matrix.llm_ids), []
    for name in matrix.llm_ids:
        llm = names.get(name, name)
        ids.append(name if llm in taken else llm)
        taken.add(llm)
    return replace(matrix, llm_ids=tuple(ids))


def _align(matrix: CorrectnessMatrix, llm_ids: Sequence[str]) -> CorrectnessMatrix:
    """The matrix in the columns of an artifact; LLMs the data lack have no labels, prompts without labels go."""
    column = {llm: i for i, llm in enumerate(matrix.llm_ids)}
    present = np.array([llm in column for llm in llm_ids])
    if not present.any():
        raise DataError(
            f"none of the data's LLMs is in the artifact; the data have {list(matrix.llm_ids)[:5]}…, "
            f"the artifact {list(llm_ids)[:5]}…."
        )
    source = [column.get(llm, 0) for llm in llm_ids]
    wide = replace(
        matrix,
        llm_ids=tuple(llm_ids),
        correctness=np.where(present, matrix.correctness[:, source], np.float32(0)),
        observed=matrix.observed[:, source] & present,
        output_tokens=np.where(present, matrix.output_tokens[:, source], np.float32(np.nan)),
        counted=matrix.counted[:, source] & present,
    )
    return wide.select_prompts(np.flatnonzero(wide.observed.any(axis=1)))


def _without_later_prompts(artifact: Artifact, matrix: CorrectnessMatrix) -> CorrectnessMatrix:
    """The matrix without those prompts of training sets that no LLM answered but such as joined after training."""
    added = _added_llms(artifact)
    if not added:
        return matrix
    learned_from = [source.name for source in artifact.manifest.data]
    others = matrix.observed[:, ~np.isin(np.array(matrix.llm_ids), added)].any(axis=1)
    return matrix.select_prompts(np.flatnonzero(others | ~np.isin(np.array(matrix.datasets), learned_from)))


def _added_llms(artifact: Artifact) -> list[str]:
    """LLMs that joined after training, from answers nobody set aside."""
    return [llm for llm in str(artifact.manifest.training.get("added_llms") or "").split(", ") if llm]


def _missing_training_sets(artifact: Artifact, folders: Sequence[Path]) -> list[Path]:
    check_folders(folders)
    given = {folder.resolve().name for folder in folders}
    missing = [source.name for source in artifact.manifest.data if source.name not in given]
    parents = dict.fromkeys(folder.resolve().parent for folder in folders)
    found = {name: next((p / name for p in parents if (p / name).is_dir()), None) for name in missing}
    lost = [name for name, place in found.items() if place is None]
    if lost:
        raise ConfigError(
            f"the artifact learned from {[s.name for s in artifact.manifest.data]}; without {lost} its test part "
            "cannot be rebuilt. Put them beside the given folders, or use --split all for data it has never seen."
        )
    return [place for place in found.values() if place is not None]


def _rebuild_split(artifact: Artifact, matrix: CorrectnessMatrix) -> Split:
    """The split of training on the training sets; every other set is test, less what shares a stem with training."""
    seed = artifact.manifest.training.get("split_seed")
    if not isinstance(seed, int):
        raise ConfigError("the artifact does not record a split_seed, so its test part is unknown. Use --split all.")
    datasets = np.array(matrix.datasets)
    for source in artifact.manifest.data:
        found = int((datasets == source.name).sum())
        if found != source.n_prompts:
            raise ConfigError(
                f"data set {source.name} has {found} prompts with labels, the artifact saw {source.n_prompts}: "
                "not the same data, so its test part cannot be rebuilt. Use the original, or --split all."
            )
    learned = _in_training_order(artifact, datasets)
    first = str(artifact.manifest.training.get("split_first") or "")
    early = np.isin(datasets[learned], first.split(",")) if first else None
    split = split_by_stem([matrix.prompts[i] for i in learned.tolist()], seed=seed, first=early)
    seen = {question_stem(matrix.prompts[i]) for i in learned[np.concatenate([split.train, split.validation])].tolist()}
    others = np.setdiff1d(np.arange(len(datasets)), learned)
    fresh = np.array([i for i in others.tolist() if question_stem(matrix.prompts[i]) not in seen], dtype=np.int64)
    return Split(learned[split.train], learned[split.validation], np.sort(np.append(learned[split.test], fresh)))


def _in_training_order(artifact: Artifact, datasets: NDArray[np.str_]) -> NDArray[np.int64]:
    return np.concatenate([np.flatnonzero(datasets == source.name) for source in artifact.manifest.data])


def _encode(router: Router, prompts: Sequence[str], what: str, on_progress: OnProgress) -> NDArray[np.float32]:
    encoder, rows = router.encoder, []
    for start in range(0, len(prompts), _EVERY):
        on_progress(what, start, len(prompts))
        block = prompts[start : start + _EVERY]
        rows += [encoded.prompt_embedding for encoded in encode_all(encoder, block)]
    on_progress(what, len(prompts), len(prompts))
    return np.stack(rows)


def _score(artifact: Artifact, x: NDArray[np.float32], on_progress: OnProgress) -> Predictions:
    scorer = Scorer.from_artifact(artifact)
    scores = []
    for i, row in enumerate(x):
        scores.append(scorer.score(row))
        if i % _EVERY == 0:
            on_progress("scoring test", i, len(x))
    on_progress("scoring test", len(x), len(x))
    return Predictions(np.stack([s.p_correct for s in scores]), np.stack([s.output_tokens for s in scores]))


def _warnings(artifact: Artifact, matrix: CorrectnessMatrix, split: str) -> tuple[str, ...]:
    if _was_set_aside(artifact, matrix):
        return ()
    return (*_of_training(artifact, matrix, split), *_of_added_llms(artifact, matrix))


def _was_set_aside(artifact: Artifact, matrix: CorrectnessMatrix) -> bool:
    """Whether these are the prompts that `profile` set aside when it made the weights."""
    ids = sorted(item.rpartition(":")[2] for item in matrix.prompt_ids)
    return digest_of(*ids) == artifact.manifest.training.get("set_aside")


def _of_training(artifact: Artifact, matrix: CorrectnessMatrix, split: str) -> tuple[str, ...]:
    if split != "all":
        return ()
    found = set(matrix.datasets)
    learned = [source.name for source in artifact.manifest.data if source.name in found]
    if not learned:
        return ("All prompts are measured. That they were never trained on is the caller's word, not checked.",)
    return (f"LEAKAGE: the artifact learned from {', '.join(learned)}; figures on them are no test.",)


def _of_added_llms(artifact: Artifact, matrix: CorrectnessMatrix) -> tuple[str, ...]:
    measured = np.array(matrix.llm_ids)[matrix.observed.any(axis=0)]
    here = [llm for llm in _added_llms(artifact) if llm in measured]
    if not here:
        return ()
    return (f"{', '.join(here)} joined by `add`; measured on the answers it joined from, an LLM looks too well known.",)
