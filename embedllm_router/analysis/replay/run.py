"""Decides a log again, in this order: weigh, choose, compare; with notes on what the data cannot say."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from embedllm_router.analysis.replay.change import NOT_SCORED, Change, ImpliedPrice, Weighed, imply_prices, weigh
from embedllm_router.analysis.replay.choices import Choices, make_choices
from embedllm_router.analysis.replay.off_policy import OffPolicy, off_policy
from embedllm_router.analysis.replay.result import Replay
from embedllm_router.records.reader.recorded import Recorded
from embedllm_router.routing.policy import Reason

__all__ = ["Findings", "OnProgress", "notes", "replay"]

_FEW: Final = 30
_OF_THE_MOMENT: Final = frozenset(
    {Reason.OUT_OF_DISTRIBUTION, Reason.WITHIN_BUDGET, Reason.GUARDED, Reason.SESSION_KEPT, Reason.SESSION_LOCKED}
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
    if observed.n_pairs and observed.by_pairs is None:
        pairs = f"{observed.n_pairs:,} judged pairs of answers"
        said.append(f"There are {pairs} to flips, too few to estimate the change by them.")
    return said


def _circumstances(choices: Choices) -> list[str]:
    """Sessions, budgets and guards are of the moment: a replay decides every request by itself."""
    flipped = (request for request, same in zip(choices.requests, choices.same.tolist(), strict=True) if not same)
    kept = Counter(request.reason for request in flipped if request.reason in _OF_THE_MOMENT)
    if not kept:
        return []
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in kept.most_common())
    which = f"{kept.total():,} had been decided by a session, budget or guard, which a replay leaves out"
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


OnProgress = Callable[[str, int, int], None]
"""Is called with progress: what, done, planned."""

_EVERY = 500


@dataclass(frozen=True, slots=True)
class _Weighing:
    weighed: Sequence[Weighed]
    scored: Counter[str]
    skipped: Counter[str]


def replay(
    recorded: Recorded,
    change: Change,
    changed: Sequence[str],
    *,
    most_flips: int = 20,
    on_progress: OnProgress | None = None,
) -> Replay:
    """Decides recorded requests again.

    Args:
        recorded: The log.
        change: What is different.
        changed: The same in words, for the reader.
        most_flips: Most flips to list.
        on_progress: Called with progress.

    Returns:
        What would have come of it.
    """
    prices = imply_prices(recorded.requests) if change.rescorer is not None else {}
    done = _weigh_all(recorded, change, prices, on_progress or (lambda *_: None))
    skipped = {**done.skipped, **_not_read(recorded)}
    if not done.weighed:
        return _nothing(recorded, changed, skipped)
    choices = make_choices(done.weighed, new_numbers=change.new_numbers)
    observed = off_policy(choices.logged(), choices.pairs())
    flipped = [r for r, same in zip(choices.requests, choices.same.tolist(), strict=True) if not same]
    return Replay(
        where=recorded.where,
        changed=tuple(changed),
        since=choices.requests[0].at,
        until=choices.requests[-1].at,
        n=len(choices.requests),
        n_skipped=skipped,
        n_scored=dict(done.scored),
        n_flips=len(flipped),
        n_flips_explored=sum(request.propensity < 1 for request in flipped),
        mix=choices.mix(),
        yardsticks=choices.yardsticks(),
        observed=observed,
        n_feedback_not_used=sum(r.score is not None and r.served != r.chosen for r in choices.requests),
        by_category=choices.groups(lambda request: request.category),
        by_virtual_model=choices.groups(lambda request: request.virtual_model),
        flips=choices.flips(most_flips),
        notes=notes(Findings(recorded, change, done.weighed, choices, prices, observed)),
    )


def _weigh_all(
    recorded: Recorded, change: Change, prices: Mapping[str, ImpliedPrice], on_progress: OnProgress
) -> _Weighing:
    weighed, scored, skipped = [], Counter[str](), Counter[str]()
    for i, request in enumerate(recorded.requests):
        one, how = weigh(request, change, prices)
        (skipped if one is None else scored)[how] += 1
        if one is not None:
            weighed.append(one)
        if i % _EVERY == 0:
            on_progress("weighing", i, len(recorded.requests))
    return _Weighing(weighed, scored, skipped)


def _not_read(recorded: Recorded) -> dict[str, int]:
    reasons = {
        "failed open: nothing was weighed": recorded.n_without_decision,
        "recorded propensity is no probability": recorded.n_invalid,
        "older than the newest that --limit reads": recorded.n_beyond_limit,
    }
    return {reason: n for reason, n in reasons.items() if n}


def _nothing(recorded: Recorded, changed: Sequence[str], skipped: dict[str, int]) -> Replay:
    return Replay(
        where=recorded.where,
        changed=tuple(changed),
        since=None,
        until=None,
        n=0,
        n_skipped=skipped,
        n_scored={},
        n_flips=0,
        n_flips_explored=0,
        mix=(),
        yardsticks=(),
        observed=None,
        n_feedback_not_used=0,
        by_category=(),
        by_virtual_model=(),
        flips=(),
        notes=("No request could be decided again.",),
    )
