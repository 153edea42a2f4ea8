"""An evaluation as a terminal table and a few sentences. It knows nothing of commands."""

import math

from rich import box
from rich.table import Table

from embedllm_router.evaluation.result import Evaluation, RouterResult

__all__ = ["evaluation_table", "summary_lines"]


def evaluation_table(evaluation: Evaluation) -> Table:
    """The artifact and its baselines, one row each."""
    e = evaluation
    title = f"artifact {e.artifact.id}: {len(e.inputs.test.matrix.prompts):,} prompts, {e.n_llms} LLMs"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in ("log-loss", "AUC", "Brier", "ECE", "routing", "saved", "AIQ", "$/1k"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("this artifact", *_cells(e.router), style="bold")
    for name, baseline in e.baselines.items():
        table.add_row(name, *_cells(baseline.result))
    return table


def summary_lines(evaluation: Evaluation) -> list[str]:
    """The verdict, and what was left out."""
    e = evaluation
    said = list(e.verdict.sentences()) if e.verdict else ["Routing cannot be judged: no data set has a pool of LLMs."]
    if e.router.routed:
        routed = e.router.routed
        said.append(
            f"Best single LLM {routed.best_single.mean():.4f}, oracle {routed.oracle.mean():.4f}, random "
            f"{routed.random.mean():.4f} over {len(routed.correct):,} prompts."
        )
    said.extend(f"Left out: {n:,} labels, {reason}." for reason, n in e.inputs.skipped.items())
    if e.n_unpriced:
        said.append(f"{e.n_unpriced} of {e.n_llms} LLMs have no list price and no part in cost figures.")
    if "mf" in e.baselines:
        said.append(f"mf ran {e.mf_epochs} epochs (50 in the paper).")
    said.extend(f"{name} was not run: {reason}." for name, reason in e.not_run.items())
    return said


def _cells(r: RouterResult) -> list[str]:
    c = r.correctness
    log_loss, auc, brier, ece = (c.log_loss, c.auc, c.brier, c.ece) if c else [math.nan] * 4
    routed = float(r.routed.correct.mean()) if r.routed else math.nan
    saved, aiq = (r.cost.cost_save, r.cost.aiq) if r.cost else (math.nan, math.nan)
    figures = [(log_loss, ".4f"), (auc, ".3f"), (brier, ".3f"), (ece, ".4f"), (routed, ".3f"), (saved, ".0%")]
    return [_number(value, spec) for value, spec in (*figures, (aiq, ".3f"), (r.mean_cost_usd * 1000, ".2f"))]


def _number(value: float, spec: str) -> str:
    return format(value, spec) if math.isfinite(value) else "-"
