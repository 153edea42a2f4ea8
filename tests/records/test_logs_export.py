"""What is exported is what was recorded, from either back end, in every format."""

import csv
import json
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
from reading import Sources, write
from recorded import make_record, make_records

from embedllm_router.errors import ConfigError
from embedllm_router.records.reader import export as exporting
from embedllm_router.records.reader.export import export
from embedllm_router.records.reader.source import Filters, open_source
from embedllm_router.records.schema import REQUEST_COLUMNS

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
def test_slices_make_the_same_file_as_one_sort_of_everything(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests 20 seconds apart: slices end between minutes, whatever their size; filters hold in each."""
    some, start = RECORDS[:60], datetime(2026, 1, 1)  # noqa: DTZ001 - a filter's times are UTC without zone
    write(tmp_path / "records", [replace(r, at=start + timedelta(seconds=20 * k)) for k, r in enumerate(some)][::-1])
    files = {n: tmp_path / f"{n}{ending}" for n in (10**9, 2, 25)}
    with closing(open_source(tmp_path / "records")) as source:
        for n, file in files.items():
            monkeypatch.setattr(exporting, "_SLICE", n)
            written = export(source, Filters(status="success"), file)
            assert written == sum(r.status == "success" for r in some)
    whole, *sliced = map(_content, files.values())
    assert [whole] * 2 == sliced
    assert len(list(tmp_path.glob("*.*"))) == len(files), "no slice is left"


def _content(file: Path) -> object:
    if file.suffix != ".parquet":
        return file.read_bytes()
    with closing(open_source(file)) as source:
        return source.rows("SELECT * FROM requests")


def test_requests_of_one_moment_are_all_written(
    recorded: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of a database end between them."""
    monkeypatch.setattr(exporting, "_PAGE", 2)
    together = [make_record(1, request_id=f"r{n}") for n in range(5)]
    assert export(recorded([*together]), Filters(), tmp_path / "a.jsonl") == 5


def test_csv_holds_no_formula_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    said = ["=cmd|'/c calc'!A0", "+1", "-2", "@SUM(A1)", "\tx", "plain = text", "it's"]
    write(tmp_path / "records", [make_record(n, key_alias=text) for n, text in enumerate(said)])
    with closing(open_source(tmp_path / "records")) as source:
        for ending in (".csv", ".jsonl", ".parquet"):
            export(source, Filters(), tmp_path / f"a{ending}")
            assert (tmp_path / f"a{ending}").stat().st_mode & 0o777 == 0o600
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [row["key_alias"] for row in csv.DictReader(file)] == [*(f"'{text}" for text in said[:5]), *said[5:]]
    with closing(open_source(tmp_path / "a.jsonl")) as source:
        assert [row["key_alias"] for row in source.rows('SELECT key_alias FROM requests ORDER BY "at"')] == said


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
