"""Landmarks from training prompts by category, how well they describe prompts, and the measurements for novelty.

The projection is Fisher's linear discriminant for many classes (Rao, 1948), its within-category covariance shrunk
towards a sphere. The OOD score needs two measurements: how far ordinary prompts lie from their nearest landmark, and
how much predictions for unknown prompts shall shrink.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from embedllm_router._stats import Examples, fit_logistic, logit
from embedllm_router.artifact.manifest import Landmark, Manifest, OodSpec
from embedllm_router.artifact.weights import Tensors
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.prediction.ood_score import MAX_DEVIATION, NEAREST, Landmarks

__all__ = [
    "LANDMARK_METRICS",
    "FoundLandmarks",
    "difficulty_spread",
    "find_landmarks",
    "find_points",
    "measure_landmarks",
    "measure_ood",
    "novelty",
]

_MAX_RANKS: Final = 1001
_MIN_PROMPTS: Final = 20
Floats = NDArray[np.float64]


def measure_ood(landmarks: Landmarks, train: CorrectnessMatrix, held_out: NDArray[np.float32]) -> OodSpec | None:
    """Measures what tells new kinds of prompts from ordinary ones.

    Args:
        landmarks: Made of the training part.
        train: The training part.
        held_out: Embeddings of ordinary prompts that no landmark was made of, float32 (n_prompts, d_prompt).

    Returns:
        What was measured; None without landmarks or held-out prompts.
    """
    if not len(landmarks) or not len(held_out):
        return None
    near = [landmarks.nearest(row, 1)[0] for row in held_out]
    distances = np.array([one.distance / one.spread for one in near])
    ranks = np.quantile(distances, np.linspace(0, 1, min(len(distances), _MAX_RANKS)))
    spread = difficulty_spread(train.labels(), train.observed, train.category_names())
    return OodSpec(
        ranks=tuple(round(float(value), 5) for value in ranks),
        shrinkage=round(1 / math.sqrt(1 + math.pi * spread**2 / 8), 4),
        n_prompts=len(held_out),
    )


def difficulty_spread(labels: NDArray[np.floating], observed: NDArray[np.bool_], categories: NDArray[np.str_]) -> float:
    """How much categories differ in difficulty: standard deviation of what each adds to every LLM's logit.

    An offset is the mode of its posterior under a standard normal prior, so that a category of few labels, or one that
    everybody gets right, says little.

    Args:
        labels: In [0, 1], (n_prompts, n_llms).
        observed: Which are known, of the same shape.
        categories: Of each prompt, (n_prompts,); those with fewer than 20 prompts are left out.

    Returns:
        At least 0; 0 with fewer than two categories.
    """
    n_right, n = np.where(observed, labels, 0).sum(axis=0, dtype=np.float64), observed.sum(axis=0)
    means = logit((n_right + 1) / (n + 2))
    names, counts = np.unique(categories, return_counts=True)
    offsets = []
    for name in names[counts >= _MIN_PROMPTS]:
        rows = categories == name
        right = np.where(observed[rows], labels[rows], 0).sum(axis=0, dtype=np.float64)
        offsets.append(_offset(right, observed[rows].sum(axis=0).astype(np.float64), means))
    return float(np.std(offsets)) if offsets else 0.0


def _offset(right: Floats, n: Floats, means: Floats) -> float:
    """What a category adds to every LLM's logit; right answers, answers and mean logits are (n_llms,)."""
    examples = Examples(np.ones((len(n), 1)), means, right / np.maximum(n, 1), n)
    return float(fit_logistic(examples, np.ones(1))[0][0])


_MIN_NEAREST: Final = 5  # training prompts by which a landmark's own spread is known
_MAX_DIMENSIONS: Final = 128
_SHRINKAGE: Final = 0.01
_MIN_VARIANCE, _MIN_USUAL = 1e-2, 0.1  # categories of one repeated prompt each: keeps the projection within float16
LANDMARK_METRICS: Final = ("landmark_own", "landmark_own_in_3", "landmark_own_set")


