"""An evaluation for readers: JSON fields, a terminal table with a few sentences, and one self-contained HTML page.

The JSON keys are those docs/evaluation.md promises; NaN becomes null. The page holds its text, tables and pictures in
one file, without scripts or requests to a network.
"""

import base64
import dataclasses
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich import box
from rich.table import Table

from embedllm_router._stats import SEEDS, Estimate
from embedllm_router.artifact.guarantees import verdict
from embedllm_router.artifact.manifest import METRICS_OF, GuaranteeRow, LeftOutSet
from embedllm_router.evaluation.frontier import CostMetrics
from embedllm_router.evaluation.metrics import Correctness
from embedllm_router.evaluation.result import BaselineResult, Evaluation, GroupResult, RouterResult

__all__ = ["evaluation_fields", "evaluation_table", "left_out_table", "report_page", "slice_table", "summary_lines"]

SLICE_HEAD: Final = ("", "slice", "prompts", "labels", "log-loss", "AUC", "ECE", "routing accuracy", "best single LLM")
GUARANTEE_HEAD: Final = ("promise", "value", "answers", "predicted", "right", "95 % interval", "at least", "kept?")
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


LEFT_OUT_HEAD: Final = ("data set", "about", "prompts", "log-loss", "LLM means", "change [95 %]", "AUC within an LLM")
LEFT_OUT_NOTE: Final = (
    "Kinds of prompt that nobody trained on: each data set predicted by smaller weights of the same recipe that never "
    "saw it, as measured when these weights were trained."
)


def left_out_rows(sets: Sequence[LeftOutSet]) -> list[list[str]]:
    """How data sets left out of training were predicted, largest first, as text."""
    return [
        [
            one.name,
            one.domain,
            f"{one.n_prompts:,}",
            f"{one.log_loss:.4f}",
            f"{one.means_log_loss:.4f}",
            f"{one.log_loss - one.means_log_loss:+.4f} [{one.change_low:+.4f}, {one.change_high:+.4f}]",
            _number(math.nan if one.auc_within is None else one.auc_within),
        ]
        for one in sorted(sets, key=lambda one: -one.n_prompts)
    ]


def left_out_of(evaluation: Evaluation) -> tuple[LeftOutSet, ...]:
    """What the artifact says of data sets left out of training; nothing where it was not measured."""
    hedge = evaluation.artifact.manifest.hedge
    return () if hedge is None else hedge.left_out


def left_out_table(evaluation: Evaluation) -> Table | None:
    """The figures of `left_out_rows`; None without any."""
    rows = left_out_rows(left_out_of(evaluation))
    if not rows:
        return None
    table = Table(title="data sets left out of training", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.caption, table.caption_justify = LEFT_OUT_NOTE, "left"
    for i, name in enumerate(LEFT_OUT_HEAD):
        table.add_column(name, justify="left" if i < 2 else "right")  # noqa: PLR2004 - two columns of words
    for row in rows:
        table.add_row(*row)
    return table


def guarantee_rows(rows: Sequence[GuaranteeRow]) -> list[list[str]]:
    """One row per promise under `GUARANTEE_HEAD`; those by data set name it."""
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
        for row in rows
    ]


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"


_COVERAGES: Final = (0.25, 0.5, 0.75, 0.9)


def evaluation_fields(evaluation: Evaluation) -> dict[str, object]:
    """Everything worth keeping of an evaluation, ready for a JSON writer."""
    e = evaluation
    test, manifest = e.inputs.test.matrix, e.artifact.manifest
    fields: dict[str, object] = {
        "n_prompts": len(test.prompts),
        "n_llms": e.n_llms,
        "n_labels": test.n_labels,
        **_correctness(e.router.correctness),
        "routing": _routing(e.router),
        "baselines": {name: _baseline(b) for name, b in e.baselines.items()},
        "by_category": {name: _group(c) for name, c in e.categories.items()},
        "slices": {kind: {name: _group(g) for name, g in found.items()} for kind, found in e.slices.items()},
        "left_out": [one.model_dump() for one in left_out_of(e)],
        "contract": [{**row.model_dump(), "verdict": verdict(row)} for row in e.guarantee],
        "artifact": e.artifact.id,
        "recorded_log_loss": manifest.metrics.get("log_loss") if manifest.training.get(METRICS_OF) is None else None,
        "split": e.split,
        "seed": e.seed,
        "bootstrap_seeds": list(SEEDS),
        "mf_epochs": e.mf_epochs,
        "skipped_labels": dict(e.inputs.skipped),
        "warnings": list(e.inputs.warnings),
        "baselines_not_run": dict(e.not_run),
        "intervals": {f.name: _estimate_fields(getattr(e.intervals, f.name)) for f in dataclasses.fields(e.intervals)},
        "verdict": _verdict_fields(e),
        "cost": _cost(e.router) | {"unpriced_llms": e.n_unpriced, "recorded_tokens_share": e.recorded_tokens},
        "abstention": _abstention(e.router),
        "noise_ceiling": [dataclasses.asdict(n) for n in e.noise],
        "probes": {
            "benchmark_accuracy": [dataclasses.asdict(p) for p in e.accuracy_probes],
            "labels": [dataclasses.asdict(p) for p in e.label_probes],
        },
    }
    cleaned = _without_nan(fields)
    assert isinstance(cleaned, dict)
    return cleaned


