"""From a configuration to weights that know it: asked, billed, graded and learned against a stand-in with a ledger."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paid_llms import PaidLLM, StandIn, paid_llms
from planted import planted_artifact
from typer.testing import CliRunner

from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.weights import load_artifact
from embedllm_router.cli.main import app
from embedllm_router.data.folder import read_folder
from embedllm_router.data.ingest import ingest
from embedllm_router.errors import ConfigError
from embedllm_router.profiling.graders import Grader
from embedllm_router.profiling.set_aside import n_set_aside, set_aside
from embedllm_router.profiling.tasks import read_tasks
from embedllm_router.routing.deployments import read_model_groups

LLMS = {"ours-a": PaidLLM(-2.0), "ours-b": PaidLLM(0.0), "ours-c": PaidLLM(2.0, 2e-6, 8e-6)}
FAILURES = {"429": 0.05, "500": 0.05, "hang": 0.02, "cut": 0.03, "empty": 0.02, "long": 0.02}
WORDS = ("hello", "integral", "statute", "function")


def _questions(n: int) -> dict[str, tuple[str, float]]:
    rng = random.Random(3)
    return {f"{rng.choice(WORDS)} {i}: what is {i} + {i}?": (str(i + i), rng.uniform(-1, 1)) for i in range(n)}


class Place:
    """A folder with weights, a configuration and prompts."""

    def __init__(self, folder: Path, url: str, questions: Mapping[str, tuple[str, float]]) -> None:
        planted_artifact(folder / "weights")
        self.folder, self.out = folder, folder / "new"
        self.config, self.prompts = folder / "config.yaml", folder / "prompts.jsonl"
        self.config.write_text(json.dumps({"model_list": [_deployment(name, llm, url) for name, llm in LLMS.items()]}))
        self.write([{"prompt": question, "reference": int(right)} for question, (right, _) in questions.items()])

    def write(self, rows: list[dict[str, Any]]) -> None:
        self.prompts.write_text("\n".join(json.dumps(row) for row in rows))

    def arguments(self, *more: str) -> list[str]:
        given = {"config": self.config, "prompts": self.prompts, "out": self.out, "artifact": self.folder / "weights"}
        return ["profile", *(f"--{name}={value}" for name, value in given.items()), "--timeout=20", "--json", *more]

    def run(self, *more: str, code: int = 0) -> dict[str, Any]:
        done = CliRunner().invoke(app, self.arguments(*more))
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}

    def process(self, *more: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-W", "ignore", "-m", "embedllm_router", *self.arguments(*more)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})

    @property
    def journal(self) -> Path:
        return self.folder / "new.journal.jsonl"


def _deployment(name: str, llm: PaidLLM, url: str) -> dict[str, Any]:
    prices = {"input_cost_per_token": llm.input_usd, "output_cost_per_token": llm.output_usd}
    params = {"model": f"openai/{name}", "api_base": url, "api_key": "os.environ/PROFILE_TEST_KEY", **prices}
    return {"model_name": name, "litellm_params": params}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StandIn, str]]:
    monkeypatch.setenv("PROFILE_TEST_KEY", "sk-of-the-user")
    made = StandIn(LLMS, _questions(80))
    with paid_llms(made) as url:
        yield made, url


@pytest.fixture
def place(tmp_path: Path, stand_in: tuple[StandIn, str]) -> Place:
    return Place(tmp_path, stand_in[1], stand_in[0].key)


def test_a_pool_is_asked_billed_and_learned_through_every_failure(stand_in: tuple[StandIn, str], place: Place) -> None:
    """Bills are the stand-in's to the cent, nothing is paid twice, and the planted order of abilities comes out."""
    provider, _ = stand_in
    provider.failures = FAILURES
    result = place.run("--n=40", "--concurrency=12", "--timeout=4")
    llms = {one["name"]: one for one in result["llms"]}
    assert result["spent_usd"] == pytest.approx(sum(provider.bills.values()), rel=1e-9)
    for name, one in llms.items():
        assert one["cost_usd"] == pytest.approx(provider.bills[name], rel=1e-9)
        assert one["n_answers"] + sum(one["failures"].values()) == 40
        assert one["learned"] == "added"
        assert one["accuracy_low"] < one["accuracy"] < one["accuracy_high"]
        assert one["output_tokens"] == LLMS[name].tokens
    assert provider.cut_usd <= result["unknown_usd"]
    assert llms["ours-a"]["accuracy"] < llms["ours-b"]["accuracy"] < llms["ours-c"]["accuracy"]
    assert llms["ours-a"]["p_after"] < llms["ours-b"]["p_after"] < llms["ours-c"]["p_after"]
    twice = sum(n > 1 for n in provider.asked.values())
    assert twice <= place.journal.read_bytes().count(b'"outcome":"empty"')
    assert json.loads((place.folder / "new.report.json").read_text()) == result
    weights = load_artifact(place.out)
    assert weights.id == result["artifact"]
    assert weights.manifest.measured.startswith(f"Measured on the weights {result['parent']}, before ")
    groups = read_model_groups(json.loads(place.config.read_text())["model_list"], {}, Catalog(weights.manifest.llms))
    assert {name: group.candidate.llm for name, group in groups.items()} == {name: name for name in LLMS}
    assert all(group.candidate.row is not None for group in groups.values())
    assert all(body["model"] in LLMS and "temperature" not in body for body in provider.bodies)


