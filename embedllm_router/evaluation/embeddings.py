"""What LLM embeddings say: which LLMs are alike, a map of them, and what else linear probes read from them.

Probes foretell an LLM's benchmark accuracy, vendor, size class, and whether it reasons. Each is judged on LLMs or
benchmarks it was not fitted to and set against a baseline that ignores the embedding. There are few LLMs, so read n
first.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.weights import Artifact
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import ConfigError

__all__ = [
    "AccuracyProbe",
    "LabelProbe",
    "accuracy_probes",
    "centred_embeddings",
    "label_probes",
    "llm_map",
    "nearest_llms",
    "size_class",
]

Floats = NDArray[np.float64]
_MIN_LLMS: Final = 8
_MIN_LABELS: Final = 30  # an LLM counts for a benchmark it has this many labels of
_MIN_CLASS: Final = 3
_RIDGE: Final = 0.01  # per LLM, with embeddings of mean squared length 1
_FOLDS: Final = 5
_REPEATS: Final = 10
_SIZE: Final = re.compile(r"(?<![\d.])(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
_SIZE_CUTS: Final = ((9.0, "up to 9B"), (40.0, "up to 40B"), (float("inf"), "over 40B"))


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An LLM near another one.

    Attributes:
        llm: Canonical id.
        vendor: Who made it.
        similarity: Cosine of the two centred embeddings, in [-1, 1].
        mean_correctness: Share of its training labels that were correct.
    """

    llm: str
    vendor: str
    similarity: float
    mean_correctness: float


def nearest_llms(artifact: Artifact, llm: str, n: int) -> tuple[Neighbour, ...]:
    """The LLMs whose embeddings point the most alike.

    Args:
        artifact: Holds the embeddings.
        llm: A canonical id or a name that matches one.
        n: How many, at least 1.

    Returns:
        Up to n others, most similar first.

    Raises:
        ConfigError: The artifact does not know the LLM.
    """
    if n < 1:
        raise ConfigError(f"--n must be at least 1, found {n}.")
    catalog = Catalog(artifact.manifest.llms)
    match = catalog.match(llm)
    row = catalog.row(match.llm or llm)
    unit = _unit(centred_embeddings(artifact))
    similarity = unit @ unit[row]
    order = [i for i in np.argsort(-similarity, kind="stable").tolist() if i != row]
    found = [(catalog.llms[i], float(similarity[i])) for i in order[:n]]
    return tuple(Neighbour(one.id, one.vendor, value, one.mean_correctness) for one, value in found)


def centred_embeddings(artifact: Artifact) -> NDArray[np.float64]:
    """LLM embeddings as the prompt network's last layer reads them, less their mean: what tells LLMs apart.

    `e · (W·h + b)` fixes embeddings only up to an invertible map that W undoes, so distances between the raw ones mean
    little. `e·W` is fixed: its inner product with the hidden values h of a prompt is the logit. A broad network's
    embeddings stand beside, as much as they count on prompts like those of training.

    Args:
        artifact: Holds the embeddings.

    Returns:
        float64 (n_llms, width of the last hidden layer, or of both).
    """
    spec, hedge = artifact.manifest.decoder, artifact.manifest.hedge
    embeddings = _through_last_layer(artifact, "llm_embeddings", f"prompt_network.{len(spec.hidden)}.weight")
    if spec.broad is not None and hedge is not None:
        broad = _through_last_layer(artifact, "broad_embeddings", f"broad_network.{len(spec.broad.hidden)}.weight")
        embeddings = np.concatenate([embeddings, hedge.broad_weight * broad], axis=1)
    centred: NDArray[np.float64] = embeddings - embeddings.mean(axis=0)
    return centred


def _through_last_layer(artifact: Artifact, embeddings: str, weight: str) -> NDArray[np.float64]:
    through: NDArray[np.float64] = artifact.decoder[embeddings].astype(np.float64) @ artifact.decoder[weight].astype(
        np.float64
    )
    return through


