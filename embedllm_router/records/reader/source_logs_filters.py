"""Which records are meant: conditions as a value, as SQL and as a test of one row. The two agree."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["Filters"]

_SQL: Final = {
    "since": '"at" >= $since',
    "until": '"at" < $until',
    "virtual_model": "virtual_model = $virtual_model",
    "llm": "(chosen = $llm OR served = $llm OR llm = $llm)",
    "key_alias": "key_alias = $key_alias",
    "reason": "reason = $reason",
    "status": "status = $status",
    "arm": "arm = $arm",
    "category": "category = $category",
    "min_cost_usd": "COALESCE(billed_cost_usd, expected_cost_usd) >= $min_cost_usd",
    "max_cost_usd": "COALESCE(billed_cost_usd, expected_cost_usd) <= $max_cost_usd",
    "excluded": "excluded_for(candidates, $excluded)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Conditions that all hold of the records meant; None sets none.

    Attributes:
        since: Decided at this time or later; aware, or UTC without a zone.
        until: Decided before this time.
        virtual_model: Name the client asked for.
        llm: The group that was chosen or that answered, or the learned LLM chosen.
        key_alias: Alias of the API key.
        reason: Why the chosen one was chosen.
        status: How it ended: "success", "failure" or "unknown".
        arm: "live" or "canary".
        category: Training category nearest to the prompt.
        min_cost_usd: Cost at least this, in USD: billed, or expected where nothing was billed.
        max_cost_usd: Cost at most this, likewise.
        excluded: Some candidate was excluded for this reason.
    """

    since: datetime | None = None
    until: datetime | None = None
    virtual_model: str | None = None
    llm: str | None = None
    key_alias: str | None = None
    reason: str | None = None
    status: str | None = None
    arm: str | None = None
    category: str | None = None
    min_cost_usd: float | None = None
    max_cost_usd: float | None = None
    excluded: str | None = None

    def where(self) -> tuple[str, dict[str, object]]:
        """The conditions as SQL over `requests` with their parameters; TRUE when there are none."""
        given = self.given()
        return " AND ".join(_SQL[name] for name in given) or "TRUE", given

    def given(self) -> dict[str, object]:
        """The conditions that are set; times are UTC without a zone."""
        values = {name: getattr(self, name) for name in _SQL}
        return {name: _plain(value) for name, value in values.items() if value is not None}

    def accept(self, row: Mapping[str, Any]) -> bool:
        """Whether one request, column → value, is meant; says what `where` says."""
        return all(_holds(name, value, row) for name, value in self.given().items())


def _plain(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def _holds(name: str, value: Any, row: Mapping[str, Any]) -> bool:
    if name == "since":
        return bool(row["at"] >= value)
    if name == "until":
        return bool(row["at"] < value)
    if name == "llm":
        return value in (row["chosen"], row["served"], row["llm"])
    if name == "excluded":
        return any(candidate["excluded"] == value for candidate in row["candidates"] or ())
    if name in {"min_cost_usd", "max_cost_usd"}:
        cost = row["expected_cost_usd"] if row["billed_cost_usd"] is None else row["billed_cost_usd"]
        return cost is not None and bool(cost >= value if name == "min_cost_usd" else cost <= value)
    return bool(row[name] == value)
