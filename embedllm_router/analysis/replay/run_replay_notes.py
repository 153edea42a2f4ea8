"""What a reader of a replay should know: where numbers come from, and what the data cannot say."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from embedllm_router.analysis.replay.change import Change, Weighed
from embedllm_router.analysis.replay.change_replay_prices import ImpliedPrice
from embedllm_router.analysis.replay.change_replay_reweigh import NOT_SCORED
from embedllm_router.analysis.replay.choices import Choices
from embedllm_router.analysis.replay.off_policy import OffPolicy
from embedllm_router.records.reader.recorded_replay_recorded import Recorded
from embedllm_router.routing.policy import Reason

__all__ = ["Findings", "notes"]

_FEW: Final = 30
_OF_THE_MOMENT: Final = frozenset(
    {Reason.OUT_OF_DISTRIBUTION, Reason.WITHIN_BUDGET, Reason.SESSION_KEPT, Reason.SESSION_LOCKED}
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What the notes are drawn from.

    Attributes:
        recorded: The log.
        change: What is different.
        weighed: The requests decided again.
        choices: Both sets of choices.
        prices: Implied prices; empty unless the weights are different.
        observed: What feedback says; None without any.
    """

    recorded: Recorded
    change: Change
    weighed: Sequence[Weighed]
    choices: Choices
    prices: Mapping[str, ImpliedPrice]
    observed: OffPolicy | None


def notes(found: Findings) -> tuple[str, ...]:
    """A sentence for each thing to know."""
    return (
        *_feedback(found.observed),
        *_circumstances(found.choices),
        *_prices(found.prices),
        *_config(found),
        *_candidates(found),
    )


def _feedback(observed: OffPolicy | None) -> list[str]:
    if observed is None:
        return ["No feedback: predicted probabilities only. Whether any answer was right was not observed."]
    said = []
    if observed.n_flips:
        share = observed.n_flips_unobserved / observed.n_flips
        said.append(
            f"Of {observed.n_flips:,} flips, nothing was observed for {observed.n_flips_unobserved:,} ({share:.0%}): "
            "there the estimate is the prediction."
        )
    if observed.n_explored == 0:
        said.append("Every decision was deterministic: feedback speaks of the recorded choices only.")
    if observed.effective_n < _FEW:
        said.append(
            f"The verdicts on answers of the LLMs the new policy wants count as {observed.effective_n:.0f}: too few."
        )
    return said


def _circumstances(choices: Choices) -> list[str]:
    """Sessions and budgets are of the moment: a replay decides every request by itself."""
    flipped = (request for request, same in zip(choices.requests, choices.same.tolist(), strict=True) if not same)
    kept = Counter(request.reason for request in flipped if request.reason in _OF_THE_MOMENT)
    if not kept:
        return []
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in kept.most_common())
    which = f"{kept.total():,} had been decided by a session or a budget, which a replay leaves out"
    return [f"Of the flips, {which}: {reasons}."]


def _prices(prices: Mapping[str, ImpliedPrice]) -> list[str]:
    moved = [name for name, price in prices.items() if not price.exact]
    said = []
    if prices:
        said.append(
            "Lengths of answers are the new weights' own, without what the proxy saw of lengths while serving; their "
            "costs use the prices that the recorded costs imply."
        )
    if moved:
        said.append(f"The recorded costs of {', '.join(moved)} fit no single price: it changed within the log.")
    return said


def _config(found: Findings) -> list[str]:
    config, said = found.change.config, list[str]()
    if config is None:
        return said
    if config.unpriced:
        names = ", ".join(config.unpriced)
        said.append(f"The configuration states no price for {names}: the recorded cost stands, where there is one.")
    if config.unknown:
        said.append(f"No LLM of the weights {config.artifact} matches: {', '.join(config.unknown)}.")
    others = sorted({str(request.artifact) for request in found.recorded.requests} - {config.artifact})
    if found.change.rescorer is None and others:
        said.append(
            f"Predictions recorded with the weights {', '.join(others)} are used; the configuration names "
            f"{config.artifact}. Add --artifact to decide by those."
        )
    return said


def _candidates(found: Findings) -> list[str]:
    said = []
    lost = Counter(c.name for one in found.weighed for c in one.candidates if c.excluded == NOT_SCORED)
    if lost:
        names = ", ".join(f"{name} ({n:,})" for name, n in lost.most_common(5))
        said.append(f"No prediction was recorded for candidates of the new configuration: {names}. Add --artifact.")
    nobody = int((found.choices.after < 0).sum())
    if nobody:
        said.append(f"{nobody:,} requests would find no candidate: the virtual model's default would answer them.")
    return said
