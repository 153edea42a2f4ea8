"""The numbers behind the pictures that need some arranging. It knows nothing of drawing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.evaluation.result import Evaluation

__all__ = ["Grid", "choice_confusion", "label_places", "loss_grid"]

_SHOWN_LLMS: Final = 14
_SHOWN_CATEGORIES: Final = 40
_LABEL_WIDTH, _LABEL_HEIGHT = 0.0062, 0.016  # of a character and a line, as shares of the map


@dataclass(frozen=True, slots=True)
class Grid:
    """A table to be coloured.

    Attributes:
        rows: Names, top to bottom.
        columns: Names, left to right.
        colour: float64 (n_rows, n_columns).
        texts: What each cell says, row by row.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    colour: NDArray[np.float64]
    texts: tuple[tuple[str, ...], ...]


def choice_confusion(evaluation: Evaluation) -> Grid:
    """How often an LLM was chosen (columns) when another was the cheapest right one (rows), in prompts.

    Args:
        evaluation: With routed prompts.

    Returns:
        Counts of the commonest LLMs, the rest gathered under "other"; the last row holds prompts nobody got right.
    """
    routed = evaluation.router.routed
    assert routed is not None
    ids = evaluation.inputs.test.matrix.llm_ids
    chosen = _common([ids[i] for i in routed.chosen.tolist()])
    ideal = _common([ids[i] if i >= 0 else "nobody was right" for i in routed.ideal.tolist()])
    rows = [*[name for name in _by_count(ideal) if name != "nobody was right"], "nobody was right"]
    columns = _by_count(chosen)
    counts = np.zeros((len(rows), len(columns)))
    np.add.at(counts, ([rows.index(name) for name in ideal], [columns.index(name) for name in chosen]), 1)
    texts = tuple(tuple(f"{n:.0f}" if n else "" for n in row) for row in counts.tolist())
    return Grid(tuple(rows), tuple(columns), counts, texts)


def loss_grid(evaluation: Evaluation) -> Grid | None:
    """Log-loss of the artifact and the baselines in the largest categories, coloured by its ratio to the LLM means'.

    Args:
        evaluation: The findings; without the baseline `llm_means` the ratio is to the artifact's own mean log-loss.

    Returns:
        None without categories.
    """
    largest = sorted(evaluation.categories.items(), key=lambda item: -item[1].correctness.n_labels)[:_SHOWN_CATEGORIES]
    if not largest or evaluation.router.correctness is None:
        return None
    names = [name for name, b in evaluation.baselines.items() if b.result.correctness]
    losses = np.array([[c.correctness.log_loss, *(c.baseline_log_loss[n] for n in names)] for _, c in largest])
    if "llm_means" in names:
        base = losses[:, [1 + names.index("llm_means")]]
    else:
        base = np.full((len(largest), 1), evaluation.router.correctness.log_loss)
    texts = tuple(tuple(f"{loss:.3f}" for loss in row) for row in losses.tolist())
    rows = tuple(f"{name} ({c.correctness.n_labels:,})" for name, c in largest)
    return Grid(rows, ("this artifact", *names), losses / np.maximum(base, 1e-9), texts)


def label_places(places: NDArray[np.float64], names: Sequence[str]) -> list[int]:
    """Which points of a map can be named without names lying on each other; points far out come first.

    Args:
        places: float64 (n, 2).
        names: One per point.

    Returns:
        Indices of the points to name.
    """
    span = np.maximum(np.ptp(places, axis=0), 1e-12)
    at = (places - places.min(axis=0)) / span
    taken: list[tuple[float, float, float]] = []
    named = []
    for i in np.argsort(-((at - at.mean(axis=0)) ** 2).sum(axis=1), kind="stable").tolist():
        x, y, end = at[i, 0], at[i, 1], at[i, 0] + _LABEL_WIDTH * len(names[i])
        if all(end < left or x > right or abs(y - height) > _LABEL_HEIGHT for left, right, height in taken):
            taken.append((x, end, y))
            named.append(i)
    return named


def _common(names: Sequence[str]) -> list[str]:
    kept = {name for name, _ in Counter(names).most_common(_SHOWN_LLMS)}
    return [name if name in kept else "other" for name in names]


def _by_count(names: Sequence[str]) -> list[str]:
    ordered = [name for name, _ in Counter(names).most_common()]
    return [*[name for name in ordered if name != "other"], *[name for name in ordered if name == "other"]]