def test_a_dry_run_asks_nothing(stand_in: tuple[StandIn, str], place: Place) -> None:
    result = place.run("--n=60", "--dry-run")
    assert stand_in[0].n_requests == 0
    assert [one["calls"] for one in result["llms"]] == [60, 60, 60]
    assert 0 < result["usd"] < result["most_usd"]
    assert not place.out.exists()
    assert not place.journal.exists()


def test_the_budget_ends_a_run_and_what_was_learned_is_written(stand_in: tuple[StandIn, str], place: Place) -> None:
    provider, _ = stand_in
    result = place.run("--n=40", "--budget-usd=0.01", "--max-tokens=100")
    assert result["spent_usd"] + result["unknown_usd"] <= 0.01
    assert sum(provider.bills.values()) <= 0.01
    assert {one["given_up"] for one in result["llms"]} == {"the budget is used up"}
    (said,) = [note for note in result["notes"] if "budget" in note]
    assert float(said.split("--budget-usd ")[1].split()[0]) > 0.01
    counts = [one["n_answers"] for one in result["llms"]]
    assert max(counts) - min(counts) <= 12
    assert result["artifact"] is not None


def test_a_killed_run_goes_on_and_pays_nothing_twice(stand_in: tuple[StandIn, str], place: Place) -> None:
    """What was under way when the process died is counted at its most, and not asked again."""
    provider, _ = stand_in
    provider.latency_s = 0.05
    process = place.process("--n=20", "--concurrency=4", "--timeout=30")
    try:
        _wait_for(place.journal, b'"kind":"ended"', 15)
    finally:
        process.kill()
        process.communicate(timeout=20)
    result = place.run("--n=20", "--concurrency=4", "--timeout=30")
    assert max(provider.asked.values()) == 1
    lost = sum(one["failures"].get("lost", 0) for one in result["llms"])
    assert 0 <= lost <= 4
    assert sum(one["n_answers"] for one in result["llms"]) + lost == 3 * 20
    billed = sum(provider.bills.values())
    assert result["spent_usd"] <= billed + 1e-12
    assert billed <= result["spent_usd"] + result["unknown_usd"] + 1e-12
    if not lost:
        assert result["spent_usd"] == pytest.approx(billed, rel=1e-9)


