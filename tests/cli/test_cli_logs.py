"""The commands: what they print, as text and as JSON, and how they fail."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from reading import flat, write
from recorded import make_feedback, make_record, make_records
from rich.text import Text
from typer.testing import CliRunner, Result

from embedllm_router.cli.logs import app
from embedllm_router.config.process import StoreSettings, default_store_path
from embedllm_router.records.schema import FeedbackRecord

RECORDS = make_records(300, seed=5)
PATH = "EMBEDLLM_ROUTER_STORE__PATH"
COMMAND = [sys.executable, "-c", "from embedllm_router.cli.logs import app; app()"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "records"
    write(folder, [*RECORDS, *make_feedback(RECORDS)])
    return folder


def run(*arguments: str | Path, **environment: str | None) -> Result:
    return CliRunner().invoke(app, ["logs", *map(str, arguments)], env=environment)


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_tail_lists_the_newest_one_line_each(folder: Path) -> None:
    result = run("tail", "-n", "5", "--from", folder)
    header, *rows = result.stdout.splitlines()
    assert header.split()[:2] == ["UTC", "request"]
    assert [row.split()[2] for row in rows] == [r.request_id for r in RECORDS[-5:]]
    assert RECORDS[-1].chosen in rows[-1]


def test_tail_marks_what_went_wrong(folder: Path) -> None:
    fallen = run("tail", "--from", folder, "-n", "999").stdout
    assert "highest_utility, answered by novice" in fallen
    assert "failure: APIConnectionError" in fallen
    assert "failed_open (ArtifactError)" in fallen


def test_in_a_terminal_each_decision_keeps_to_one_line(folder: Path) -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "COLUMNS": "60", "TERM": "xterm"}
    arguments = ["logs", "tail", "--from", str(folder), "-n", "5", "--status", "failure"]
    subprocess.run([*COMMAND, *arguments], stdout=theirs, env=environment, timeout=60, check=True)
    os.close(theirs)
    shown = [Text.from_ansi(line) for line in os.read(ours, 10_000).decode().splitlines()]
    os.close(ours)
    assert [len(line) for line in shown] == [60] * 6
    assert all(line.spans for line in shown), "failures are red"


def test_tail_as_json_lines(folder: Path) -> None:
    rows = lines(run("tail", "--from", folder, "-n", "3", "--json"))
    assert [row["request_id"] for row in rows] == [r.request_id for r in RECORDS[-3:]]
    assert rows[0]["at"] == orjson.dumps(RECORDS[-3].at, option=orjson.OPT_UTC_Z).decode().strip('"')
    assert "candidates" not in rows[0]


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        (["--llm", "novice"], lambda r: "novice" in (r.chosen, r.served)),
        (["--key", "team-b", "--status", "failure"], lambda r: (r.key_alias, r.status) == ("team-b", "failure")),
        (["--virtual-model", "auto-cheap"], lambda r: r.virtual_model == "auto-cheap"),
        (["--reason", "failed_open"], lambda r: r.failed_open),
        (["--category", "planted/maths", "--arm", "live"], lambda r: r.category == "planted/maths"),
        (["--min-cost", "0.01", "--max-cost", "0.0145"], lambda r: 0.01 <= (r.billed_cost_usd or 0) <= 0.0145),
        (["--excluded", "llm_unknown"], lambda r: r.candidates),
        (["--since", "2026-01-01T00:01", "--until", "2026-01-01T01:02+01:00"], lambda r: r.at.minute == 1),
    ],
)
def test_conditions(folder: Path, options: list[str], meant: Any) -> None:
    rows = lines(run("tail", "--from", folder, "-n", "999", "--json", *options))
    assert [row["request_id"] for row in rows] == [r.request_id for r in RECORDS if meant(r)]
    assert 0 < len(rows) < len(RECORDS)


def test_show_explains_a_request(folder: Path) -> None:
    maths = next(r for r in RECORDS if r.category == "planted/maths" and r.served == "wizard")
    said = run("show", maths.request_id, "--from", folder).stdout
    for part in (
        f"request {maths.request_id}",
        "wizard has the highest utility, 0.950 - 20 · $0.0160 = 0.630; the next, novice, has 0.500.",
        "λ > 28.16",
        "excluded: llm_unknown",
        "from 28.16 on novice would be chosen",
        "nearest training prompts: planted/maths",
        "wizard answered after",
        "Routing took",
    ):
        assert part in said


def test_show_as_json(folder: Path) -> None:
    fields = json.loads(run("show", RECORDS[3].response_id or "", "--from", folder, "--json").stdout)
    assert fields["request"] == orjson.loads(orjson.dumps(RECORDS[3], option=orjson.OPT_UTC_Z))
    assert fields["explanation"]["best"] == RECORDS[3].chosen
    assert fields["why"].startswith(RECORDS[3].chosen)


def test_summary_says_what_it_is_and_is_not(folder: Path) -> None:
    said = run("summary", "--from", folder).stdout
    for part in (
        "300 requests, 2026-01-01 00:00:00Z to 2026-01-01 00:04:59Z",
        "always wizard, the best single LLM",
        "always the most accurate",
        "an LLM that was not asked has neither a bill nor feedback",
        "half of them were off by more than 11.1 %",
        "Brier",
        "added by routing",
    ):
        assert part in " ".join(said.split())


def test_summary_as_json_obeys_conditions_and_seed(folder: Path) -> None:
    one, same, other = (
        json.loads(run("summary", "--from", folder, "--llm", "wizard", "--json", "--seed", seed).stdout)
        for seed in ("1", "1", "2")
    )
    assert one["n"] == sum("wizard" in (r.chosen, r.served) for r in RECORDS)
    assert one["filters"] == {"llm": "wizard"}
    assert flat(one) == pytest.approx(flat(same), nan_ok=True), "threads add up in another order"
    assert one["spend"]["alternatives"][1] != other["spend"]["alternatives"][1]
    assert one["spend"]["expected_usd"] == pytest.approx(other["spend"]["expected_usd"])


def test_export_to_stdout_and_to_a_file(folder: Path, tmp_path: Path) -> None:
    rows = lines(run("export", "--from", folder, "--status", "failure"))
    assert len(rows) == sum(r.status == "failure" for r in RECORDS)
    result = run("export", "--from", folder, "--out", tmp_path / "a.parquet")
    assert (result.exit_code, result.stdout) == (0, f"300 requests written to {tmp_path / 'a.parquet'}\n")
    assert len(lines(run("tail", "--from", tmp_path / "a.parquet", "-n", "999", "--json"))) == len(RECORDS)


def test_seal_turns_lines_into_parquet(tmp_path: Path) -> None:
    write(tmp_path / "records", RECORDS[:5])
    assert [file.suffix for file in (tmp_path / "records").glob("requests-*")] == [".jsonl"]
    fields = json.loads(run("seal", "--from", tmp_path / "records", "--json").stdout)
    assert [(one["rows"], one["rejected"]) for one in fields["sealed"]] == [(5, 0)]
    assert len(lines(run("tail", "--from", tmp_path / "records", "--json"))) == 5
    assert run("seal", "--from", tmp_path / "records").stdout == "0 files sealed\n"


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    write(tmp_path, RECORDS[:5])
    (lines_file,) = tmp_path.glob("requests-*.jsonl")
    with lines_file.open("ab") as file:
        file.write(b'{"request_id": 5, "at": "never"}\nno record\n')
    assert "2 lines rejected" in run("seal", "--from", tmp_path).stdout
    assert "5 requests" in run("summary", "--from", tmp_path).stdout
    assert "and 2 damaged lines, which may have been records" in run("summary", "--from", tmp_path).stdout


def test_what_clients_sent_commands_no_terminal(tmp_path: Path) -> None:
    """Request ids, key aliases, prompts and sources of feedback may hold escape sequences."""
    said = "\x1b[2J\x1b]0;title\x07\x9b31mall is well\u202e\r"
    record = make_record(1, request_id="r1", virtual_model=said, key_alias=said, prompt=said, error=said)
    judged = FeedbackRecord(at=record.at, request_id="r1", score=1.0, source=said)
    write(tmp_path, [record, judged])
    for command in (["tail"], ["show", "r1"], ["summary"]):
        printed = run(*command, "--from", tmp_path).stdout
        assert "all is well" in printed or command == ["tail"], "which shortens it"
        assert not set("\x1b\x07\x9b\u202e\r") & set(printed), command


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "nothing-like-it"], 2, "no request with the id 'nothing-like-it'"),
        (["show", "request-1"], 0, ""),
        (["tail", "--since", "yesterdayish"], 2, "--since takes a time such as"),
        (["summary", "--since", "999999999d"], 2, "no calendar goes that far"),
        (["summary", "--since", "10000000000000h"], 2, "no calendar goes that far"),
        (["summary", "--until", "0001-01-01T00:00:00+14:00"], 2, "no calendar goes that far"),
        (["show", "\x1b[2J"], 2, "no request with the id"),
        (["summary", "--key", "nobody"], 1, "no request meets the conditions"),
        (["tail", "--key", "nobody"], 1, "no request meets the conditions"),
        (["export", "--out", "a.xls"], 2, "ends in .csv, .parquet, .jsonl"),
        (["tail", "--status", "good"], 2, "success"),
        (["tail", "--memory", "plenty"], 2, "are not usable"),
        (["tail", "--from", "/nowhere"], 2, "no records at /nowhere"),
        (["tail", "--from", "gs://bucket"], 2, "neither files, s3:// nor PostgreSQL"),
        (["seal", "--from", "postgresql://me:secret@h/db"], 2, "expected a folder of record files"),
        (["tail", "--config", "/none.yaml"], 2, "cannot read the configuration"),
    ],
)
def test_mistakes_are_told_in_one_sentence(folder: Path, arguments: list[str], code: int, said: str) -> None:
    origin = [] if {"--from", "--config"} & {*arguments} else ["--from", str(folder)]
    result = run(*arguments, *origin)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert "secret" not in result.output
    assert "Traceback" not in result.output


def test_a_damaged_file_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "requests-1.parquet").write_bytes(b"no parquet at all, but long enough to look at")
    result = run("summary", "--from", folder, "--from", tmp_path)
    assert result.exit_code == 2
    assert "requests-1.parquet" in result.stderr


def test_an_empty_folder_has_nothing_to_sum_up(tmp_path: Path) -> None:
    result = run("summary", "--from", tmp_path)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (1, f"0 requests, in {tmp_path}")


def test_the_place_comes_from_the_environment_or_a_configuration(folder: Path, tmp_path: Path) -> None:
    by_environment = run("tail", "-n", "1", "--json", **{PATH: str(folder)})
    assert lines(by_environment)[0]["request_id"] == RECORDS[-1].request_id
    section = {"virtual_models": {"auto": {"default": "wizard"}}, "store": {"path": str(folder)}}
    config = {"litellm_settings": {"callbacks": ["embedllm_router.proxy_handler"]}}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config | {"callback_settings": {"embedllm_router": section}}))
    by_configuration = run("tail", "-n", "1", "--json", "--config", file, **{PATH: None})
    assert lines(by_configuration)[0]["request_id"] == RECORDS[-1].request_id
    url = "postgresql://someone:secret@127.0.0.1:9/records"
    dead = run("tail", EMBEDLLM_ROUTER_STORE__URL=url)
    assert (dead.exit_code, "secret" in dead.output) == (2, False)
    assert "does not answer" in dead.stderr


def test_by_default_records_lie_where_a_store_puts_them(tmp_path: Path) -> None:
    assert StoreSettings().folder == default_store_path()
    result = run("tail", XDG_STATE_HOME=str(tmp_path), **{PATH: None})
    assert result.exit_code == 2
    assert f"no records at {tmp_path / 'embedllm-router' / 'records'}" in result.stderr


@pytest.mark.parametrize("as_json", [True, False])
def test_following_tells_of_new_requests_until_it_is_interrupted(tmp_path: Path, as_json: bool) -> None:  # noqa: FBT001 - pytest hands it over so
    write(tmp_path / "records", [make_record(0)])
    arguments = ["logs", "tail", "-f", "--from", str(tmp_path / "records"), *(["--json"] if as_json else [])]
    with (tmp_path / "out").open("wb") as out, subprocess.Popen([*COMMAND, *arguments], stdout=out) as process:
        try:
            wait_for("request-0", tmp_path / "out", process)
            write(tmp_path / "records", [make_record(1), make_record(2, status="failure", served=None)])
            wait_for("request-2", tmp_path / "out", process)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    told = (tmp_path / "out").read_text()
    assert [told.count(f"request-{n}") for n in range(3)] == [1, 1, 1]


def wait_for(text: str, file: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while text not in file.read_text():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < deadline, f"{text} was never told of"
        time.sleep(0.05)


def test_importing_the_commands_loads_nothing_heavy() -> None:
    code = "import sys, embedllm_router.cli.logs; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert not {"duckdb", "numpy", "sqlalchemy", "litellm", "pydantic"} & set(done.stdout.split())
