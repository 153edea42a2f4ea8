"""An evaluation as one self-contained HTML page: text, tables, pictures inside the file, no script, no network.

It knows nothing of paths.
"""

import base64
import html
from collections.abc import Mapping
from typing import Final

from embedllm_router.evaluation.report_evaluation_page_tables import (
    contract_table,
    cost_table,
    html_table,
    main_table,
    noise_table,
    probe_tables,
    slices_table,
)
from embedllm_router.evaluation.result import Evaluation

__all__ = ["report_page"]

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
        plots: PNGs by name, from plots.py.

    Returns:
        A complete HTML document.
    """
    e = evaluation
    parts = [
        f"<h1>Evaluation of artifact {html.escape(e.artifact.id)}</h1>",
        _intro(e),
        *(f'<p class="warning">{html.escape(text)}</p>' for text in e.inputs.warnings),
        "<h2>Does routing pay?</h2>",
        _verdict(e),
        "<h2>Predicting correctness, and routing by it</h2>",
        main_table(e),
        "<h2>Accuracy for money</h2>",
        cost_table(e),
        "<h2>Promises kept</h2>",
        contract_table(e),
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
    return '<div class="verdict">' + "".join(f"<p>{html.escape(s)}</p>" for s in e.verdict.sentences()) + "</div>"


def _picture(name: str, png: bytes) -> str:
    data, title = base64.b64encode(png).decode("ascii"), html.escape(_PICTURES[name])
    return (
        f"<h2>{title}</h2><p>{html.escape(_CAPTIONS[name])}</p>"
        f'<img alt="{title}" id="{name}" src="data:image/png;base64,{data}">'
    )
