"""An evaluation as plain values for JSON: the keys docs/evaluation.md promises. NaN becomes null.

It knows nothing of tables or pages.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Final

from embedllm_router.artifact.guarantees import verdict
from embedllm_router.evaluation.metrics_evaluation_correctness import Correctness
from embedllm_router.evaluation.result import BaselineResult, Evaluation, GroupResult, RouterResult
from embedllm_router.stats_evaluation_bootstrap import SEEDS, Estimate

__all__ = ["evaluation_fields"]

_COVERAGES: Final = (0.25, 0.5, 0.75, 0.9)


def evaluation_fields(evaluation: Evaluation) -> dict[str, object]:
    """Everything worth keeping of an evaluation, ready for a JSON writer."""
    e = evaluation
    test = e.inputs.test.matrix
    fields: dict[str, object] = {
        "n_prompts": len(test.prompts),
        "n_llms": e.n_llms,
        "n_labels": test.n_labels,
        **_correctness(e.router.correctness),
        "routing": _routing(e.router),
        "baselines": {name: _baseline(b) for name, b in e.baselines.items()},
        "by_category": {name: _group(c) for name, c in e.categories.items()},
        "slices": {kind: {name: _group(g) for name, g in found.items()} for kind, found in e.slices.items()},
        "contract": [{**row.model_dump(), "verdict": verdict(row)} for row in e.contract],
        "artifact": e.artifact.id,
        "recorded_log_loss": e.artifact.manifest.metrics.get("log_loss"),
        "split": e.split,
        "seed": e.seed,
        "bootstrap_seeds": list(SEEDS),
        "mf_epochs": e.mf_epochs,
        "skipped_labels": dict(e.inputs.skipped),
        "warnings": list(e.inputs.warnings),
        "baselines_not_run": dict(e.not_run),
        "intervals": {f.name: _interval(getattr(e.intervals, f.name)) for f in dataclasses.fields(e.intervals)},
        "verdict": _verdict(e),
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
        "log_loss_difference": _interval(b.log_loss_difference),
        "routing_accuracy_difference": _interval(b.accuracy_difference),
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


def _verdict(e: Evaluation) -> dict[str, object] | None:
    v = e.verdict
    if v is None or e.router.routed is None:
        return None
    routed = e.router.routed
    return {
        "gain_over_best_single": _interval(v.gain),
        "gap_to_oracle": float((routed.oracle - routed.correct).mean()),
        "cost_save": _interval(v.cost_save),
        "cost_save_held_out": v.held_out.saved if v.held_out else None,
        "accuracy_difference_held_out": _interval(v.held_out.accuracy_difference) if v.held_out else None,
        "sentences": list(v.sentences()),
    }


def _abstention(r: RouterResult) -> dict[str, object] | None:
    if r.routed is None:
        return None
    curve = r.routed.risk_coverage
    return {"aurc": curve.area, "risk_at_coverage": {str(c): curve.risk_at(c) for c in _COVERAGES}}


def _interval(estimate: Estimate | None) -> dict[str, object] | None:
    return dataclasses.asdict(estimate) if estimate else None


def _without_nan(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return value
