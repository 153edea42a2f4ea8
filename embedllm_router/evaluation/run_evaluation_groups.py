"""The artifact's figures on groups of test prompts: categories, slices. It knows nothing of what they mean."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.evaluation.metrics_evaluation_correctness import correctness
from embedllm_router.evaluation.result import BaselineResult, GroupResult, RouterResult
from embedllm_router.evaluation.routing import Field

__all__ = ["measure_groups"]


def measure_groups(
    names: NDArray[np.str_],
    test: CorrectnessMatrix,
    field: Field,
    router: RouterResult,
    baselines: Mapping[str, BaselineResult],
) -> dict[str, GroupResult]:
    """Measures every group.

    Args:
        names: Each test prompt's group, (n_prompts,).
        test: Labels.
        field: The pools that `router` was routed in.
        router: The artifact on the whole test part.
        baselines: The baselines on it.

    Returns:
        Figures by group, in the order of its first prompt.
    """
    routed_rows = np.concatenate([arena.pool.rows for arena in field.all_llms] or [np.zeros(0, dtype=np.int64)])
    labels, found = test.labels(), {}
    for name in dict.fromkeys(names.tolist()):
        rows = names == name
        among = rows[routed_rows]
        losses = {
            other: correctness(labels[rows], b.result.p[rows], test.observed[rows]).log_loss
            for other, b in baselines.items()
            if b.result.correctness is not None
        }
        routed = router.routed
        found[name] = GroupResult(
            n_prompts=int(rows.sum()),
            correctness=correctness(labels[rows], router.p[rows], test.observed[rows]),
            routing_accuracy=float(routed.correct[among].mean()) if routed and among.any() else math.nan,
            best_single_accuracy=float(routed.best_single[among].mean()) if routed and among.any() else math.nan,
            n_routed=int(among.sum()),
            baseline_log_loss=losses,
        )
    return found
