"""What a budget is: how much, per what time, and whose. Values only."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

__all__ = ["Budget", "Per", "Period", "Scope", "Whose", "period_of", "scopes_of"]

_DIGEST_BYTES = 10


class Per(StrEnum):
    """The time a budget is for, in UTC."""

    DAY = "day"
    MONTH = "month"


class Whose(StrEnum):
    """Who shares a budget."""

    VIRTUAL_MODEL = "virtual_model"
    KEY = "key"
    TEAM = "team"


@dataclass(frozen=True, slots=True)
class Budget:
    """A spend target of one virtual model.

    Attributes:
        usd: What may be spent in each period, in USD; above 0.
        per: The period.
        scope: Who shares it: everybody who asks for the virtual model, or each API key or team for itself.
    """

    usd: float
    per: Per = Per.DAY
    scope: Whose = Whose.VIRTUAL_MODEL


@dataclass(frozen=True, slots=True)
class Scope:
    """One budget as it applies to one holder.

    Attributes:
        budget: The budget.
        virtual_model: Whose budget it is.
        holder: The API key's or team's id; None when everybody shares it. It is never stored as it is.
    """

    budget: Budget
    virtual_model: str
    holder: str | None = None

    @property
    def key(self) -> str:
        """Name under which it is counted; tells nothing of the holder."""
        named = f"{self.virtual_model}\0{self.holder or ''}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(named, digest_size=_DIGEST_BYTES).hexdigest()
        return f"{self.budget.scope}:{self.budget.per}:{digest}"


@dataclass(frozen=True, slots=True)
class Period:
    """One day or month.

    Attributes:
        name: Such as "2026-01-31" or "2026-01".
        start: Its first moment, in seconds since the epoch.
        end: The first moment after it, likewise.
    """

    name: str
    start: float
    end: float


def scopes_of(budgets: Iterable[Budget], virtual_model: str, key: str | None, team: str | None) -> tuple[Scope, ...]:
    """The budgets that count a request; those of a key or team only where the request has one.

    Args:
        budgets: Of the virtual model.
        virtual_model: Its name.
        key: Id of the API key; None without one.
        team: Id of its team; None without one.
    """
    holders = {Whose.VIRTUAL_MODEL: None, Whose.KEY: key, Whose.TEAM: team}
    applying = (b for b in budgets if b.scope is Whose.VIRTUAL_MODEL or holders[b.scope] is not None)
    return tuple(Scope(budget, virtual_model, holders[budget.scope]) for budget in applying)


def period_of(per: Per, now: float) -> Period:
    """The day or month, in UTC, that a moment lies in.

    Args:
        per: Day or month.
        now: Seconds since the epoch.
    """
    moment = datetime.fromtimestamp(now, UTC)
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if per is Per.DAY:
        return Period(f"{start:%Y-%m-%d}", start.timestamp(), (start + timedelta(days=1)).timestamp())
    start = start.replace(day=1)
    end = (start + timedelta(days=32)).replace(day=1)
    return Period(f"{start:%Y-%m}", start.timestamp(), end.timestamp())