def _correctness(c: Correctness | None) -> dict[str, object]:
    names = ("log_loss", "brier", "auc", "ece", "accuracy")
    return {name: getattr(c, name) if c else None for name in names}


def _routing(r: RouterResult) -> dict[str, object]:
    names = ("accuracy", "best_single", "oracle", "random", "cost_save", "perf_gain", "aiq")
    if r.routed is None:
        return {**dict.fromkeys(names), "n_prompts": 0}
    return {
        "accuracy": float(r.routed.correct.mean()),
        "best_single": float(r.routed.best_single.mean()),
        "oracle": float(r.routed.oracle.mean()),
        "random": float(r.routed.random.mean()),
        "cost_save": r.cost.cost_save if r.cost else None,
        "perf_gain": r.cost.perf_gain if r.cost else None,
        "aiq": r.cost.aiq if r.cost else None,
        "n_prompts": len(r.routed.correct),
    }


def _cost(r: RouterResult) -> dict[str, object]:
    figures = dataclasses.asdict(r.cost) if r.cost else {}
    pools = [
        {
            "dataset": result.arena.pool.dataset,
            "n_prompts": len(result.arena.labels),
            "n_llms": len(result.arena.pool.columns),
            **dataclasses.asdict(result.metrics),
        }
        for result in r.costs
    ]
    return {**figures, "pareto_distance": r.pareto_distance, "mean_cost_usd": r.mean_cost_usd, "pools": pools}


def _baseline(b: BaselineResult) -> dict[str, object]:
    cost = _cost(b.result)
    del cost["pools"]
    return {
        **_correctness(b.result.correctness),
        "routing": _routing(b.result),
        "cost": cost,
        "log_loss_difference": _estimate_fields(b.log_loss_difference),
        "routing_accuracy_difference": _estimate_fields(b.accuracy_difference),
        "seconds": round(b.seconds, 2),
    }


def _group(c: GroupResult) -> dict[str, object]:
    return {
        "n_prompts": c.n_prompts,
        "n_labels": c.correctness.n_labels,
        **_correctness(c.correctness),
        "routing": {"accuracy": c.routing_accuracy, "best_single": c.best_single_accuracy, "n_prompts": c.n_routed},
        "baselines": dict(c.baseline_log_loss),
    }


def _verdict_fields(e: Evaluation) -> dict[str, object] | None:
    v = e.verdict
    if v is None or e.router.routed is None:
        return None
    routed = e.router.routed
    return {
        "gain_over_best_single": _estimate_fields(v.gain),
        "gap_to_oracle": float((routed.oracle - routed.correct).mean()),
        "cost_save": _estimate_fields(v.cost_save),
        "cost_save_held_out": v.held_out.saved if v.held_out else None,
        "accuracy_difference_held_out": _estimate_fields(v.held_out.accuracy_difference) if v.held_out else None,
        "sentences": list(v.sentences()),
        "data_sets": [
            {"dataset": one.dataset, "fixed": one.fixed, **dataclasses.asdict(one.verdict.judgement)}
            for one in e.data_sets
        ],
    }


def _abstention(r: RouterResult) -> dict[str, object] | None:
    if r.routed is None:
        return None
    curve = r.routed.risk_coverage
    return {"aurc": curve.area, "risk_at_coverage": {str(c): curve.risk_at(c) for c in _COVERAGES}}


def _estimate_fields(estimate: Estimate | None) -> dict[str, object] | None:
    return dataclasses.asdict(estimate) if estimate else None


