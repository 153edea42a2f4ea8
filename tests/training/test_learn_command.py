"""The command writes what it may, refuses what it must, and says which."""

import json
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from feedback_log import World, changed
from planted import WIZARD
from typer.testing import CliRunner, Result

from embedllm_router import Router
from embedllm_router.cli.feedback import app
from embedllm_router.records.schema import FeedbackRecord

runner = CliRunner()


class Bench:
    """A log in files, and the command on it."""

    def __init__(self, router: Router, artifact: Path, folder: Path) -> None:
        self._router, self._artifact, self._log, self.out = router, artifact, folder / "log", folder / "new"

    def write(self, world: World, *, inverted: bool = False) -> None:
        records, feedback = world.log(self._router)
        said = [self._turned(one) if inverted else one for one in feedback]
        self._log.mkdir(exist_ok=True)
        for name, written in (("requests", records), ("feedback", said)):
            file = self._log / f"{name}-planted.jsonl"
            file.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in written))

    def learn(self, *options: str) -> Result:
        where = ["--from", str(self._log), "--artifact", str(self._artifact), "--out", str(self.out)]
        return runner.invoke(app, ["learn", *where, *options])

    @staticmethod
    def _turned(one: FeedbackRecord) -> FeedbackRecord:
        return replace(one, score=1 - one.score)


@pytest.fixture
def bench(router: Router, artifact_dir: Path, tmp_path: Path) -> Bench:
    return Bench(router, artifact_dir, tmp_path)


WORSE = World(changed(WIZARD, "maths", 0.2), n=800)


def test_a_better_artifact_is_written_and_loads(bench: Bench) -> None:
    bench.write(WORSE)
    done = bench.learn("--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["written"] == Router.load(bench.out).artifact.id
    assert found["held"]["change"]["high"] < 0
    assert found["refusals"] == []


def test_people_read_what_changed(bench: Bench) -> None:
    bench.write(WORSE)
    done = bench.learn()
    assert done.exit_code == 0, done.output
    for words in ("held-out log-loss", "embedding", "sources of feedback", "agrees", f"wrote {bench.out}"):
        assert words in done.stdout.replace("\n", "")


def test_a_refused_one_is_not_written_unless_forced(bench: Bench) -> None:
    bench.write(World(n=400), inverted=True)
    done = bench.learn()
    assert done.exit_code == 1
    assert "refused: feedback of source 'user' contradicts the weights" in done.stdout
    assert not bench.out.exists()
    forced = bench.learn("--force")
    assert forced.exit_code == 0
    assert "although the guard refused it" in forced.stdout
    assert Router.load(bench.out).artifact.manifest.training["feedback_forced"] is True


def test_nothing_learned_is_nothing_written(bench: Bench) -> None:
    bench.write(World(n=800, seed=4))
    done = bench.learn()
    assert done.exit_code == 0
    assert "shows nothing that the weights do not say already" in done.stdout
    assert not bench.out.exists()


def test_without_a_folder_to_write_to_it_says_what_is_missing() -> None:
    done = runner.invoke(app, ["learn"])
    assert done.exit_code == 2
    assert "learn needs --out" in done.stderr


def test_where_nothing_was_learned_by_itself_there_is_nothing_to_undo(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDLLM_ROUTER_ADAPTATION__PATH", str(tmp_path / "none"))
    done = bench.learn("--undo", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["undone"] is False
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "judge"], "0 usable answers"),
        (["--since", "2030-01-01"], "0 usable answers"),
        (["--until", "tomorrow"], "--until takes a time"),
    ],
)
def test_a_mistake_is_one_sentence(bench: Bench, options: list[str], message: str) -> None:
    bench.write(World(n=50))
    done = bench.learn(*options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output
