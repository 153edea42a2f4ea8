"""What all LLMs have in common: people who judge harsher, or kinder, than the data the weights were trained on.

Without it, an LLM that gets a lot of harsh feedback would fall behind one nobody spoke of. The shift is the mean of a
random-effects model (DerSimonian and Laird, 1986) over the LLMs with feedback: it counts only where several of them
moved alike, and an LLM that moved alone shifts nobody else.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

__all__ = ["common_shift"]

_FEWEST_LLMS: Final = 3
_SURE: Final = 2.0  # standard errors


def common_shift(shifts: Sequence[float], variances: Sequence[float]) -> float:
    """The shift that LLMs share.

    Args:
        shifts: One per LLM, in logits.
        variances: Of each shift, positive.

    Returns:
        The common shift; 0 where it cannot be told from chance, or from LLMs that moved each its own way.
    """
    if len(shifts) < _FEWEST_LLMS:
        return 0.0
    shift, variance = np.array(shifts), np.array(variances)
    weight = 1.0 / variance
    mean = float(weight @ shift / weight.sum())
    spread = float(weight @ (shift - mean) ** 2)
    between = (spread - (len(shift) - 1)) / float(weight.sum() - weight @ weight / weight.sum())
    weight = 1.0 / (variance + max(between, 0.0))
    mean, error = float(weight @ shift / weight.sum()), float(1.0 / np.sqrt(weight.sum()))
    return mean if abs(mean) > _SURE * error else 0.0
