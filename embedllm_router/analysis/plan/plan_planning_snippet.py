"""A planned setting as YAML for the proxy's configuration. Pure."""

from collections.abc import Sequence

import yaml

from embedllm_router.analysis.plan.goal import Goal
from embedllm_router.analysis.plan.result import Outcome

__all__ = ["snippet"]


def snippet(virtual_models: Sequence[str], outcome: Outcome, goal: Goal) -> str:
    """What to paste under the virtual models' own settings; it replaces `profile` and the like.

    Args:
        virtual_models: Whose requests were planned; empty when the setting reaches none.
        outcome: The setting.
        goal: A budget is repeated as a comment: a fixed setting keeps to it only while traffic stays what it was.

    Returns:
        YAML; empty without a virtual model.
    """
    if not virtual_models or outcome.setting is None:
        return ""
    models = {name: {outcome.setting: outcome.value} for name in virtual_models}
    nested = {"callback_settings": {"embedllm_router": {"virtual_models": models}}}
    text = yaml.safe_dump(nested, sort_keys=False, allow_unicode=True)
    if goal.usd is None:
        return text
    return f"{text}# or, to keep to the budget as traffic changes: budgets: [{{usd: {goal.usd:g}, per: {goal.per}}}]\n"
