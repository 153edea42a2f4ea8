"""The tables of the report page, with the notes under them. It knows nothing of pictures or the page around them."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Final

from embedllm_router.evaluation.frontier_evaluation_cost_metrics import CostMetrics
from embedllm_router.evaluation.report_evaluation_slice_tables import (
    CONTRACT_HEAD,
    SLICE_HEAD,
    contract_rows,
    slice_rows,
)
from embedllm_router.evaluation.result import Evaluation, RouterResult
from embedllm_router.stats_evaluation_bootstrap import Estimate

__all__ = [
    "contract_table",
    "cost_table",
    "html_table",
    "main_table",
    "noise_table",
    "probe_tables",
    "slices_table",
]

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

_CONTRACT_NOTE: Final = (
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


def contract_table(e: Evaluation) -> str:
    """How often promises were kept."""
    if not e.contract:
        return "<p>No promise was made on these prompts.</p>"
    return html_table(CONTRACT_HEAD, contract_rows(e.contract), ours=None) + _note(_CONTRACT_NOTE)


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


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"


def _numbers(*values: float) -> list[str]:
    return [_number(value) for value in values]


def _share(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "-"


def _interval(e: Estimate | None) -> str:
    return "" if e is None else f"{e.value:.4f} [{e.low:.4f}, {e.high:.4f}]"
