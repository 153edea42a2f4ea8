"""Risk against coverage: how accurate a router is on the prompts it is surest of (Geifman & El-Yaniv, 2017).

It knows nothing of LLMs; a confidence and a verdict per prompt are all it sees.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RiskCoverage", "risk_coverage"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Risk when only the surest share of prompts is answered.

    Attributes:
        coverage: float64 (n_prompts,), rising to 1.
        risk: Share wrong among those covered, float64 (n_prompts,), in [0, 1].
    """

    coverage: Floats
    risk: Floats

    @property
    def area(self) -> float:
        """Area under the curve (AURC): mean risk over all coverages; lower is better."""
        return float(self.risk.mean())

    def risk_at(self, coverage: float) -> float:
        """Risk at the smallest coverage on the curve that is at least as large as the one given."""
        at = int(np.searchsorted(self.coverage, coverage - 1e-12))
        return float(self.risk[min(at, len(self.risk) - 1)])


def risk_coverage(confidence: Floats, correct: Floats) -> RiskCoverage:
    """Orders prompts by confidence and accumulates mistakes.

    Args:
        confidence: float64 (n_prompts,); ties keep the prompts' order.
        correct: float64 (n_prompts,), 0 or 1; at least one prompt.

    Returns:
        The curve.
    """
    order = np.argsort(-confidence, kind="stable")
    n = np.arange(1, len(correct) + 1)
    return RiskCoverage(n / len(correct), np.cumsum(1.0 - correct[order]) / n)
