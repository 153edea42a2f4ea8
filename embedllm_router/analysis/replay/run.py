"""Decides a log again: reading, weighing, choosing, comparing, in this order."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from embedllm_router.analysis.replay.change import Change, Weighed, weigh
from embedllm_router.analysis.replay.change_replay_prices import ImpliedPrice, imply_prices
from embedllm_router.analysis.replay.choices import make_choices
from embedllm_router.analysis.replay.off_policy import off_policy
from embedllm_router.analysis.replay.result import Replay
from embedllm_router.analysis.replay.run_replay_notes import Findings, notes
from embedllm_router.records.reader.recorded_replay_recorded import Recorded

__all__ = ["Tell", "replay"]

Tell = Callable[[str, int, int], None]
"""Takes note of progress: what, done, planned."""

_EVERY = 500


@dataclass(frozen=True, slots=True)
class _Weighing:
    weighed: Sequence[Weighed]
    scored: Counter[str]
    skipped: Counter[str]


def replay(
    recorded: Recorded, change: Change, changed: Sequence[str], *, most_flips: int = 20, tell: Tell | None = None
) -> Replay:
    """Decides recorded requests again.

    Args:
        recorded: The log.
        change: What is different.
        changed: The same in words, for the reader.
        most_flips: Most flips to list.
        tell: Told about progress.

    Returns:
        What would have come of it.
    """
    prices = imply_prices(recorded.requests) if change.rescorer is not None else {}
    done = _weigh_all(recorded, change, prices, tell or (lambda *_: None))
    skipped = {**done.skipped, **_not_read(recorded)}
    if not done.weighed:
        return _nothing(recorded, changed, skipped)
    choices = make_choices(done.weighed, new_numbers=change.new_numbers)
    observed = off_policy(choices.logged())
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


def _weigh_all(recorded: Recorded, change: Change, prices: Mapping[str, ImpliedPrice], tell: Tell) -> _Weighing:
    weighed, scored, skipped = [], Counter[str](), Counter[str]()
    for i, request in enumerate(recorded.requests):
        one, how = weigh(request, change, prices)
        (skipped if one is None else scored)[how] += 1
        if one is not None:
            weighed.append(one)
        if i % _EVERY == 0:
            tell("weighing", i, len(recorded.requests))
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