def test_ctrl_c_waits_for_what_is_paid_for_and_says_how_to_go_on(stand_in: tuple[StandIn, str], place: Place) -> None:
    provider, _ = stand_in
    provider.latency_s = 0.05
    watching = threading.Thread(target=_interrupt_after, args=(place.journal, 10))
    watching.start()
    said = place.run("--n=20", "--concurrency=4", "--timeout=30", code=130)
    watching.join(5)
    assert said["interrupted"]
    assert "the same command goes on" in said["notes"][0]
    assert said["artifact"] is None
    assert said["unknown_usd"] == 0.0
    assert said["spent_usd"] == pytest.approx(sum(provider.bills.values()), rel=1e-9)
    result = place.run("--n=20")
    assert max(provider.asked.values()) == 1
    assert [one["n_answers"] for one in result["llms"]] == [20, 20, 20]


def _interrupt_after(journal: Path, n: int) -> None:
    _wait_for(journal, b'"kind":"ended"', n)
    os.kill(os.getpid(), signal.SIGINT)


def _wait_for(path: Path, mark: bytes, n: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(mark) >= n:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} has not {n} of {mark!r}")


def test_a_judge_grades_others_and_its_nonsense_costs_one_row(stand_in: tuple[StandIn, str], place: Place) -> None:
    provider, _ = stand_in
    questions = list(provider.key)[:12]
    place.write([{"prompt": question, "grader": "judge"} for question in questions])
    verdicts = iter(['{"correct": true}'] * 20 + ["I would rather not say", '{"correct": false}'] * 40)
    provider.reply_of = lambda name, body: (
        next(verdicts) if "You grade answers" in str(body) and name == "ours-c" else None
    )
    result = place.run("--n=12", "--judge=ours-c", "--llm=ours-a", "--llm=ours-b")
    assert sum(one["n_answers"] for one in result["llms"]) == 24
    assert sum(one["n_graded"] for one in result["llms"]) == 22
    assert result["judges_usd"] > 0
    assert result["spent_usd"] == pytest.approx(sum(provider.bills.values()), rel=1e-9)


@pytest.mark.parametrize("dead", [True, False])
def test_a_judge_that_grades_nothing_is_named_and_can_be_replaced(
    stand_in: tuple[StandIn, str], place: Place, *, dead: bool
) -> None:
    """One that the provider refuses, and one that never answers with JSON; another then judges the same answers."""
    provider, url = stand_in
    place.write([{"prompt": question, "grader": "judge"} for question in list(provider.key)[:12]])
    config = json.loads(place.config.read_text())
    config["model_list"].append(_deployment("judge", LLMS["ours-c"], f"{url}/nowhere" if dead else url))
    place.config.write_text(json.dumps(config))
    provider.llms = {**LLMS, "judge": LLMS["ours-c"]}
    provider.reply_of = lambda name, _: {"judge": "Looks fine", "ours-c": '{"correct": true}'}.get(name)
    result = place.run("--n=12", "--judge=judge", "--llm=ours-a", "--llm=ours-b", code=1)
    (judge,) = result["judges"]
    assert judge["n_ungraded"] == 24
    assert judge["n_unreadable"] == (0 if dead else 24)
    assert (judge["given_up"] is not None) == dead == ("not_allowed" in judge["failures"])
    assert result["notes"][0].startswith("the judge judge left 24 answers without a grade")
    assert "another --judge" in result["notes"][0]
    result = place.run("--n=12", "--judge=ours-c", "--llm=ours-a", "--llm=ours-b")
    assert [one["n_graded"] for one in result["llms"]] == [12, 12]
    assert result["judges"][0]["n_verdicts"] == 24
    assert max(n for (name, _), n in provider.asked.items() if name == "ours-a") == 1


