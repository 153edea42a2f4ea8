"""Prompts unlike all that was learned go to the declared default, where the settings ask for it. Pure."""

from embedllm_router.config.virtual_model import VirtualModelSettings
from embedllm_router.prediction.ood_score import Hedge
from embedllm_router.routing.decision import Decision, Reason

__all__ = ["left_to_default"]


def left_to_default(decision: Decision, hedge: Hedge, settings: VirtualModelSettings) -> Decision:
    """Gives a prompt that is too novel to the virtual model's default.

    Args:
        decision: What was weighed.
        hedge: How novel the prompt is.
        settings: The virtual model's; `max_novelty` says how novel is too novel.

    Returns:
        The decision with the default first; unchanged where the prompt is not that novel, or where the default is no
        candidate that could be chosen.
    """
    if settings.max_novelty is None or hedge.novelty is None or hedge.novelty <= settings.max_novelty:
        return decision
    default = decision.pool.index.get(settings.default)
    return decision if default not in decision.ranking else decision.putting_first(default, Reason.OUT_OF_DISTRIBUTION)
