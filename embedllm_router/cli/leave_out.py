"""`evaluate --leave-out`: makes a recipe of data and weights, leaves out each data set in turn, prints what was found.

Heavy imports wait until the command runs.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from embedllm_router.cli.console import (
    by_epoch,
    figure,
    figures_table,
    print_json,
    print_lines,
    progress,
    stdout,
    warn,
)

if TYPE_CHECKING:
    from embedllm_router.artifact.weights import Artifact
    from embedllm_router.training.fit.facts import Facts
    from embedllm_router.training.fit.form import Recipe
    from embedllm_router.training.fit.leave_out_figures import LeftOut, SetFigures

__all__ = ["LeaveOutChoice"]


@dataclass(frozen=True, slots=True)
class LeaveOutChoice:
    """What is asked of `--leave-out`.

    Attributes:
        sources: JSON file that names the published benchmarks with a set's questions.
        min_labels: LLMs with fewer graded answers are left out.
        max_prompts: Most prompts that are taken of each data set.
        full_size: Whether networks are as large and trained as long as those of weights to serve.
        cache: Folder where finished sets are kept.
    """

    sources: Path | None
    min_labels: int
    max_prompts: int | None
    full_size: bool
    cache: Path | None

    def print(self, artifact: "Artifact", data: list[Path], embeddings: Path | None = None, *, as_json: bool) -> None:
        """Leaves out each data set in turn and prints the figures.

        Args:
            artifact: Whose prompt encoder is taken, and whose list prices where the data have none.
            data: At least three data sets.
            embeddings: Folder where a sentence transformer's embeddings are kept; None keeps none.
            as_json: Whether to print JSON.
        """
        from embedllm_router.training.fit.leave_out import LeaveOutOptions
        from embedllm_router.training.fit.leave_out_figures import measure_left_out

        recipe = _recipe(artifact, data, self.sources, embeddings)
        options = LeaveOutOptions.full_size(recipe.options) if self.full_size else LeaveOutOptions()
        with progress() as on_progress:
            found = measure_left_out(
                data,
                recipe,
                options,
                min_labels=self.min_labels,
                max_prompts=self.max_prompts,
                cache=self.cache,
                progress=by_epoch(on_progress),
            )
        for warning in found.warnings:
            warn(warning)
        if as_json:
            print_json(asdict(found))
            return
        console = stdout()
        for table in _tables(found):
            console.print(table)
        print_lines(console, _lines(found))


def _recipe(artifact: "Artifact", data: list[Path], sources: Path | None, embeddings: Path | None) -> "Recipe":
    from embedllm_router.training.fit.distill import distilled_part
    from embedllm_router.training.fit.encoding import DEFAULT_NGRAMS
    from embedllm_router.training.fit.facts import find_llm_table, read_facts
    from embedllm_router.training.fit.form import Recipe
    from embedllm_router.training.fit.options import TrainingOptions
    from embedllm_router.training.fit.published import find_published, read_published

    published = read_published(find_published(data))
    facts = _with_prices(read_facts(find_llm_table(data), sources=sources), artifact)
    encoder = distilled_part(artifact, embeddings)
    return Recipe(encoder, facts, published, TrainingOptions(), 128, tuple(DEFAULT_NGRAMS))


def _with_prices(facts: "Facts", artifact: "Artifact") -> "Facts":
    """The facts, with the weights' list prices of LLMs that have none."""
    from dataclasses import replace

    from embedllm_router.training.fit.facts import Price

    known = {
        llm.id: Price(
            input_usd_per_mtok=llm.input_usd_per_mtok,
            output_usd_per_mtok=llm.output_usd_per_mtok,
            source=llm.price_source,
        )
        for llm in artifact.manifest.llms
        if llm.output_usd_per_mtok is not None
    }
    return replace(facts, prices={**known, **facts.prices})


def _tables(found: "LeftOut") -> Iterator[Table]:
    yield _losses(found)
    yield _orders(found)
    yield _routing(found)


def _losses(found: "LeftOut") -> Table:
    table = figures_table(
        "log-loss on data sets left out of training",
        ("data set",),
        ("prompts", "LLMs", "right", "weights", "LLM means", "kNN", "weights - means [95 %]"),
    )
    for one in found.sets:
        loss = {name: figures.log_loss for name, figures in one.predictors.items()}
        change = one.change["means"]
        table.add_row(
            one.name,
            f"{one.n_prompts:,}",
            f"{one.n_llms:,}",
            f"{one.right:.3f}",
            *(f"{loss[name]:.4f}" for name in ("weights", "means", "knn")),
            f"{change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]",
        )
    means = [_mean([one.predictors[name].log_loss for one in found.sets]) for name in ("weights", "means", "knn")]
    table.add_row("mean", "", "", "", *(f"{mean:.4f}" for mean in means), "")
    return table


def _orders(found: "LeftOut") -> Table:
    table = figures_table(
        "order and level: weights / LLM means / kNN",
        ("data set",),
        ("AUC", "AUC within an LLM", "rank correlation of LLMs", "mean prediction - right"),
    )
    for one in found.sets:
        table.add_row(
            one.name,
            _three(one, "auc"),
            _three(one, "auc_within"),
            _three(one, "rank_correlation"),
            " / ".join(f"{one.predictors[name].mean_p - one.right:+.3f}" for name in ("weights", "means", "knn")),
        )
    return table


def _three(one: "SetFigures", name: str) -> str:
    return " / ".join(figure(getattr(one.predictors[by], name), ".3f") for by in ("weights", "means", "knn"))


def _routing(found: "LeftOut") -> Table:
    table = figures_table(
        "accuracy of routing, USD per 1,000 answers",
        ("data set", "cost weight"),
        ("prompts", "LLMs", "weights", "LLM means", "kNN", "best fixed LLM", "weights - best fixed [95 %]"),
    )
    for name, routed in found.routed.items():
        for one in routed:
            cells = [
                f"{one.accuracy[by]:.3f}" + (f", {1000 * one.cost_usd[by]:.2f}" if one.cost_weight else "")
                for by in ("weights", "means", "knn", "best_fixed")
            ]
            gain = f"{one.gain.value:+.3f} [{one.gain.low:+.3f}, {one.gain.high:+.3f}]"
            table.add_row(name, f"{one.cost_weight:g}", f"{one.n_prompts:,}", f"{one.n_llms:,}", *cells, gain)
    return table


def _lines(found: "LeftOut") -> Iterator[str]:
    better = sum(one.change["means"].negative for one in found.sets)
    worse = sum(one.change["means"].positive for one in found.sets)
    yield (
        f"Of {len(found.sets)} data sets, log-loss is surely below that of LLM means on {better} and surely above on "
        f"{worse} (95 % intervals over prompts)."
    )
    yield "Each set was predicted by networks that saw nothing of it, with constants found on the other sets."


def _mean(values: list[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
