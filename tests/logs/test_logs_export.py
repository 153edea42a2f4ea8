"""What is exported is what was recorded, from either back end, in every format."""

import csv
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
from reading import Sources
from recorded import make_record, make_records

from embedllm_router.errors import ConfigError
from embedllm_router.logs import export as exporting
from embedllm_router.logs.export import export
from embedllm_router.logs.filters import Filters
from embedllm_router.logs.source import open_source
from embedllm_router.records import REQUEST_COLUMNS

RECORDS = make_records(250, seed=2)


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_a_written_file_reads_as_the_records(
    recorded: Sources, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_PAGE", 40)
    source = recorded([*reversed(RECORDS)])
    out = tmp_path / f"it's{ending}"
    assert export(source, Filters(), out) == len(RECORDS)
    again = open_source(out)
    assert again.rows('SELECT * FROM requests ORDER BY "at"') == source.rows('SELECT * FROM requests ORDER BY "at"')
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [out.name], "nothing else is left"
    again.close()


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".csv"])
@pytest.mark.parametrize("n", [1, 40])
def test_slices_make_the_same_file_as_one_sort_of_everything(
    recorded: Sources, ending: str, n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests 20 seconds apart: slices end between minutes, whatever their size; filters hold in each."""
    start = datetime(2026, 1, 1)  # noqa: DTZ001 - a filter's times are UTC without zone
    records = [replace(r, at=start + timedelta(seconds=20 * k)) for k, r in enumerate(RECORDS)]
    source, meant = recorded([*reversed(records)]), Filters(status="success")
    whole, sliced = tmp_path / f"whole{ending}", tmp_path / f"sliced{ending}"
    monkeypatch.setattr(exporting, "_SLICE", 10**9)
    export(source, meant, whole)
    monkeypatch.setattr(exporting, "_SLICE", n)
    assert export(source, meant, sliced) == sum(r.status == "success" for r in RECORDS)
    if ending == ".parquet":
        both = [open_source(file) for file in (whole, sliced)]
        assert both[0].rows("SELECT * FROM requests") == both[1].rows("SELECT * FROM requests")
        for one in both:
            one.close()
    else:
        assert whole.read_bytes() == sliced.read_bytes()
    assert len(list(tmp_path.glob("*.*"))) == 2, "no slice is left"


def test_requests_of_one_moment_are_all_written(
    recorded: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of a database end between them."""
    monkeypatch.setattr(exporting, "_PAGE", 2)
    together = [make_record(1, request_id=f"r{n}") for n in range(5)]
    assert export(recorded([*together]), Filters(), tmp_path / "a.jsonl") == 5


def test_csv_holds_lists_as_json(recorded: Sources, tmp_path: Path) -> None:
    source = recorded([make_record(3, needs=("vision",))])
    export(source, Filters(), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == list(REQUEST_COLUMNS)
    assert json.loads(row["candidates"]) == orjson.loads(orjson.dumps(make_record(3).candidates))
    assert json.loads(row["needs"]) == ["vision"]
    assert (row["at"], row["team_alias"]) == ("2026-01-01 00:00:03", "")


def test_only_what_is_meant_is_written(recorded: Sources, tmp_path: Path) -> None:
    source = recorded([*RECORDS])
    n = export(source, Filters(status="failure"), tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(lines) == n == sum(r.status == "failure" for r in RECORDS)
    assert {line["status"] for line in lines} == {"failure"}


def test_nothing_is_an_empty_file(recorded: Sources, tmp_path: Path) -> None:
    assert export(recorded([RECORDS[0]]), Filters(llm="nobody"), tmp_path / "a.jsonl") == 0
    assert (tmp_path / "a.jsonl").read_bytes() == b""


@pytest.mark.parametrize(("name", "said"), [("a.xls", "ends in .csv, .parquet"), ("none/a.csv", "cannot be written")])
def test_a_file_that_cannot_be_written_is_said(recorded: Sources, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        export(recorded([RECORDS[0]]), Filters(), tmp_path / name)