@dataclass(frozen=True, slots=True)
class FoundLandmarks:
    """Landmarks as an artifact holds them.

    Attributes:
        known: One record per landmark, sorted by name.
        tensors: Those of `artifact.landmark_shapes`; empty without landmarks.
    """

    known: tuple[Landmark, ...]
    tensors: Tensors

    def described_in(self, manifest: Manifest) -> Manifest:
        """The manifest with these landmarks."""
        d_landmark = self.tensors["landmarks"].shape[1] if self.known else 0
        return manifest.model_copy(update={"landmarks": self.known, "d_landmark": d_landmark})


def find_landmarks(
    train: CorrectnessMatrix,
    x: NDArray[np.float32],
    decoder: Tensors,
    max_deviation: float = MAX_DEVIATION,
    *,
    at_least_one: bool = False,
) -> FoundLandmarks:
    """Makes a landmark of every category with at least 20 training prompts.

    Args:
        train: The training part.
        x: Its prompt embeddings, float32 (n_prompts, d_prompt).
        decoder: The decoder's tensors, for their `input_mean` and `input_scale`.
        max_deviation: What the decoder clips standardised inputs to.
        at_least_one: Whether each data set as a whole is a landmark where no category is large enough.

    Returns:
        The landmarks; none where no category is large enough.
    """
    of_prompt = train.category_names()
    names, counts = np.unique(of_prompt, return_counts=True)
    names = names[counts >= _MIN_PROMPTS]
    if not len(names) and at_least_one:
        of_prompt = np.array([f"{name}/all" for name in train.datasets])
        names = np.unique(of_prompt)
    if not len(names):
        return FoundLandmarks((), {})
    rows = np.flatnonzero(np.isin(of_prompt, names))
    number = np.searchsorted(names, of_prompt[rows])
    inputs = _standardised(x[rows], decoder, max_deviation)
    means = _means(inputs, number)
    projection = _discriminant(inputs, number, means)
    right, graded = train.labels()[rows].sum(axis=1), train.observed[rows].sum(axis=1)
    shares = np.bincount(number, right) / np.maximum(np.bincount(number, graded), 1)
    known = tuple(
        Landmark(name=str(name), n_prompts=int(n), mean_correctness=round(float(share), 4))
        for name, n, share in zip(names, np.bincount(number), shares, strict=True)
    )
    tensors = {"projection": projection.astype(np.float16), "landmarks": (means @ projection.T).astype(np.float16)}
    return FoundLandmarks(_with_spreads(Landmarks(known, tensors, decoder, max_deviation), known, x), tensors)


def find_points(inputs: NDArray[np.float32], found: FoundLandmarks, n_points: int, *, seed: int = 0) -> FoundLandmarks:
    """Adds points to landmarks, from which `novelty` is measured.

    Args:
        inputs: Standardised and clipped inputs of the training prompts, float32 (n_prompts, d_prompt).
        found: Landmarks; at least one.
        n_points: How many; fewer where there are fewer prompts.
        seed: Decides the start of k-means, and which prompts it reads where there are very many.

    Returns:
        The landmarks with the tensor `points`, float16 (n_points, d_landmark).
    """
    places = inputs @ found.tensors["projection"].astype(np.float32).T
    read = places[np.random.default_rng(seed).permutation(len(places))[:_READ_PROMPTS]]
    n_points = min(n_points, len(np.unique(read, axis=0)))
    means = MiniBatchKMeans(n_points, batch_size=_KMEANS_BATCH, n_init=1, max_iter=_KMEANS_STEPS, random_state=seed)
    points = means.fit(read).cluster_centers_.astype(np.float16)
    return FoundLandmarks(found.known, {**found.tensors, "points": points})


_READ_PROMPTS: Final = 20_000
_KMEANS_BATCH: Final = 4096
_KMEANS_STEPS: Final = 30


def novelty(inputs: NDArray[np.float32], tensors: Tensors) -> NDArray[np.float32]:
    """Logarithm of each prompt's distance to the nearest point, as `prediction.ood_score` measures it.

    Args:
        inputs: Standardised and clipped, float32 (n_prompts, d_prompt).
        tensors: With `projection` and `points`.

    Returns:
        float32 (n_prompts,).
    """
    projection, points = (tensors[name].astype(np.float32) for name in ("projection", "points"))
    places = inputs @ projection.T
    squares = (points**2).sum(axis=1) - 2 * (places @ points.T)
    nearest = squares.min(axis=1) + (places**2).sum(axis=1)
    found: NDArray[np.float32] = np.log(np.maximum(np.sqrt(np.maximum(nearest, 0)), NEAREST)).astype(np.float32)
    return found


