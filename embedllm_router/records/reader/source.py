"""One way to query records: SQL over four views, in files and in PostgreSQL.

`requests` and `feedback` have the columns of schema.py. `answers` has, besides the users' requests, the answers that
judged evaluation got from other LLMs (`judged_for` is not NULL); `requests` has none of them. `weighed` has one row per
request and candidate: the columns of the request, and the candidate's as `candidate_name`, `candidate_p_correct` and so
on. `requests`, `answers` and `weighed` take no alias. The verdicts that count are made by verdicts.py from `feedback`.

SQL keeps to what DuckDB and PostgreSQL share:

- The column `at` must be quoted, `"at"`: DuckDB reads it as a keyword otherwise. It is UTC without a zone.
- Parameters are written `$name`. `excluded_for(candidates, $reason)` is true where some candidate was excluded for
  this reason.
- `draw_of(text)` is a random number in [0, 1), the same for equal texts; the back ends draw differently.
- `sampled` and `group` draw requests at random by their time, the same on every back end: the time in microseconds is
  the state of the minimal standard generator (Park and Miller, 1988), taken one step further.

`Filters` say which requests are meant, as SQL and as a test of one row; the two agree.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from embedllm_router.errors import ConfigError

__all__ = [
    "N_GROUPS",
    "Filters",
    "LateSource",
    "Limits",
    "RecordSource",
    "group",
    "is_bucket",
    "is_database",
    "open_source",
    "sampled",
]

_MODULUS: Final = 2**31 - 1
_MULTIPLIER: Final = 48271
N_GROUPS: Final = 100
"""Random groups of requests whose sums are resampled instead of single requests."""

_MICROSECONDS: Final = 'CAST(extract(epoch FROM "at") * 1000000 AS BIGINT)'


def _number(seed: int) -> str:
    """SQL of a whole number in [0, 2³¹ - 1)."""
    return f"((({_MICROSECONDS} + {seed}) % {_MODULUS}) * {_MULTIPLIER} % {_MODULUS})"


def group(seed: int) -> str:
    """SQL of a request's group, 0 to N_GROUPS - 1, at random."""
    return f"({_number(seed)} % {N_GROUPS})"


def sampled(seed: int, share: float) -> str:
    """SQL that is true of a share of all requests, at random; TRUE for a share of 1 or more."""
    return "TRUE" if share >= 1 else f"{_number(seed)} < {int(share * _MODULUS)}"


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
        virtual_model: Model name in the request.
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


_DATABASES = ("postgresql://", "postgres://", "postgresql+psycopg://")


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading files may take.

    Attributes:
        threads: Threads of one query, at least 1.
        memory: Most memory all queries together may use, in DuckDB's words such as "1GB"; what is over goes to disk.
    """

    threads: int = 2
    memory: str = "1GB"


class RecordSource(Protocol):
    """Records that can be queried. Safe to use from several threads.

    Attributes:
        kind: Which dialect answers.
        where: Where the records lie, without credentials.
    """

    kind: Literal["files", "postgres"]
    where: str

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """Runs a query.

        Args:
            sql: A SELECT over the views above.
            parameters: Values of `$name`; times are UTC without a zone. Names the query does not use are ignored.

        Returns:
            Column → value per row; `candidates` is a list of dicts, `needs` a list, times have no zone.

        Raises:
            DataError: A file is damaged, or the database does not answer.
        """
        ...

    def close(self) -> None:
        """Ends it; later queries fail."""
        ...


def is_database(where: str) -> bool:
    """Whether a place is a database rather than files."""
    return where.startswith(_DATABASES)


def is_bucket(where: str) -> bool:
    """Whether a place is in object storage."""
    return where.startswith("s3://")


def open_source(
    where: Path | str | Sequence[Path | str], *, limits: Limits = Limits(), must_exist: bool = True
) -> RecordSource:
    """Opens records for reading.

    Args:
        where: A folder, a file, a glob, `s3://bucket/prefix`, several of them, or one `postgresql://` URL.
        limits: What reading files may take.
        must_exist: Whether a place that is not there is an error. A store makes its folder with its first record.

    Returns:
        The source. Files that appear, grow or are sealed later are seen by later queries.

    Raises:
        ConfigError: The kinds are mixed, or none is named.
        DataError: A folder or file does not exist, or the limits make no sense.
    """
    places = [str(one) for one in ([where] if isinstance(where, Path | str) else where)]
    if not places:
        raise ConfigError(
            "no records named: expected a folder, a file, a glob, s3://bucket/prefix or a postgresql:// URL."
        )
    if len(places) == 1 and is_database(places[0]):
        from embedllm_router.records.reader.postgres_source import PostgresSource  # noqa: PLC0415 - an extra that few install

        return PostgresSource(places[0])
    for place in places:
        if "://" in place and not is_bucket(place):
            why = "one database at a time" if is_database(place) else "neither files, s3:// nor PostgreSQL"
            raise ConfigError(f"cannot read records from {place.split('@')[-1]}: {why}.")
    from embedllm_router.records.reader.file_source import FileSource  # noqa: PLC0415 - DuckDB loads when it is needed

    return FileSource(places, limits, must_exist=must_exist)


class LateSource:
    """Records of the proxy itself, opened when they are first asked for; every part of it reads the same source.

    Args:
        where: See `open_source`; need not exist.
        limits: What reading files may take.
    """

    def __init__(self, where: str, limits: Limits) -> None:
        self._where, self._limits = where, limits
        self._lock = threading.Lock()
        self._source: RecordSource | None = None

    def __call__(self) -> RecordSource:
        """The source.

        Raises:
            ConfigError: See `open_source`.
            DataError: Likewise.
        """
        with self._lock:
            if self._source is None:
                self._source = open_source(self._where, limits=self._limits, must_exist=False)
            return self._source

    def close(self) -> None:
        """Closes it if it was opened; a later call opens another."""
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            source.close()
