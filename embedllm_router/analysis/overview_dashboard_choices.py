"""What can be filtered by: the values that occur among the records asked about. It knows nothing of HTTP."""

from typing import Final

from embedllm_router.analysis.span import Asked
from embedllm_router.records.reader.source import RecordSource

__all__ = ["choices"]

_COLUMNS: Final = ("virtual_model", "key_alias", "chosen", "served", "reason", "status", "arm")
_MOST: Final = 100


def choices(source: RecordSource, asked: Asked) -> dict[str, list[str]]:
    """Lists the values of the columns one filters by.

    Args:
        source: The records.
        asked: Which of them.

    Returns:
        Column → its values, most frequent first, at most 100.

    Raises:
        DataError: The records cannot be read.
    """
    where, given = asked.filters().where()
    listed = ", ".join(_COLUMNS)
    sql = f"""
    WITH fine AS (SELECT {listed}, count(*) AS n FROM requests WHERE {where} GROUP BY {listed})
    SELECT GROUPING({listed}) AS grouped, {listed}, sum(n) AS n FROM fine
    GROUP BY GROUPING SETS ({", ".join(f"({column})" for column in _COLUMNS)})
    """  # noqa: S608 - our own SQL
    found: dict[str, list[tuple[int, str]]] = {column: [] for column in _COLUMNS}
    everything = 2 ** len(_COLUMNS) - 1
    for row in source.rows(sql, given):
        place = len(_COLUMNS) - (everything - row["grouped"]).bit_length()
        column = _COLUMNS[place]
        if row[column] is not None:
            found[column].append((-row["n"], row[column]))
    return {column: [value for _, value in sorted(pairs)[:_MOST]] for column, pairs in found.items()}
