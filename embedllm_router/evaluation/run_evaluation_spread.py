"""The same recipe trained from several seeds: how far its figures lie apart on one test part.

A bootstrap tells what other test prompts would have changed; this tells what other initial weights and batches would
have. It knows nothing of training.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from embedllm_router.artifact.weights import Artifact, load_artifact
from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.result import Evaluation
from embedllm_router.evaluation.run import EvaluationOptions, Told, evaluate

__all__ = ["Figure", "Spread", "measure_spread", "seed_folders"]

_OWN: Final = ("seed", "epochs_run")
"""What of a training's settings may differ between seeds of one recipe."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure over all seeds.

    Attributes:
        mean: Its mean.
        sd: Its standard deviation between seeds, of the sample (n - 1).
        values: One per seed.
    """

    mean: float
    sd: float
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """What several seeds of one recipe have in common, and how far they lie apart.

    Attributes:
        artifacts: Their ids.
        seeds: Likewise.
        n_prompts: Test prompts, the same for all.
        figures: log_loss, auc, ece, and where the data have pools of LLMs routing_accuracy and, where they have prices,
            cost_save.
    """

    artifacts: tuple[str, ...]
    seeds: tuple[int, ...]
    n_prompts: int
    figures: Mapping[str, Figure]


def seed_folders(folder: Path) -> tuple[Path, ...]:
    """The weights folders seed-0, seed-1, … that `train --seeds` wrote into a folder, in order; none elsewhere."""
    found = [place for place in folder.glob("seed-*") if place.name.removeprefix("seed-").isdigit()]
    return tuple(sorted(found, key=lambda place: int(place.name.removeprefix("seed-"))))


def measure_spread(
    folders: Sequence[Path], data: Sequence[Path], options: EvaluationOptions, told: Told = lambda *_: None
) -> Spread:
    """Evaluates every seed on the same prompts.

    Args:
        folders: Weights folders of one recipe, at least two.
        data: As for `evaluate`.
        options: As for `evaluate`; baselines are left out, since seeds do not change them.
        told: Hears of progress.

    Returns:
        The spread.

    Raises:
        ConfigError: They are not seeds of one recipe, or their test part cannot be rebuilt.
        ArtifactError: A folder cannot be loaded.
        DataError: The data cannot be used.
    """
    artifacts = [load_artifact(folder) for folder in folders]
    seeds = tuple(int(a.manifest.training.get("seed") or 0) for a in artifacts)
    _check_one_recipe(artifacts, seeds)
    found = []
    for number, artifact in enumerate(artifacts):
        told("seeds", number, len(artifacts))
        found.append(evaluate(artifact, data, replace(options, baselines=()), told))
    told("seeds", len(artifacts), len(artifacts))
    figures = {name: tuple(read(one) for one in found) for name, read in _FIGURES.items() if read(found[0]) is not None}
    return Spread(
        artifacts=tuple(a.id for a in artifacts),
        seeds=seeds,
        n_prompts=len(found[0].inputs.test.matrix.prompts),
        figures={name: _figure([v for v in values if v is not None]) for name, values in figures.items()},
    )


def _figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.fmean(values), statistics.stdev(values), tuple(values))


def _check_one_recipe(artifacts: Sequence[Artifact], seeds: Sequence[int]) -> None:
    if len(artifacts) < 2 or len(set(seeds)) < len(seeds):  # noqa: PLR2004 - one has no spread
        raise ConfigError(f"a spread needs at least two artifacts of different seeds, found seeds {list(seeds)}.")
    recipes = [
        {name: value for name, value in a.manifest.training.items() if name not in _OWN}
        | {"llms": len(a.manifest.llms), "data": str([(d.name, d.n_labels) for d in a.manifest.data])}
        for a in artifacts
    ]
    for recipe, seed in zip(recipes, seeds, strict=True):
        differing = sorted(n for n in recipe.keys() | recipes[0].keys() if recipe.get(n) != recipes[0].get(n))
        if differing:
            raise ConfigError(
                f"seeds {seeds[0]} and {seed} are not of one recipe: {differing} differ. Train all with one command, "
                "`embedllm-router train --seeds N`."
            )


def _correctness(name: str) -> Callable[[Evaluation], float | None]:
    return lambda e: float(getattr(e.router.correctness, name)) if e.router.correctness else None


_FIGURES: Final[Mapping[str, Callable[[Evaluation], float | None]]] = {
    "log_loss": _correctness("log_loss"),
    "auc": _correctness("auc"),
    "ece": _correctness("ece"),
    "routing_accuracy": lambda e: float(e.router.routed.correct.mean()) if e.router.routed else None,
    "cost_save": lambda e: e.router.cost.cost_save if e.router.cost else None,
}
