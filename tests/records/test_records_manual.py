"""docs/records.md: its queries run, and it names every column."""

import re
from pathlib import Path

import duckdb
import pytest
from recorded import make_record, make_records
from stored import keep

from embedllm_router.records.schema import CANDIDATE_COLUMNS, FEEDBACK_COLUMNS, REQUEST_COLUMNS
from embedllm_router.records.writer.seal import seal_orphans

MANUAL = Path(__file__).parents[2] / "docs" / "records.md"


@pytest.mark.parametrize("columns", [REQUEST_COLUMNS, CANDIDATE_COLUMNS, FEEDBACK_COLUMNS])
def test_every_column_has_its_line(columns: dict[str, str]) -> None:
    lines = "\n".join(f"| `{name}` |" for name in columns)
    named = "\n".join(re.findall(r"^\| `\w+` \|", MANUAL.read_text(), re.MULTILINE))
    assert lines in named


def test_its_queries_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path / "records", make_records(50))
    seal_orphans(tmp_path / "records")
    keep(tmp_path / "records", [make_record(50), make_record(51)])
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```sql\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    with duckdb.connect() as sql:
        found = [sql.execute(query).fetchall() for query in block.split(";") if "SELECT" in query]
    assert sum(row[1] for row in found[0]) == 49, "all but the one at midnight"
    assert len(found[1]) == 2