def test_a_dry_run_counts_what_judges_take(stand_in: tuple[StandIn, str], place: Place) -> None:
    """Against the ledger, which the stand-in bills at 40 tokens a verdict; each judge judges what is not its own."""
    provider, _ = stand_in
    place.write([{"prompt": one, "grader": "judge"} for one in list(provider.key)[:12]])
    provider.reply_of = lambda _, body: '{"correct": true}' if "You grade answers" in str(body) else None
    judges = "--judge=ours-c", "--judge=ours-b"
    quoted = place.run("--n=12", *judges, "--dry-run")
    assert [(one["name"], one["calls"]) for one in quoted["judges"]] == [("ours-c", 24), ("ours-b", 12)]
    assert quoted["usd"] == pytest.approx(sum(one["usd"] for one in (*quoted["llms"], *quoted["judges"])))
    result = place.run("--n=12", *judges)
    of_judges = sum(one["usd"] for one in quoted["judges"])
    assert [one["n_verdicts"] for one in result["judges"]] == [24, 12]
    assert result["judges_usd"] < quoted["most_usd"]
    assert of_judges < quoted["usd"] < quoted["most_usd"]
    assert not place.run("--n=12", "--dry-run", f"--prompts={_with_references(place, provider)}", *judges)["judges"]


def _with_references(place: Place, provider: StandIn) -> Path:
    path = place.folder / "graded.jsonl"
    rows = [{"prompt": one, "reference": int(right)} for one, (right, _) in list(provider.key.items())[:12]]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_why_a_bill_is_unknown_is_said(stand_in: tuple[StandIn, str], place: Place) -> None:
    provider, _ = stand_in
    provider.failures = {"cut": 0.3}
    result = place.run("--n=12")
    assert set(result["unknown_because"]) == {"connection"}
    assert result["unknown_because"]["connection"] == place.journal.read_bytes().count(b'"outcome":"connection"')
    again = CliRunner().invoke(app, [one for one in place.arguments("--n=12") if one != "--json"])
    assert "whose bill is not known" in again.stdout
    assert "whose connection broke" in again.stdout


def test_an_llm_is_asked_at_each_reasoning_effort_and_learned_as_several(
    stand_in: tuple[StandIn, str], place: Place
) -> None:
    """Planted: the more effort, the abler, longer and dearer; the next start knows each effort by its own row."""
    provider, url = stand_in
    abilities = {"none": PaidLLM(-2.0, tokens=20), "low": PaidLLM(0.5, tokens=60), "high": PaidLLM(3.0, tokens=200)}
    provider.llms = {f"brain:{effort}": llm for effort, llm in abilities.items()}
    row = _deployment("brain", PaidLLM(0.0), url)
    row["litellm_params"]["allowed_openai_params"] = ["reasoning_effort"]
    row["model_info"] = {"embedllm_efforts": ["none", "low", "high"]}
    place.config.write_text(json.dumps({"model_list": [row, _deployment("other", PaidLLM(0.0), url)]}))
    result = place.run("--n=40", "--llm=brain")
    found = {one["name"]: one for one in result["llms"]}
    assert list(found) == ["brain:none", "brain:low", "brain:high"]
    for name, one in found.items():
        assert one["learned"] == "added"
        assert one["n_answers"] == 40
        assert one["output_tokens"] == provider.llms[name].tokens
        assert one["cost_usd"] == pytest.approx(provider.bills[name], rel=1e-9)
    assert found["brain:none"]["p_after"] < found["brain:low"]["p_after"] < found["brain:high"]["p_after"]
    weights = load_artifact(place.out)
    groups = read_model_groups([row], {}, Catalog(weights.manifest.llms))
    known = {one.candidate.name: (one.candidate.llm, one.match.how) for one in groups["brain"].at_efforts}
    assert all(llm == name and how in {"exact", "spelling"} for name, (llm, how) in known.items()), known
    assert [one["name"] for one in place.run("--llm=brain:low", "--dry-run")["llms"]] == ["brain:low"]


