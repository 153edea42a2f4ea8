"""How another candidate than the best is tried, and with which odds. Values only; exploring.py draws."""

from dataclasses import dataclass

from embedllm_router.routing.pool import Floats

__all__ = ["Exploration", "Explored"]


@dataclass(frozen=True, slots=True)
class Exploration:
    """How, how often, and how far from the best, another candidate is tried.

    Attributes:
        epsilon: Share of requests for which one of those within the caps is drawn evenly, in [0, 1].
        max_loss: What it may lose in p_correct against the best one, in [0, 1].
        max_extra_usd: What it may cost more than the best one, in USD.
        thompson: Whether candidates are weighed by drawn probabilities, wider where little was learned.
        spread: How wide against what the answers learned from say; at least 0.
    """

    epsilon: float = 0.0
    max_loss: float = 0.1
    max_extra_usd: float = 0.01
    thompson: bool = False
    spread: float = 1.0

    @property
    def on(self) -> bool:
        """Whether anything is ever tried."""
        return self.epsilon > 0 or self.thompson

    @property
    def method(self) -> str:
        """Its name on record."""
        return "thompson" if self.thompson else "epsilon"


@dataclass(frozen=True, slots=True)
class Explored:
    """How a choice was drawn.

    Attributes:
        exploration: By which rules.
        odds: (n_candidates,), the probability with which each candidate would have been chosen; they sum to 1.
    """

    exploration: Exploration
    odds: Floats
