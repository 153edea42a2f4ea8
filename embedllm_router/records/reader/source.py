"""One way to ask records anything: SQL over three views, wherever the records lie.

`requests` and `feedback` have the columns of records.py. `weighed` has one row per request and candidate: the columns
of the request, and the candidate's as `candidate_name`, `candidate_p_correct` and so on; it takes no alias.

SQL keeps to what DuckDB and PostgreSQL share. To know:

- The column `at` must be quoted, `"at"`: DuckDB reads it as a keyword otherwise. It is UTC without a zone.
- Parameters are written `$name`. `excluded_for(candidates, $reason)` is true where some candidate was excluded for it.
- `draw_of(text)` is a number in [0, 1) by chance, the same for equal texts; the back ends draw differently.

It does not know what is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from embedllm_router.errors import ConfigError

__all__ = ["Limits", "RecordSource", "is_database", "open_source"]

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


def open_source(
    where: Path | str | Sequence[Path | str], *, limits: Limits = Limits(), must_exist: bool = True
) -> RecordSource:
    """Opens records for reading.

    Args:
        where: A folder, a file, a glob, several of them, or one `postgresql://` URL.
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
        raise ConfigError("no records named: expected a folder, a file, a glob or a postgresql:// URL.")
    if len(places) == 1 and is_database(places[0]):
        from embedllm_router.records.reader.postgres_source import PostgresSource  # noqa: PLC0415 - an extra that few install

        return PostgresSource(places[0])
    for place in places:
        if "://" in place:
            why = "one database at a time" if is_database(place) else "neither files nor PostgreSQL"
            raise ConfigError(f"cannot read records from {place.split('@')[-1]}: {why}.")
    from embedllm_router.records.reader.file_source import FileSource  # noqa: PLC0415 - DuckDB loads when it is needed

    return FileSource(places, limits, must_exist=must_exist)