def _without_nan(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return value


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
    said = [one.headline for one in e.data_sets]
    said += e.verdict.sentences() if e.verdict else ["Routing cannot be judged: no data set has a pool of LLMs."]
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
    return [_formatted(value, spec) for value, spec in (*figures, (aiq, ".3f"), (r.mean_cost_usd * 1000, ".2f"))]


def _formatted(value: float, spec: str) -> str:
    return format(value, spec) if math.isfinite(value) else "-"


_OURS: Final = "this artifact"
_MAIN_HEAD: Final = (
    "",
    "log-loss",
    "AUC",
    "Brier",
    "ECE",
    "routing accuracy",
    "log-loss: ours minus",
    "routing: ours minus",
)
_COST_FIGURES: Final = {
    "aiq": "AIQ",
    "aiq_code": "AIQ (code)",
    "deferral_area": "deferral area",
    "qnc": "QNC",
    "apgr": "APGR",
    "cpt50": "CPT 50",
    "cpt80": "CPT 80",
    "arena": "Arena",
    "arena_best": "Arena, best",
}
_COST_NOTE: Final = (
    "{unpriced} of {llms} LLMs have no list price and no part in this table. Output tokens were recorded for "
    "{recorded:.0%} of priced labels and predicted by the artifact for the rest. Figures are means over data sets "
    "weighted by prompts; a dash means undefined. Operating points are picked in hindsight, as the papers do; the "
    "verdict above also gives the saving without hindsight."
)
_NOISE_NOTE: Final = (
    "How often one LLM is right once and wrong once on the same question stem. Half of it bounds the Brier score from "
    "below, 2·ln 2 times it the log-loss, on questions like these. Repeats differ in options or answer format, part of "
    "which a predictor could know, so the true floor may be lower."
)

_GUARANTEE_NOTE: Final = (
    "How often answers were right where a promise was made of them: p_correct ≥ τ, or the highest utility at λ. "
    "Intervals are the wider of Clopper and Pearson's and a bootstrap over questions; the one-sided 95 % bound must "
    "reach τ for a promise to be kept."
)
_SLICE_NOTE: Final = (
    "The language is what py3langid makes of the first 2,000 characters; undetermined are texts of little language, "
    "such as sums. Code is read from the text by patterns. A dash means no prompt there could be routed."
)


def main_table(e: Evaluation) -> str:
    """Correctness and routing of the artifact and its baselines."""
    rows = [_main_row(_OURS, e.router, "", "")]
    for name, b in e.baselines.items():
        rows.append(_main_row(name, b.result, _interval(b.log_loss_difference), _interval(b.accuracy_difference)))
    return html_table(_MAIN_HEAD, rows) + "".join(_note(text) for text in _main_notes(e))


def cost_table(e: Evaluation) -> str:
    """Figures of accuracy against cost: the artifact, its baselines, then the artifact per data set."""
    if e.router.cost is None:
        return "<p>No data set has two LLMs with a list price that graded nearly all of it.</p>"
    head = ["", "cost saved", "PerfGain", *_COST_FIGURES.values(), "ParetoDist", "USD/1k at λ = 0"]
    rows = [_cost_row(_OURS, e.router.cost, e.router.pareto_distance, e.router.mean_cost_usd)]
    for name, b in e.baselines.items():
        if b.result.cost:
            rows.append(_cost_row(name, b.result.cost, b.result.pareto_distance, b.result.mean_cost_usd))
    for result in e.router.costs:
        name = f"… {result.arena.pool.dataset} ({len(result.arena.pool.columns)} LLMs)"
        rows.append(_cost_row(name, result.metrics, math.nan, float(result.sweep.cost[:, 0].mean())))
    note = _COST_NOTE.format(unpriced=e.n_unpriced, llms=e.n_llms, recorded=e.recorded_tokens)
    return html_table(head, rows) + _note(note)


def guarantee_table(e: Evaluation) -> str:
    """How often promises were kept."""
    if not e.guarantee:
        return "<p>No promise was made on these prompts.</p>"
    return html_table(GUARANTEE_HEAD, guarantee_rows(e.guarantee), ours=None) + _note(_GUARANTEE_NOTE)


def slices_table(e: Evaluation) -> str:
    """The artifact by language, content and length of the prompt."""
    return html_table(SLICE_HEAD, slice_rows(e), ours=None) + _note(_SLICE_NOTE)


def noise_table(e: Evaluation) -> str:
    """Floors under every predictor's error."""
    if not e.noise:
        return "<p>No question was asked twice, so there is no estimate.</p>"
    head = ["question asked twice", "questions", "answer pairs", "disagreement", "Brier floor", "log-loss floor"]
    rows = [
        [
            n.kind,
            f"{n.n_questions:,}",
            f"{n.n_pairs:,}",
            _interval(n.disagreement),
            *_numbers(n.brier_floor, n.log_loss_floor),
        ]
        for n in e.noise
    ]
    return html_table(head, rows, ours=None) + _note(_NOISE_NOTE)


def probe_tables(e: Evaluation) -> str:
    """What linear probes read from LLM embeddings."""
    head = ["benchmark", "LLMs", "error, LLM left out", "error of the mean", "rank correlation, benchmark left out"]
    accuracy = [
        [
            p.benchmark,
            str(p.n_llms),
            *_numbers(p.left_out_llm_error, p.mean_error, p.transfer_correlation, p.transfer_baseline),
            str(p.n_transfer),
        ]
        for p in e.accuracy_probes
    ]
    labels = [
        [p.name, str(p.n_llms), str(p.n_classes), _number(p.accuracy), _number(p.majority)] for p in e.label_probes
    ]
    return (
        html_table([*head, "the same from mean standing", "LLMs on both"], accuracy, ours=None)
        + _note(
            "Linear probes from the LLM embedding to accuracy. The probe is new to the benchmark left out; the "
            "embedding was learned with it."
        )
        + html_table(["property", "LLMs", "classes", "foretold", "commonest class"], labels, ours=None)
        + _note("Five-fold cross-validation, ten times; classes of fewer than three LLMs are left out.")
    )


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], ours: str | None = _OURS) -> str:
    """A table of escaped texts; the row named `ours` stands out."""
    lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    for row in rows:
        kind = ' class="ours"' if ours is not None and row[0] == ours else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>")
    return "<table>" + "".join(lines) + "</table>"


