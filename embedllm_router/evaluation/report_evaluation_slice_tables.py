"""Slices of traffic, and promises kept on it, as rows of text for people. It knows nothing of terminals or pages."""

import math
from collections.abc import Sequence
from typing import Final

from rich import box
from rich.table import Table

from embedllm_router.artifact.guarantees import verdict
from embedllm_router.artifact.manifest import ContractRow
from embedllm_router.evaluation.result import Evaluation

__all__ = ["CONTRACT_HEAD", "PROMISES", "SLICE_HEAD", "contract_rows", "slice_rows", "slice_table"]

SLICE_HEAD: Final = ("", "slice", "prompts", "labels", "log-loss", "AUC", "ECE", "routing accuracy", "best single LLM")
CONTRACT_HEAD: Final = ("promise", "value", "answers", "predicted", "right", "95 % interval", "at least", "kept?")
PROMISES: Final = {
    "any_llm": "every LLM that reaches τ",
    "min_p_correct": "the cheapest LLM that reaches τ",
    "cost_weight": "the highest utility at λ",
}
"""What each promise is about, in words."""


def slice_rows(e: Evaluation) -> list[list[str]]:
    """One row per slice under `SLICE_HEAD`; the kind stands in its first row."""
    rows = []
    for kind, slices in e.slices.items():
        for i, (name, g) in enumerate(slices.items()):
            c = g.correctness
            figures = (c.log_loss, c.auc, c.ece, g.routing_accuracy, g.best_single_accuracy)
            rows.append([kind if i == 0 else "", name, f"{g.n_prompts:,}", f"{c.n_labels:,}", *map(_number, figures)])
    return rows


def slice_table(e: Evaluation) -> Table:
    """The slices for a terminal."""
    table = Table(title="slices", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for i, name in enumerate(SLICE_HEAD):
        table.add_column(name, justify="left" if i < 2 else "right")  # noqa: PLR2004 - two columns of words
    for row in slice_rows(e):
        table.add_row(*row)
    return table


def contract_rows(contract: Sequence[ContractRow]) -> list[list[str]]:
    """One row per promise under `CONTRACT_HEAD`; those by data set name it."""
    return [
        [
            PROMISES[row.promise] + (f", {row.data}" if row.data else ""),
            f"{row.value:g}",
            f"{row.n_labels:,}",
            *map(_number, (row.predicted, row.correct)),
            f"[{row.low:.4f}, {row.high:.4f}]",
            _number(row.at_least),
            verdict(row) or "",
        ]
        for row in contract
    ]


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"
