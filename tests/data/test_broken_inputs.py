"""Broken on purpose: each file is either refused in one sentence or loses exactly its bad rows."""

import csv
import gzip
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from ingested import ANY_BAD, read, scores_of
from samples import LLMS, PROMPTS, SCORES, inspect_log, long_rows, write_csv, write_inspect, write_json

from embedllm_router.data.formats import rows
from embedllm_router.data.ingest_options import BadRowLimit, IngestOptions
from embedllm_router.errors import DataError

GOOD = b"prompt,llm,score\np,a,1\n"
ONE_BAD_OF_TEN = GOOD + b"q,a,1\n" * 8 + b"bad,a,2\n"


def rejected(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        (b"p,b,1.5", "score", "expected a number in [0, 1], found '1.5'"),
        (b"p,b,-0.1", "score", "expected a number in [0, 1], found '-0.1'"),
        (b"p,b,nan", "score", "expected a number in [0, 1], found 'nan'"),
        (b"p,b,inf", "score", "expected a number in [0, 1], found 'inf'"),
        (b"p,b,right", "score", "expected a number, found 'right'"),
        (b"p,b,", "score", "missing"),
        (b",b,1", "prompt", "missing"),
        (b"  ,b,1", "prompt", "missing"),
        (b"p,,1", "llm", "missing"),
        (b"p,b", "", "expected 3 fields, found 2"),
        (b"p,b,1,1", "", "expected 3 fields, found 4"),
        (b"prompt,llm,score", "", "the header again"),
        (b'"p"x,b,1', "", "not readable as CSV"),
        (b"caf\xe9,b,1", "prompt", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_bad_csv_row_costs_itself_only_and_is_named(
    line: bytes, column: str, reason: str, newline: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "answers.csv"
    file.write_bytes(newline.join([b"prompt,llm,score", b'"two', b'lines",a,1', line, b"q,c,0", b""]))
    report, out = read(file, tmp_path, ANY_BAD)
    [found] = rejected(out)
    assert (found["file"], found["row"], found["line"], found["column"]) == ("answers.csv", 2, 4, column)
    assert reason in str(found["reason"])
    assert (report.n_rows, report.n_rejected, report.files[0].rejected) == (3, 1, 1)
    assert sorted(llm for _, llm in scores_of(out)) == ["a", "c"]


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        (b'{"prompt": "p", "llm": "b", "sco', "", "not valid JSON"),
        (b"[1]", "", "expected a JSON object, found list"),
        (b'{"prompt": "p", "llm": "b", "score": NaN}', "score", "[0, 1], found nan"),
        (b'{"prompt": "p", "llm": "b", "score": Infinity}', "score", "[0, 1], found inf"),
        (b'{"prompt": "p", "llm": "b", "score": [1]}', "score", "expected a number, found [1]"),
        (b'{"prompt": "p", "llm": "b"}', "score", "missing"),
        (b'{"prompt": 5, "llm": "b", "score": 1}', "prompt", "expected a text, found 5"),
        (b'{"prompt": "\\ud800", "llm": "b", "score": 1}', "prompt", "not UTF-8"),
        (b'{"prompt": "p", "llm": "b", "score": 1, "cost_usd": -1}', "cost_usd", "at least 0, found -1"),
        (b'{"prompt": "p", "llm": "b", "score": 1, "output_tokens": "many"}', "output_tokens", "found 'many'"),
        (b'{"prompt": "p", "llm": "b", "score": 1, "category": "\\ud800"}', "category", "not UTF-8"),
        (b'{"prompt": "p", "llm": "b", "score": 1, "split": "\\ud800"}', "split", "not UTF-8"),
        (
            b'{"prompt": "p", "llm": "b", "score": 1, "output_tokens": 1' + b"0" * 400 + b"}",
            "output_tokens",
            "at least 0",
        ),
        (b'{"prompt": "p", "llm": "b", "score": 1, "output_tokens": 1e39}', "output_tokens", "at least 0"),
        (b"[" * 100_000, "", "not valid JSON"),
    ],
)
def test_a_bad_json_line_costs_itself_only_and_is_named(line: bytes, column: str, reason: str, tmp_path: Path) -> None:
    good = b'{"prompt": "p", "llm": "a", "score": 1}'
    (tmp_path / "answers.jsonl").write_bytes(b"\n".join([good, b"", line, good.replace(b'"a"', b'"c"')]))
    report, out = read(tmp_path / "answers.jsonl", tmp_path, ANY_BAD)
    [found] = rejected(out)
    assert (found["row"], found["line"], found["column"]) == (3, 3, column)
    assert reason in str(found["reason"])
    assert report.n_results == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b"\xef\xbb\xbf", "empty"),
        ("a.csv", b"prompt,llm,score\n", "no rows found"),
        ("a.csv", b"prompt,llm,score,llm\np,a,1,a\n", r"\['llm'\] occur twice"),
        ("a.csv", b"prompt,llm\np,a\n", "no format recognised"),
        ("a.csv", GOOD.decode().encode("utf-16"), "UTF-16"),
        ("a.csv.gz", gzip.compress(GOOD * 1000)[:-20], "cut short"),
        ("a.csv.gz", GOOD, "compressed data is damaged"),
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", b"not json\nat all\n", "not valid JSON"),
        ("a.json", b'[{"prompt": "p", ', "damaged or cut short"),
        ("a.json", b"{}", "no format recognised"),
        ("a.parquet", b"", "empty"),
        ("a.parquet", b"PAR1 and then nothing", "not readable as parquet"),
        ("a.eval", b"PK\x03\x04 and then nothing", "zip"),
        ("a.eval", b"", "zip"),
        ("a.txt", b"hello", "no format recognised"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_an_unusable_file_is_refused_in_one_sentence_and_nothing_is_written(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(tmp_path / name, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_missing_columns_are_named_with_those_expected_and_found(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"question,llm,score\np,a,1\n")
    with pytest.raises(DataError, match=r"\['prompt'\] are missing, expected .*'score'\], found \['question'"):
        read(tmp_path / "a.csv", tmp_path, IngestOptions(format="long"))  # type: ignore[arg-type]


def test_a_byte_order_mark_and_odd_line_ends_change_nothing(tmp_path: Path) -> None:
    plain = write_csv(tmp_path / "plain.csv", long_rows())
    (tmp_path / "marked.csv").write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    _, out = read(tmp_path / "marked.csv", tmp_path)
    assert scores_of(out) == SCORES


@pytest.fixture
def small_fields(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = csv.field_size_limit(1000)
    monkeypatch.setattr(rows, "_FIELD_LIMIT", 1000)
    yield
    csv.field_size_limit(before)


@pytest.mark.usefixtures("small_fields")
def test_an_unclosed_quote_swallows_a_bounded_piece(tmp_path: Path) -> None:
    lines = [f"prompt {i},a,1\n" for i in range(400)]
    (tmp_path / "a.csv").write_text("prompt,llm,score\n" + "".join(lines[:200]) + '"open,a,1\n' + "".join(lines[200:]))
    report, out = read(tmp_path / "a.csv", tmp_path, ANY_BAD)
    [found] = rejected(out)
    assert (found["row"], found["line"]) == (201, 202)
    assert "field larger than field limit" in str(found["reason"])
    assert 300 < report.n_results < 400


def test_a_truncated_csv_says_where_it_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'prompt,llm,score\np,a,1\n"cut in the midd')
    _, out = read(tmp_path / "a.csv", tmp_path, ANY_BAD)
    assert "unexpected end of data" in str(rejected(out)[0]["reason"])


def test_a_truncated_zip_is_refused(tmp_path: Path) -> None:
    folder = write_inspect(tmp_path / "logs", zipped=True)
    file = folder / "small.eval"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"small\.eval: not a whole zip archive"):
        read(folder, tmp_path)


def test_a_broken_sample_in_a_zip_costs_itself_only(tmp_path: Path) -> None:
    log = inspect_log(LLMS[0])
    samples = log.pop("samples")
    assert isinstance(samples, list)
    with zipfile.ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("header.json", json.dumps(log))
        archive.writestr("samples/0_epoch_1.json", "{broken")
        archive.writestr("samples/1_epoch_1.json", json.dumps(samples[1]))
    _, out = read(tmp_path / "log.eval", tmp_path, ANY_BAD)
    assert scores_of(out) == {(PROMPTS[1], LLMS[0]): 0.0}
    assert "samples/0_epoch_1.json" in str(rejected(out)[0]["reason"])


@pytest.mark.parametrize("log", [{"eval": {}}, {"eval": {"model": "m"}}])
def test_json_that_is_no_log_of_inspect_is_refused(log: object, tmp_path: Path) -> None:
    file = write_json(tmp_path / "log.json", log)
    with pytest.raises(DataError, match="expected"):
        read(file, tmp_path)


def test_results_of_unknown_items_are_rejected(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": ["a"], "prompt": ["p"]}).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame({"item_id": ["a", "ghost"], "model": ["x", "x"], "score": [1.0, 1.0]}).write_parquet(
        tmp_path / "results.parquet"
    )
    report, out = read(tmp_path, tmp_path, ANY_BAD)
    assert report.n_results == 1
    assert "ghost" in str(rejected(out)[0]["reason"])


def test_item_ids_that_repeat_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": ["a", "a"], "prompt": ["p", "q"]}).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame({"item_id": ["a"], "model": ["x"], "score": [1.0]}).write_parquet(tmp_path / "results.parquet")
    with pytest.raises(DataError, match="occurs twice"):
        read(tmp_path, tmp_path)


@pytest.mark.parametrize("limit", ["10%", "1", "100%"])
def test_bad_rows_within_the_limit_are_left_out(limit: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(ONE_BAD_OF_TEN)
    report, out = read(tmp_path / "a.csv", tmp_path, IngestOptions(max_bad_rows=BadRowLimit.parse(limit)))
    assert (report.n_rejected, len(rejected(out))) == (1, 1)


@pytest.mark.parametrize("limit", ["0.1%", "9.9%", "0"])
def test_bad_rows_beyond_the_limit_stop_everything_but_their_list(limit: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(ONE_BAD_OF_TEN)
    with pytest.raises(DataError, match="1 of 10 rows cannot be used"):
        read(tmp_path / "a.csv", tmp_path, IngestOptions(max_bad_rows=BadRowLimit.parse(limit)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "out.rejected.jsonl"]
    assert len((tmp_path / "out.rejected.jsonl").read_text().splitlines()) == 1
    (tmp_path / "a.csv").write_bytes(GOOD)
    read(tmp_path / "a.csv", tmp_path)
    assert not (tmp_path / "out.rejected.jsonl").exists()


@pytest.mark.parametrize("text", ["many", "-1", "101%", "-1%", "1.5", "nan%"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"0\.1% or a number of rows"):
        BadRowLimit.parse(text)


def test_a_table_of_unknown_columns_is_told_which_it_has_and_which_are_expected(tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("Prompt;LLM;Score\nq;a;1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"found the columns \['Prompt;LLM;Score'\].*prompt, llm and score"):
        read(file, tmp_path)