def _main_row(name: str, r: RouterResult, loss: str, accuracy: str) -> list[str]:
    c = r.correctness
    figures = [c.log_loss, c.auc, c.brier, c.ece] if c else [math.nan] * 4
    routed = float(r.routed.correct.mean()) if r.routed else math.nan
    return [name, *(_number(f) for f in figures), _number(routed), loss, accuracy]


def _main_notes(e: Evaluation) -> list[str]:
    i = e.intervals
    said = [f"The artifact: log-loss {_interval(i.log_loss)}, AUC {_interval(i.auc)}, ECE {_interval(i.ece)}."]
    said.append(f"Brier {_interval(i.brier)}; verdicts foretold {_interval(i.accuracy)}.")
    if e.router.routed:
        routed = e.router.routed
        best, oracle, random = _numbers(*(float(v.mean()) for v in (routed.best_single, routed.oracle, routed.random)))
        said.append(
            f"Routing without regard to cost over {len(routed.correct):,} prompts: best single LLM {best}, oracle "
            f"{oracle}, random {random}; abstention area {_number(routed.risk_coverage.area)}."
        )
    if "mf" in e.baselines:
        said.append(f"mf ran {e.mf_epochs} epochs; the paper runs 50.")
    said.extend(f"{name} was not run: {reason}." for name, reason in e.not_run.items())
    return [*said, "dataset_oracle and oracle see the test labels."]


def _cost_row(name: str, c: CostMetrics, distance: float, mean_cost_usd: float) -> list[str]:
    figures = [_number(getattr(c, figure)) for figure in _COST_FIGURES]
    return [name, _share(c.cost_save), _share(c.perf_gain), *figures, _number(distance), _number(mean_cost_usd * 1000)]


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def _numbers(*values: float) -> list[str]:
    return [_number(value) for value in values]


