"""What a published score on each benchmark says of ability, learned from the LLMs that have both.

The model is that of `artifact.published`, fitted by expectation and maximisation (Dempster, Laird and Rubin, 1977):
what an LLM's scores show is expected from its scores and from its ability. By regression it gives each benchmark a line
and a noise, and the deviations their drift. Lines of few LLMs are pulled to a slope of 1. Abilities are taken as the
weights serve them, for those are what is to be predicted: how unsure they are counts as deviation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embedllm_router._stats import logit
from embedllm_router.artifact.kin import years_of
from embedllm_router.artifact.manifest import BenchmarkSpec, LearnedLLM, Manifest, PublishedSpec
from embedllm_router.artifact.published import SCORE_BOUNDS
from embedllm_router.artifact.weights import Tensors
from embedllm_router.training.fit.published import whole_scores

__all__ = ["Graded", "fit_benchmarks", "graded_llms", "with_benchmarks"]

_MIN_LLMS: Final = 10
_ROUNDS: Final = 200
_LOADING, _LOADING_WEIGHT = 1.0, 2.0  # what a slope is pulled to, and how strongly, in squared logits of ability
_VARIANCE, _VARIANCE_WEIGHT = 0.3, 3.0
_FIRST_DEVIATION: Final = 0.1
_DRIFT_WEIGHT: Final = 1.0  # how strongly the drift is pulled to 0, in squared years
Floats = NDArray[np.float64]


def with_benchmarks(manifest: Manifest, decoder: Tensors, scores: pl.DataFrame) -> Manifest:
    """A manifest that says what benchmarks measure; the same one where it has no kin or scores are too few.

    Args:
        manifest: Of weights.
        decoder: Their tensors.
        scores: See `fit_benchmarks`.
    """
    if manifest.kin is None:
        return manifest
    learned = fit_benchmarks(scores, graded_llms(manifest.llms, decoder))
    return manifest.model_copy(update={"published": learned})


@dataclass(frozen=True, slots=True)
class Graded:
    """An LLM that was graded.

    Attributes:
        ability: As the weights have it, in log-odds.
        released: Years since the beginning of 2025; None when unknown.
    """

    ability: float
    released: float | None = None


def graded_llms(llms: Sequence[LearnedLLM], decoder: Tensors) -> dict[str, Graded]:
    """The LLMs that were graded, by id.

    Args:
        llms: Of a manifest.
        decoder: Its tensors; those of weights with kin.
    """
    rows = zip(llms, decoder["ability"].tolist(), strict=True)
    return {llm.id: Graded(ability, years_of(llm.released)) for llm, ability in rows if llm.known_by == "labels"}


def fit_benchmarks(scores: pl.DataFrame, graded: Mapping[str, Graded]) -> PublishedSpec | None:
    """Learns what benchmarks measure.

    Args:
        scores: Columns model, benchmark, test and score, as `Published.scores`; parts of benchmarks are not read.
        graded: LLMs by id.

    Returns:
        All benchmarks with scores of ten of these LLMs or more; None where there is none.
    """
    medians = whole_scores(scores.filter(pl.col("model").is_in(list(graded))))
    kept = medians.filter(pl.len().over("benchmark") >= _MIN_LLMS)
    if not kept.height:
        return None
    cells = _Cells.of(kept.sort("model", "benchmark"), graded)
    found = _fitted(cells)
    columns = zip(cells.names, found.offset, found.loading, np.sqrt(found.variance), found.count, strict=True)
    return PublishedSpec(
        sd=round(float(np.sqrt(found.deviation)), 4),
        drift=round(found.drift, 4),
        usual_release=round(cells.usual_release, 4),
        release_sd=round(cells.release_sd, 4),
        benchmarks=tuple(
            BenchmarkSpec(
                name=name, offset=round(offset, 4), loading=round(loading, 4), sd=round(sd, 4), n_llms=int(n_llms)
            )
            for name, offset, loading, sd, n_llms in columns
        ),
    )


@dataclass(frozen=True, slots=True)
class _Cells:
    """One score each; and of each LLM its ability and its release.

    `later` is by how many years it came out after the usual one, 0 where that is unknown.
    """

    names: tuple[str, ...]
    llm: NDArray[np.intp]
    benchmark: NDArray[np.intp]
    y: Floats
    ability: Floats
    later: Floats
    usual_release: float
    release_sd: float

    @classmethod
    def of(cls, scores: pl.DataFrame, graded: Mapping[str, Graded]) -> "_Cells":
        models, llm = np.unique(scores["model"].to_numpy(), return_inverse=True)
        names, benchmark = np.unique(scores["benchmark"].to_numpy(), return_inverse=True)
        known = [graded[model] for model in models.tolist()]
        released = np.array([np.nan if one.released is None else one.released for one in known])
        dated = released[np.isfinite(released)]
        usual, spread = (float(dated.mean()), float(dated.std())) if len(dated) else (0.0, 0.0)
        return cls(
            names=tuple(names.tolist()),
            llm=llm,
            benchmark=benchmark,
            y=logit(np.clip(scores["score"].to_numpy().astype(np.float64), *SCORE_BOUNDS)),
            ability=np.array([one.ability for one in known]),
            later=np.nan_to_num(released - usual),
            usual_release=usual,
            release_sd=spread,
        )


@dataclass(frozen=True, slots=True)
class _Lines:
    """A line and its noise for each benchmark, (n_benchmarks,) each, and the variance and drift of deviations."""

    offset: Floats
    loading: Floats
    variance: Floats
    count: NDArray[np.intp]
    deviation: float
    drift: float = 0.0


def _fitted(cells: _Cells) -> _Lines:
    count = np.bincount(cells.benchmark)
    lines = _Lines(
        offset=np.bincount(cells.benchmark, cells.y - cells.ability[cells.llm]) / count,
        loading=np.ones(len(count)),
        variance=np.full(len(count), _VARIANCE),
        count=count,
        deviation=_FIRST_DEVIATION,
    )
    for _ in range(_ROUNDS):
        lines = _next(cells, lines)
    return lines


def _next(cells: _Cells, lines: _Lines) -> _Lines:
    """One round: what is shown given the lines, then the lines given what is shown."""
    shown, unsure = _shown(cells, lines)
    fitted = _regressed(cells, lines, shown, unsure)
    deviations = shown - cells.ability
    drift = float(deviations @ cells.later / (cells.later @ cells.later + _DRIFT_WEIGHT))
    squares = (deviations - drift * cells.later) ** 2 + unsure
    return replace(fitted, deviation=float(squares.mean()), drift=drift)


def _shown(cells: _Cells, lines: _Lines) -> tuple[Floats, Floats]:
    """Posterior mean and variance of each LLM's published ability, (n_llms,) each."""
    loading, variance = lines.loading[cells.benchmark], lines.variance[cells.benchmark]
    precision = np.bincount(cells.llm, loading**2 / variance) + 1 / lines.deviation
    pull = np.bincount(cells.llm, loading * (cells.y - lines.offset[cells.benchmark]) / variance)
    return (pull + (cells.ability + lines.drift * cells.later) / lines.deviation) / precision, 1 / precision


def _regressed(cells: _Cells, lines: _Lines, shown: Floats, unsure: Floats) -> _Lines:
    """The regression of each benchmark's scores on abilities that are known up to a variance."""
    at, n = cells.benchmark, lines.count
    x, spare = shown[cells.llm], unsure[cells.llm]
    mean_x, mean_y = np.bincount(at, x) / n, np.bincount(at, cells.y) / n
    squares = np.bincount(at, (x - mean_x[at]) ** 2 + spare)
    products = np.bincount(at, (x - mean_x[at]) * (cells.y - mean_y[at]))
    loading = (products + _LOADING_WEIGHT * _LOADING) / (squares + _LOADING_WEIGHT)
    offset = mean_y - loading * mean_x
    error = (cells.y - offset[at] - loading[at] * x) ** 2 + loading[at] ** 2 * spare
    variance = (np.bincount(at, error) + _VARIANCE_WEIGHT * _VARIANCE) / (n + _VARIANCE_WEIGHT)
    return replace(lines, offset=offset, loading=loading, variance=variance)
