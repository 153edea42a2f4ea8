"""The pictures of a report as PNGs, and the numbers behind them that need some arranging."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from embedllm_router.evaluation.embeddings import llm_map
from embedllm_router.evaluation.metrics import reliability
from embedllm_router.evaluation.result import Evaluation
from embedllm_router.evaluation.routing import CostResult

__all__ = ["draw_plots", "label_places"]

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


_DPI: Final = 110
_OURS: Final = "#c1121f"
_COLOURS: Final = ("#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
_COLUMNS: Final = 3
_MIN_COVERAGE: Final = 0.02  # below it a risk is a handful of prompts
_PER_THOUSAND: Final = 1000.0
_SHOWN_VENDORS: Final = 9
_MAX_REACH: Final = 0.4  # ratios further from 1 than this get the darkest colour


def draw_plots(evaluation: Evaluation) -> dict[str, bytes]:
    """Draws whatever the evaluation has data for.

    Args:
        evaluation: The findings.

    Returns:
        File name without ending → PNG.
    """
    plots = {"reliability": _reliability(evaluation), "llm_map": _llm_map(evaluation)}
    if evaluation.router.costs:
        plots["frontier"] = _frontier(evaluation)
    if evaluation.router.routed:
        plots["choices"] = _heat_map(choice_confusion(evaluation), "chosen", "cheapest LLM that was right", log=True)
        plots["abstention"] = _abstention(evaluation)
    grid = loss_grid(evaluation)
    if grid is not None:
        plots["categories"] = _heat_map(grid, "log-loss (colour: ratio to LLM means)", "", log=False)
    return {name: _png(figure) for name, figure in plots.items()}


def _frontier(evaluation: Evaluation) -> Figure:
    pools = evaluation.router.costs
    columns = min(_COLUMNS, len(pools) + 1)
    rows = -(-(len(pools) + 1) // columns)
    figure = Figure(figsize=(5.2 * columns, 4.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    others = {
        name: b.result.costs for name, b in evaluation.baselines.items() if name not in {"random", "dataset_oracle"}
    }
    for i, own in enumerate(pools):
        _frontier_panel(axes[i], own, {name: costs[i] for name, costs in others.items()})
    handles, labels = axes[0].get_legend_handles_labels()
    for spare in axes[len(pools) :]:
        spare.set_axis_off()
    axes[len(pools)].legend(handles, labels, loc="center", fontsize=11, frameon=False)
    return figure


def _frontier_panel(ax: Axes, own: CostResult, others: Mapping[str, CostResult]) -> None:
    llms = own.arena.reference
    shown = llms.cost > 0
    ax.scatter(llms.cost[shown] * _PER_THOUSAND, llms.accuracy[shown], s=18, c="#b0b0b0", label="one LLM, always")
    for (name, result), colour in zip(others.items(), _COLOURS, strict=False):
        style = {"color": "black", "ls": ":"} if name == "oracle" else {"color": colour}
        ax.plot(result.curve.cost * _PER_THOUSAND, result.curve.accuracy, lw=1.1, alpha=0.85, label=name, **style)  # type: ignore[arg-type]  # matplotlib takes line options as keywords
    ax.plot(own.curve.cost * _PER_THOUSAND, own.curve.accuracy, lw=2.4, color=_OURS, label="this artifact")
    best = (llms.cost[llms.best] * _PER_THOUSAND, llms.accuracy[llms.best])
    ax.scatter(*best, s=150, marker="*", c="black", zorder=5, label="best single LLM (chosen on train)")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=7))
    ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_title(f"{own.arena.pool.dataset}: {len(own.arena.labels)} prompts, {len(llms.cost)} LLMs", fontsize=11)
    ax.set_xlabel("USD per 1,000 prompts (log scale)")
    ax.set_ylabel("accuracy")
    ax.grid(alpha=0.25)


def _reliability(evaluation: Evaluation) -> Figure:
    test, p = evaluation.inputs.test.matrix, evaluation.router.p
    labels, observed, datasets = test.labels(), test.observed, np.array(test.datasets)
    figure = Figure(figsize=(6.4, 7.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    top.plot([0, 1], [0, 1], color="black", lw=0.8, ls="--", label="perfect")
    for name, colour in zip(dict.fromkeys(test.datasets), _COLOURS, strict=False):
        mine = observed & (datasets == name)[:, None]
        points = reliability(labels[mine], p[mine])
        top.plot(points[:, 0], points[:, 1], lw=1, marker=".", ms=4, alpha=0.75, color=colour, label=name)
    points = reliability(labels[observed], p[observed])
    top.plot(points[:, 0], points[:, 1], lw=2.4, marker="o", ms=5, color=_OURS, label="all, 15 bins of equal mass")
    bottom.hist(p[observed], bins=50, range=(0, 1), color="#888888")
    top.set_ylabel("share correct")
    top.legend(fontsize=9)
    top.grid(alpha=0.25)
    bottom.set_xlabel("predicted probability of a correct answer")
    bottom.set_ylabel("labels")
    return figure


def _abstention(evaluation: Evaluation) -> Figure:
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    ax = figure.subplots()
    for (name, b), colour in zip(evaluation.baselines.items(), _COLOURS, strict=False):
        if b.result.routed and b.result.correctness:
            curve = b.result.routed.risk_coverage
            few = int(_MIN_COVERAGE * len(curve.risk))
            label = f"{name} ({curve.area:.3f})"
            ax.plot(curve.coverage[few:], curve.risk[few:], lw=1, alpha=0.8, color=colour, label=label)
    assert evaluation.router.routed is not None
    curve = evaluation.router.routed.risk_coverage
    few = int(_MIN_COVERAGE * len(curve.risk))
    label = f"this artifact ({curve.area:.3f})"
    ax.plot(curve.coverage[few:], curve.risk[few:], lw=2.4, color=_OURS, label=label)
    ax.set_xlabel("coverage: share of prompts answered, the surest first")
    ax.set_ylabel("risk: share of them wrong")
    ax.legend(fontsize=9, title="area under the curve")
    ax.grid(alpha=0.25)
    return figure


def _llm_map(evaluation: Evaluation) -> Figure:
    llms = evaluation.artifact.manifest.llms
    places, share = llm_map(evaluation.artifact)
    figure = Figure(figsize=(13, 9.5), layout="constrained")
    ax = figure.subplots()
    vendors = [llm.vendor for llm in llms]
    common = sorted(set(vendors), key=lambda v: (-vendors.count(v), v))[:_SHOWN_VENDORS]
    size = np.array([20 + 160 * llm.mean_correctness for llm in llms])
    for vendor, colour in [*zip(common, _COLOURS, strict=False), ("other", "#d0d0d0")]:
        mine = np.array([v == vendor if vendor != "other" else v not in common for v in vendors])
        if mine.any():
            ax.scatter(
                places[mine, 0], places[mine, 1], s=size[mine], c=colour, alpha=0.75, edgecolors="white", label=vendor
            )
    for i in label_places(places, [llm.id for llm in llms]):
        ax.annotate(llms[i].id, places[i], xytext=(5, 3), textcoords="offset points", fontsize=7.5)
    ax.margins(x=0.13)
    ax.set_xlabel(f"first principal axis ({share[0]:.0%} of variance)")
    ax.set_ylabel(f"second principal axis ({share[1]:.0%})")
    legend = ax.legend(title="vendor (size: mean correctness)", fontsize=9, markerscale=0.7)
    legend.set_zorder(10)
    ax.grid(alpha=0.25)
    return figure


def _heat_map(grid: Grid, x_label: str, y_label: str, *, log: bool) -> Figure:
    n_rows, n_columns = grid.colour.shape
    figure = Figure(figsize=(3.6 + 0.72 * n_columns, 1.8 + 0.3 * n_rows), layout="constrained")
    ax = figure.subplots()
    colour = np.log1p(grid.colour) if log else grid.colour
    limits = (0.0, float(np.nanmax(colour, initial=1e-9))) if log else _around_one(colour)
    ax.imshow(colour, aspect="auto", cmap="Reds" if log else "RdYlGn_r", vmin=limits[0], vmax=limits[1])
    _ticks(ax, grid)
    dark = colour > limits[0] + 0.6 * (limits[1] - limits[0])
    for (i, j), text in np.ndenumerate(np.array(grid.texts, dtype=np.str_)):
        ax.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if log and dark[i, j] else "black")
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    return figure


def _ticks(ax: Axes, grid: Grid) -> None:
    _name(ax, grid.columns, horizontal=True)
    _name(ax, grid.rows, horizontal=False)
    ax.tick_params(length=0)


def _name(ax: Axes, names: Sequence[str], *, horizontal: bool) -> None:
    if horizontal:
        ax.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8.5)
    else:
        ax.set_yticks(range(len(names)), names, fontsize=8.5)


def _around_one(ratios: NDArray[np.float64]) -> tuple[float, float]:
    reach = min(max(float(np.nanmax(np.abs(ratios - 1.0), initial=0.0)), 1e-6), _MAX_REACH)
    return 1.0 - reach, 1.0 + reach


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
