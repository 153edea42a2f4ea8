"""The result of a replay. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from embedllm_router._stats import Estimate
from embedllm_router.analysis.replay.off_policy import OffPolicy

__all__ = ["Compared", "Flip", "Group", "MixRow", "Replay", "Yardstick"]


@dataclass(frozen=True, slots=True)
class Compared:
    """A mean over requests, before and after.

    Attributes:
        before: Of the recorded choices.
        after: Of the new ones.
        change: after - before, with a paired bootstrap interval over requests.
        n: Requests where both are known; every figure is of these.
    """

    before: float
    after: float
    change: Estimate
    n: int


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Both sets of choices measured alike.

    Attributes:
        numbers: "recorded" or "new": whose predictions and prices measure.
        p_correct: Mean predicted probability of a correct answer, in [0, 1].
        cost_usd: Mean expected cost of a request in USD.
    """

    numbers: str
    p_correct: Compared
    cost_usd: Compared


@dataclass(frozen=True, slots=True)
class MixRow:
    """How many requests one candidate gets. `name` is None for requests that nobody can take."""

    name: str | None
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Group:
    """What changes for one category or virtual model.

    Attributes:
        name: Its name; None for requests without one.
        n: Requests.
        n_flips: Requests another candidate would get.
        p_correct: Change of the mean predicted probability, by the last yardstick.
        cost_usd: Change of the mean expected cost in USD, likewise.
    """

    name: str | None
    n: int
    n_flips: int
    p_correct: Estimate
    cost_usd: Estimate


@dataclass(frozen=True, slots=True)
class Flip:
    """A request that another candidate would get.

    Attributes:
        at: When it was decided, UTC.
        request_id: LiteLLM's call id.
        virtual_model: Model name in the request.
        category: Training category nearest to the prompt; None when unknown.
        before: Who got it.
        after: Who would; None when nobody could take it.
        p_correct_change: By the last yardstick; None when unknown.
        cost_usd_change: In USD, likewise.
        score: Mean verdict on the recorded answer, in [0, 1]; None without.
        explored: Whether the recorded choice was one of several the policy might have made.
    """

    at: datetime
    request_id: str
    virtual_model: str
    category: str | None
    before: str
    after: str | None
    p_correct_change: float | None
    cost_usd_change: float | None
    score: float | None
    explored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A log decided again.

    Attributes:
        where: Where the log lies, without credentials.
        changed: What is different, in words.
        since: Oldest request that was decided again; None when there is none. So is `until`.
        until: Newest one.
        n: Requests decided again.
        n_skipped: Requests that could not be, by reason.
        n_scored: How the requests were scored, by method.
        n_flips: Requests another candidate would get.
        n_flips_explored: Of those, decided with a propensity below 1 when recorded.
        mix: Most requests after the change first.
        yardsticks: By the recorded numbers; by the new ones as well where weights, prices or candidates are new.
        observed: What feedback says; None without any.
        n_feedback_not_used: Verdicts on answers of a fallback: the one that was chosen gave none.
        by_category: Most requests first.
        by_virtual_model: Likewise.
        flips: Largest change of p_correct first, then of cost; at most the number to list.
        notes: What a reader should know, a sentence each.
    """

    where: str
    changed: tuple[str, ...]
    since: datetime | None
    until: datetime | None
    n: int
    n_skipped: Mapping[str, int]
    n_scored: Mapping[str, int]
    n_flips: int
    n_flips_explored: int
    mix: tuple[MixRow, ...]
    yardsticks: tuple[Yardstick, ...]
    observed: OffPolicy | None
    n_feedback_not_used: int
    by_category: tuple[Group, ...]
    by_virtual_model: tuple[Group, ...]
    flips: tuple[Flip, ...]
    notes: tuple[str, ...]