def test_an_effort_that_would_not_be_sent_is_not_asked(stand_in: tuple[StandIn, str], place: Place) -> None:
    row = _deployment("brain", PaidLLM(0.0), stand_in[1])
    row["model_info"] = {"embedllm_efforts": ["low"]}
    row["litellm_params"]["model"] = "openai/gpt-4o"
    config = json.loads(place.config.read_text())
    place.config.write_text(json.dumps({"model_list": [*config["model_list"], row]}))
    done = CliRunner().invoke(app, place.arguments("--dry-run"))
    assert "brain:low is not asked: LiteLLM sends it no reasoning_effort" in " ".join(done.stderr.split())
    assert "allowed_openai_params" in done.stderr


def test_who_judges_its_own_answers_is_warned_of(stand_in: tuple[StandIn, str], place: Place) -> None:
    del stand_in
    place.write([{"prompt": "q", "grader": "judge"}])
    done = CliRunner().invoke(app, place.arguments("--judge=ours-c", "--dry-run"))
    assert "ours-c judges its own answers" in done.stderr
    done = CliRunner().invoke(app, place.arguments("--judge=ours-c", "--judge=ours-b", "--dry-run"))
    assert "judges its own" not in done.stderr


def test_answers_can_be_graded_by_agreement_with_the_strongest(stand_in: tuple[StandIn, str], place: Place) -> None:
    provider, _ = stand_in
    place.write([{"prompt": question} for question in list(provider.key)[:15]])
    result = place.run("--n=15", "--cost-weight=0")
    graded = {one["name"]: one["n_graded"] for one in result["llms"]}
    assert sorted(graded.values()) == [0, 15, 15]


def test_forgotten_answers_are_nowhere_and_still_graded(stand_in: tuple[StandIn, str], place: Place) -> None:
    grades = place.folder / "grades.jsonl"
    result = place.run("--n=12", "--forget-answers", f"--grades-to={grades}")
    rows = [json.loads(line) for line in grades.read_text().splitlines()]
    assert len(rows) == 36
    assert all(row["prompt"] in stand_in[0].key and row["score"] in {0, 1} for row in rows)
    assert ingest([grades], place.folder / "data").n_results == 36
    assert [one["n_graded"] for one in result["llms"]] == [12, 12, 12]
    assert b"no LLM was called" not in place.journal.read_bytes()
    assert stand_in[0].n_requests == 36


def test_no_prompt_or_key_is_written_anywhere(stand_in: tuple[StandIn, str], place: Place) -> None:
    """The journal holds answers alone; weights and report not even these."""
    place.run("--n=10")
    written = [path for path in place.folder.rglob("*") if path.is_file() and path not in {place.prompts, place.config}]
    assert place.journal in written
    for path in written:
        content = path.read_bytes()
        assert b"sk-of-the-user" not in content
        assert not any(question.encode() in content for question in stand_in[0].key)


def test_nine_answers_teach_nothing_of_llms_known_or_new(stand_in: tuple[StandIn, str], place: Place) -> None:
    known = load_artifact(place.folder / "weights").manifest.llms[0].id
    config = json.loads(place.config.read_text())
    config["model_list"][0]["model_info"] = {"embedllm": known}
    place.config.write_text(json.dumps(config))
    place.write([{"prompt": one, "reference": int(right)} for one, (right, _) in list(stand_in[0].key.items())[:9]])
    assert "each LLM is asked 9 prompts" in CliRunner().invoke(app, place.arguments("--dry-run")).stderr
    result = place.run("--n=10", code=1)
    assert result["llms"][0]["llm"] == known
    assert {one["learned"] for one in result["llms"]} == {"9 graded answers, expected at least 10"}