def _share(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "-"


def _interval(e: Estimate | None) -> str:
    return "" if e is None else f"{e.value:.4f} [{e.low:.4f}, {e.high:.4f}]"


_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#1b1b1b}
h1{font-size:1.7em}h2{margin-top:2em;border-bottom:1px solid #ddd}
table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}
th,td{padding:3px 9px;text-align:right;border-bottom:1px solid #eee}th:first-child,td:first-child{text-align:left}
th{background:#f5f5f5}img{max-width:100%}p.note{color:#555;font-size:13px}
.verdict{background:#fff8e6;border-left:4px solid #d9a400;padding:.6em 1em}
.warning{background:#fdecea;border-left:4px solid #c1121f;padding:.6em 1em}
tr.ours td{font-weight:600;background:#fdf1f1}
"""
_PICTURES: Final = {
    "frontier": "Accuracy against cost",
    "reliability": "Reliability",
    "choices": "Confusion of choices",
    "abstention": "Abstention",
    "llm_map": "Map of LLMs",
    "categories": "Log-loss by category",
}
_CAPTIONS: Final = {
    "frontier": """One panel per data set, over LLMs with a list price that graded nearly all of it. A router's
        line is its cost weight λ swept from 0 to infinity; nobody has picked a λ here.""",
    "reliability": "Predictions in 15 bins of equal mass against the share that was correct.",
    "choices": """Prompts by the LLM chosen without regard to cost, and the cheapest one that was right. LLMs without a
        price count as dearest. Most empty cells are LLMs that were never graded on the same prompts.""",
    "abstention": "Risk when only the surest share of prompts is answered.",
    "llm_map": "LLM embeddings on their two principal axes. Near means alike in what they get right.",
    "categories": "The largest categories with their number of labels. Green is better than the LLM means, red worse.",
}


def report_page(evaluation: Evaluation, plots: Mapping[str, bytes]) -> str:
    """Renders the report.

    Args:
        evaluation: The findings.
        plots: PNGs by name, from `plots.draw`.

    Returns:
        A complete HTML document.
    """
    e = evaluation
    parts = [
        f"<h1>Evaluation of artifact {html.escape(e.artifact.id)}</h1>",
        "<h2>Does routing pay?</h2>",
        _verdict(e),
        _intro(e),
        *(f'<p class="warning">{html.escape(text)}</p>' for text in e.inputs.warnings),
        *_left_out_part(e),
        "<h2>Predicting correctness, and routing by it</h2>",
        main_table(e),
        "<h2>Accuracy for money</h2>",
        cost_table(e),
        "<h2>Promises kept</h2>",
        guarantee_table(e),
        "<h2>By language, content and length</h2>",
        slices_table(e),
        *(_picture(name, plots[name]) for name in _PICTURES if name in plots),
        "<h2>What no predictor can know</h2>",
        noise_table(e),
        "<h2>What the LLM embeddings know</h2>",
        probe_tables(e),
        "<h2>Labels that were left out</h2>",
        html_table(["reason", "labels"], [[reason, f"{n:,}"] for reason, n in e.inputs.skipped.items()]),
    ]
    body = "\n".join(parts)
    title = f"embedllm-router evaluation {html.escape(e.artifact.id)}"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _left_out_part(e: Evaluation) -> list[str]:
    rows = left_out_rows(left_out_of(e))
    if not rows:
        return []
    return ["<h2>Kinds of prompt nobody trained on</h2>", html_table(LEFT_OUT_HEAD, rows, None), _note(LEFT_OUT_NOTE)]


def _intro(e: Evaluation) -> str:
    test = e.inputs.test.matrix
    sets = ", ".join(dict.fromkeys(test.datasets))
    part = "the part training set aside, split by question stem" if e.split == "test" else "every prompt of the data"
    return (
        f"<p>{len(test.prompts):,} prompts, {e.n_llms} LLMs, {test.n_labels:,} labels from {html.escape(sets)}: "
        f"{part}. "
        "Missing labels are left out, never counted as wrong. Brackets: 95 % bootstrap intervals over prompts.</p>"
    )


def _verdict(e: Evaluation) -> str:
    if e.verdict is None:
        return "<p>No data set has two LLMs that graded nearly all of it: routing cannot be judged.</p>"
    answers = "".join(
        f"<p><b>{html.escape(one.headline)}</b> {html.escape(' '.join(one.sentences()))}</p>" for one in e.data_sets
    )
    said = "".join(f"<p>{html.escape(s)}</p>" for s in e.verdict.sentences())
    return f'<div class="verdict">{answers}{said}</div>'


def _picture(name: str, png: bytes) -> str:
    data, title = base64.b64encode(png).decode("ascii"), html.escape(_PICTURES[name])
    return (
        f"<h2>{title}</h2><p>{html.escape(_CAPTIONS[name])}</p>"
        f'<img alt="{title}" id="{name}" src="data:image/png;base64,{data}">'
    )