def measure_landmarks(landmarks: Landmarks, x: NDArray[np.float32], categories: NDArray[np.str_]) -> dict[str, float]:
    """How often prompts lie nearest to the landmark of their own category.

    Args:
        landmarks: Asked as serving asks them.
        x: Prompt embeddings that made no landmark, float32 (n_prompts, d_prompt).
        categories: "data set/category" of each, (n_prompts,); those without a landmark do not count.

    Returns:
        `landmark_own`: share whose nearest landmark is their own; `landmark_own_in_3`: share with their own among the
        three nearest; `landmark_own_set`: share whose nearest is of their own data set. Empty where none can be asked.
    """
    asked = [i for i, name in enumerate(categories.tolist()) if name in landmarks.names]
    if not asked:
        return {}
    hits = np.zeros(len(LANDMARK_METRICS))
    for i in asked:
        own, near = str(categories[i]), [one.name for one in landmarks.nearest(x[i])]
        own_set, near_set = (name.partition("/")[0] for name in (own, near[0]))
        hits += (near[0] == own, own in near, near_set == own_set)
    return {name: round(float(n) / len(asked), 6) for name, n in zip(LANDMARK_METRICS, hits, strict=True)}


def _with_spreads(landmarks: Landmarks, known: Sequence[Landmark], x: NDArray[np.float32]) -> tuple[Landmark, ...]:
    """The landmarks with the root mean square distance of the training prompts nearest to each.

    Where hardly a prompt is nearest, what is usual everywhere is taken.
    """
    places = {one.name: i for i, one in enumerate(known)}
    squares, counts = np.zeros(len(known)), np.zeros(len(known))
    for row in x:
        near = landmarks.nearest(row, 1)[0]
        squares[places[near.name]] += near.distance**2
        counts[places[near.name]] += 1
    usual = max(squares.sum() / len(x), _MIN_USUAL**2)
    spreads = np.sqrt(
        np.where(counts >= _MIN_NEAREST, np.maximum(squares, 1e-4 * counts) / np.maximum(counts, 1), usual)
    )
    return tuple(
        one.model_copy(update={"spread": round(float(spread), 5)}) for one, spread in zip(known, spreads, strict=True)
    )


def _standardised(x: NDArray[np.float32], decoder: Tensors, max_deviation: float) -> Floats:
    mean, scale = (decoder[name].astype(np.float64) for name in ("input_mean", "input_scale"))
    return np.clip((x - mean) / scale, -max_deviation, max_deviation)


def _means(x: Floats, number: NDArray[np.intp]) -> Floats:
    """Mean of each category, float64 (n_categories, d)."""
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], np.arange(number.max() + 1))
    means: Floats = np.add.reduceat(x[order], starts) / np.bincount(number)[:, None]
    return means


def _discriminant(x: Floats, number: NDArray[np.intp], means: Floats) -> Floats:
    """The projection, float64 (d_landmark, d): within categories, prompts spread alike in all directions it keeps.

    Its unit is the root mean square distance of a prompt to its category's mean.
    """
    inner = x - means[number]
    covariance = inner.T @ inner / len(inner)
    variance = max(float(np.trace(covariance)) / len(covariance), _MIN_VARIANCE)
    shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * variance * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(shrunk)
    whiten = (vectors / np.sqrt(values)) @ vectors.T
    n_directions = min(_MAX_DIMENSIONS, max(len(means) - 1, 1), x.shape[1])
    between = (means - means.mean(axis=0)) @ whiten
    directions = np.linalg.svd(between, full_matrices=True)[2][:n_directions] @ whiten
    usual = float(np.sqrt(((inner @ directions.T) ** 2).sum(axis=1).mean()))
    projection: Floats = directions / max(usual, _MIN_USUAL)
    return projection