def test_other_prompts_do_not_replace_good_weights(stand_in: tuple[StandIn, str], place: Place) -> None:
    """More prompts go on; others are refused while the weights are there, and without them only the bills count."""
    rows = [{"prompt": one, "reference": int(right)} for one, (right, _) in stand_in[0].key.items()]
    place.write(rows[:12])
    first = place.run("--n=12")
    place.write(rows[12:17])
    said = place.run("--n=12", code=2)["stderr"]
    assert "learned from 12 prompts which this run does not have" in said
    assert stand_in[0].n_requests == 36
    assert load_artifact(place.out).id == first["artifact"]
    place.out.rename(place.folder / "kept")
    result = place.run("--n=12", code=1)
    assert [(one["n_answers"], one["n_graded"]) for one in result["llms"]] == [(5, 5)] * 3
    assert result["spent_usd"] == pytest.approx(sum(stand_in[0].bills.values()), rel=1e-9)
    assert "answers to 12 prompts of the journal" in result["notes"][0]


def test_lengths_of_an_llm_that_the_weights_know_are_learned(stand_in: tuple[StandIn, str], place: Place) -> None:
    """Planted: the weights expect other lengths than the 40 tokens that every answer is billed."""
    assert all(llm.tokens == 40 for llm in stand_in[0].llms.values())
    weights = load_artifact(place.folder / "weights")
    config = json.loads(place.config.read_text())
    config["model_list"][0]["model_info"] = {"embedllm": weights.manifest.llms[0].id}
    place.config.write_text(json.dumps(config))
    before = place.run("--n=60", "--dry-run")["llms"][0]["output_tokens"] / 60
    result = place.run("--n=60")
    assert result["llms"][0]["learned"] in {"updated", "length only"}
    after = place.run("--n=60", "--dry-run", f"--artifact={place.out}")["llms"][0]["output_tokens"] / 60
    assert abs(before - 40) > 20
    assert after == pytest.approx(40, rel=0.3)


def test_nothing_is_learned_where_no_answer_is_right(stand_in: tuple[StandIn, str], place: Place) -> None:
    place.write([{"prompt": question, "reference": -1} for question in list(stand_in[0].key)[:10]])
    result = place.run("--n=10", code=1)
    assert "none of 30 graded answers is right" in result["notes"][0]
    assert result["artifact"] is None
    assert not place.out.exists()


@pytest.mark.parametrize("failure", ["500", "cut", "hang"])
def test_a_pool_that_only_fails_is_one_sentence(stand_in: tuple[StandIn, str], place: Place, failure: str) -> None:
    stand_in[0].failures = {failure: 1.0}
    result = place.run("--n=10", "--llm=ours-a", "--timeout=1", "--concurrency=5", code=1)
    assert result["artifact"] is None
    assert "nothing to learn" in result["notes"][0]
    assert result["llms"][0]["given_up"] is not None
    assert result["spent_usd"] == 0.0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2"),
        ('{"prompt": ""}', "line 2: the prompt is empty"),
        (
            '{"prompt": "q", "reference": "x", "grader": "numeric"}',
            "line 2: numeric needs a reference that is a number",
        ),
        ('{"prompt": "q", "grader": "gues"}', "line 2: grader"),
        ('{"promt": "q"}', "line 2: prompt"),
        ('{"prompt": "q", "grader": "judge"}', "name one with --judge"),
        ('{"prompt": [{"role": "robot", "content": "q"}]}', "line 2: prompt"),
        ('{"prompt": "q", "reference": "(", "grader": "regex"}', "line 2: regex needs"),
    ],
)
def test_a_wrong_line_is_one_sentence_with_its_number(place: Place, line: str, said: str) -> None:
    place.prompts.write_text('{"prompt": "fine", "reference": 1}\n' + line + "\n")
    done = CliRunner().invoke(app, place.arguments("--dry-run"))
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_is_wrong_with_a_configuration_is_one_sentence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*more: str) -> str:
        done = CliRunner().invoke(app, place.arguments(*more))
        assert done.exit_code == 2, done.output
        return done.stderr

    assert "has no model group 'nobody'" in said("--llm=nobody")
    assert "the judge nobody/x is neither a model group" in said("--judge=nobody/x")
    assert "which has ours-a, ours-b, ours-c" in said("--judge=nobody/x")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    real = CliRunner().invoke(app, [one for one in place.arguments("--judge=gpt-4o") if one != "--json"])
    assert real.exit_code == 2
    assert "environment variable OPENAI_API_KEY, which is not set" in real.stderr
    monkeypatch.delenv("PROFILE_TEST_KEY")
    assert "PROFILE_TEST_KEY, which is not set" in said()
    assert not place.journal.exists()
    place.config.write_text('{"model_list": [{"model_name": "m", "litellm_params": {"model": "openai/own"}}]}')
    assert "no LLM that can be asked. m: it has no known price" in said()
    place.config.write_text("model_list: []")
    assert "model_list is empty" in said()
    assert "No such file" in said("--config=nowhere.yaml")