def llm_map(artifact: Artifact) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The LLMs on the two principal axes of their embeddings.

    Args:
        artifact: Holds the embeddings.

    Returns:
        Positions, float64 (n_llms, 2), and the share of variance each axis explains.
    """
    centred = centred_embeddings(artifact)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    padded = np.pad(left * sizes, ((0, 0), (0, max(2 - len(sizes), 0))))[:, :2]
    share = np.pad(sizes**2 / max(float((sizes**2).sum()), 1e-12), (0, 2))[:2]
    return padded, (float(share[0]), float(share[1]))


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = x / np.maximum(np.sqrt((x * x).sum(axis=1, keepdims=True)), 1e-12)
    return unit


@dataclass(frozen=True, slots=True)
class AccuracyProbe:
    """An LLM's accuracy on one benchmark, foretold from its embedding.

    Attributes:
        benchmark: The data set.
        n_llms: LLMs with enough labels there.
        left_out_llm_error: Mean absolute error, each LLM foretold by a probe fitted to the other LLMs.
        mean_error: The same of foretelling the other LLMs' mean.
        transfer_correlation: Spearman correlation on this benchmark of a probe fitted to the other benchmarks only; NaN
            when too few LLMs were graded on both.
        transfer_baseline: The same of the LLMs' own mean standing on the other benchmarks.
        n_transfer: LLMs behind the two correlations.
    """

    benchmark: str
    n_llms: int
    left_out_llm_error: float
    mean_error: float
    transfer_correlation: float
    transfer_baseline: float
    n_transfer: int


@dataclass(frozen=True, slots=True)
class LabelProbe:
    """A property of LLMs, foretold from the embedding in five-fold cross-validation, ten times.

    Attributes:
        name: The property.
        accuracy: Share foretold, mean over repeats.
        majority: Share of the commonest class.
        n_llms: LLMs whose class is known and not too rare.
        n_classes: Classes among them.
    """

    name: str
    accuracy: float
    majority: float
    n_llms: int
    n_classes: int


def accuracy_probes(artifact: Artifact, matrix: CorrectnessMatrix) -> tuple[AccuracyProbe, ...]:
    """Probes of every benchmark with enough LLMs.

    Args:
        artifact: Its embeddings were learned from part of these benchmarks, the left-out one included: the probe is new
            to it, the embedding is not.
        matrix: Labels in the artifact's columns.

    Returns:
        One probe per data set that has at least eight LLMs.
    """
    x = _scaled(centred_embeddings(artifact))
    names = list(dict.fromkeys(matrix.datasets))
    table = np.stack([_accuracies(matrix, name) for name in names], axis=1)
    standing = _standing(table)
    found = []
    for b, name in enumerate(names):
        known = np.flatnonzero(np.isfinite(table[:, b]))
        if len(known) < _MIN_LLMS:
            continue
        error, mean_error = _left_out_errors(x[known], table[known, b])
        correlation, baseline, n = _transfer(x, table[:, b], np.delete(standing, b, axis=1))
        found.append(AccuracyProbe(name, len(known), error, mean_error, correlation, baseline, n))
    return tuple(found)


def label_probes(artifact: Artifact, seed: int = 0) -> tuple[LabelProbe, ...]:
    """Probes of vendor, size class and reasoning.

    Args:
        artifact: Holds embeddings and facts. Sizes are read from names, so closed LLMs have none.
        seed: Decides the folds.

    Returns:
        One probe per property with at least eight LLMs and two classes.
    """
    x = _scaled(centred_embeddings(artifact))
    llms = artifact.manifest.llms
    properties: dict[str, list[str | None]] = {
        "vendor": [llm.vendor if llm.vendor != "unknown" else None for llm in llms],
        "size class": [size_class(llm.id) for llm in llms],
        "reasoning": ["yes" if llm.thinking else "no" for llm in llms],
    }
    probes = (_label_probe(name, x, values, seed) for name, values in properties.items())
    return tuple(probe for probe in probes if probe is not None)


def size_class(llm: str) -> str | None:
    """Size class by the number of parameters in an id ("8b", "8x22b"); None when it has none."""
    sizes = [float(size) * int(experts or 1) for experts, size in _SIZE.findall(llm)]
    return next(name for cut, name in _SIZE_CUTS if max(sizes) <= cut) if sizes else None


def _accuracies(matrix: CorrectnessMatrix, dataset: str) -> Floats:
    mine = np.array(matrix.datasets) == dataset
    seen = matrix.observed[mine].sum(axis=0)
    right = (matrix.labels()[mine] * matrix.observed[mine]).sum(axis=0)
    return np.where(seen >= _MIN_LABELS, right / np.maximum(seen, 1), np.nan).astype(np.float64)


def _standing(table: Floats) -> Floats:
    """Accuracies as standard scores within each benchmark; NaN stays."""
    known = np.isfinite(table)
    count = np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, table, 0.0) - np.where(known, table, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, centred, 0.0) ** 2).sum(axis=0) / count)
    return np.where(known, centred / np.maximum(spread, 1e-9), np.nan)


def _left_out_errors(x: Floats, y: Floats) -> tuple[float, float]:
    errors, baseline = [], []
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        errors.append(abs(float(_ridge(x[others], y[others, None], x[i : i + 1])[0, 0] - y[i])))
        baseline.append(abs(float(y[others].mean() - y[i])))
    return float(np.mean(errors)), float(np.mean(baseline))


def _transfer(x: Floats, accuracy: Floats, others: Floats) -> tuple[float, float, int]:
    """Fits to LLMs' mean standing on other benchmarks, judges on this one's LLMs that were graded elsewhere too."""
    graded = np.isfinite(others)
    elsewhere = graded.any(axis=1)
    mean = np.where(graded, others, 0.0).sum(axis=1) / np.maximum(graded.sum(axis=1), 1)
    judged = elsewhere & np.isfinite(accuracy)
    n = int(judged.sum())
    if n < _MIN_LLMS or elsewhere.sum() < _MIN_LLMS:
        return np.nan, np.nan, n
    foretold = _ridge(x[elsewhere], mean[elsewhere, None], x[judged])[:, 0]
    return _spearman(foretold, accuracy[judged]), _spearman(mean[judged], accuracy[judged]), n


def _label_probe(name: str, x: Floats, values: Sequence[str | None], seed: int) -> LabelProbe | None:
    counts = Counter(value for value in values if value is not None)
    kept = [i for i, value in enumerate(values) if value is not None and counts[value] >= _MIN_CLASS]
    classes = sorted({str(values[i]) for i in kept})
    if len(kept) < _MIN_LLMS or len(classes) < 2:  # noqa: PLR2004 - a class has to be told from another
        return None
    y = np.array([classes.index(str(values[i])) for i in kept])
    rng = np.random.default_rng(seed)
    scores = [_cross_validated(x[kept], y, len(classes), rng) for _ in range(_REPEATS)]
    return LabelProbe(name, float(np.mean(scores)), float(np.bincount(y).max() / len(y)), len(kept), len(classes))


def _cross_validated(x: Floats, y: NDArray[np.int64], n_classes: int, rng: np.random.Generator) -> float:
    """Share foretold by one-against-all ridge regression, each class spread evenly over the folds."""
    order = np.lexsort((rng.random(len(y)), y))
    fold = np.empty(len(y), dtype=np.int64)
    fold[order] = np.arange(len(y)) % _FOLDS
    right = 0
    for part in range(_FOLDS):
        here = fold == part
        scores = _ridge(x[~here], np.eye(n_classes)[y[~here]], x[here])
        right += int((scores.argmax(axis=1) == y[here]).sum())
    return right / len(y)


def _ridge(x: Floats, y: Floats, to: Floats) -> Floats:
    """Ridge regression of y (n, k) on x (n, d) with an intercept, foretold for `to` (m, d)."""
    centre, mean = x.mean(axis=0), y.mean(axis=0)
    kernel = (x - centre) @ (x - centre).T
    dual = np.linalg.solve(kernel + _RIDGE * len(x) * np.eye(len(x)), y - mean)
    foretold: Floats = (to - centre) @ (x - centre).T @ dual + mean
    return foretold


def _scaled(x: Floats) -> Floats:
    """Embeddings of mean squared length 1, so that one penalty fits every artifact."""
    scaled: Floats = x / max(float(np.sqrt((x * x).sum(axis=1).mean())), 1e-12)
    return scaled


def _spearman(a: Floats, b: Floats) -> float:
    ranks = [_ranks(values) for values in (a, b)]
    spread = [float(r.std()) for r in ranks]
    if min(spread) == 0:
        return float("nan")
    return float(((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())).mean() / (spread[0] * spread[1]))


def _ranks(values: Floats) -> Floats:
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    return ranks