def test_prompts_set_aside_teach_nothing_and_the_command_that_is_named_judges_by_them(
    stand_in: tuple[StandIn, str], place: Place
) -> None:
    """The verdict's data: drawn at random, answered by every LLM, learned from by no weights, read by their owner."""
    config = json.loads(place.config.read_text())
    config["litellm_settings"] = {"callbacks": ["embedllm_router.proxy_handler"]}
    config["callback_settings"] = {"embedllm_router": {"virtual_models": {"auto": {"default": "ours-c"}}}}
    place.config.write_text(json.dumps(config))
    done = CliRunner().invoke(app, [one for one in place.arguments("--n=80") if one != "--json"])
    assert done.exit_code == 0, done.output
    matrix = read_folder(place.folder / "new.data")
    assert matrix.observed.shape == (30, 3)
    assert matrix.observed.all()
    assert matrix.llm_ids == ("ours-a", "ours-b", "ours-c")
    rows = dict(zip(stand_in[0].key, _order_aside(place), strict=True))
    assert set(matrix.prompts) == {text for text, rank in rows.items() if rank < 30}
    assert load_artifact(place.out).manifest.training["profiled_answers"] == 3 * 50
    assert (place.folder / "new.data").stat().st_mode & 0o077 == 0
    (command,) = [line for line in done.stdout.splitlines() if line.startswith("next: ")]
    judged = CliRunner().invoke(app, shlex.split(command)[2:])
    assert judged.exit_code == 0, judged.output
    assert "30 requests of graded data, new.data" in judged.stdout
    assert "caller's word" not in judged.stdout
    assert "looks too well known" not in judged.stdout
    assert judged.stdout.startswith("Use ours-c for everything")
    closer = CliRunner().invoke(app, [*shlex.split(command)[2:], "--cost-weight=2000"])
    assert f"set `artifact: {place.out}`" in " ".join(closer.stdout.split()), closer.stdout


def _order_aside(place: Place) -> list[int]:
    """Rank of each prompt of the file in the order in which prompts are set aside."""
    tasks = read_tasks(place.prompts, "agreement")
    order = set_aside(tasks, len(tasks))
    return [order.index(row) for row in range(len(tasks))]


def test_how_many_prompts_are_set_aside(place: Place) -> None:
    tasks = read_tasks(place.prompts, "agreement")
    compared = [replace(task, grader=Grader(type="agreement")) for task in tasks]
    assert len(tasks) == 80
    assert [n_set_aside(tasks, n) for n in (79, 80, 1_000)] == [0, 30, 30]
    assert n_set_aside(tasks * 5, 200) == 50
    assert n_set_aside(compared, 200) == 0
    assert [n_set_aside(tasks, 60, n) for n in (0, 30, 50)] == [0, 30, 50]
    for wanted in (29, 51):
        with pytest.raises(ConfigError, match="at least 30"):
            n_set_aside(tasks, 60, wanted)
    with pytest.raises(ConfigError, match="agreement"):
        n_set_aside(compared, 60, 30)
    assert set_aside(tasks, 40)[:30] == set_aside(tasks, 30)
    back = tasks[::-1]
    assert [back[row].id for row in set_aside(back, 30)] == [tasks[row].id for row in set_aside(tasks, 30)]
