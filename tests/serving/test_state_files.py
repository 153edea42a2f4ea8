"""What a process knew lies in a folder: others read it, a restart keeps it, damage is reported and harms nothing."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
from structlog.typing import FilteringBoundLogger

from embedllm_router.config.process import LogSettings
from embedllm_router.config.state_options import StateOptions
from embedllm_router.serving.state.shared import SharedState, open_state
from embedllm_router.telemetry.log import configure_logging

HOUR = 3_600.0


class Heard(io.StringIO):
    """A log and what was written to it."""

    @property
    def log(self) -> FilteringBoundLogger:
        return configure_logging(LogSettings(), self)

    @property
    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.getvalue().splitlines()]


@pytest.fixture
def heard() -> Heard:
    return Heard()


def opened(folder: Path, heard: Heard) -> SharedState:
    return open_state(StateOptions(path=folder), heard.log)


def files_in(folder: Path) -> list[Path]:
    return list(folder.glob("*.json"))


async def test_a_restart_keeps_sums_and_entries(tmp_path: Path, heard: Heard) -> None:
    before = opened(tmp_path / "state", heard)
    before.add("spend", 1.25, HOUR)
    before.put("session", "llm-a", HOUR)
    await before.exchange()
    after = opened(tmp_path / "state", heard)
    after.add("spend", 1.0, HOUR)
    assert after.total("spend") == 2.25
    assert after.get("session") == "llm-a"
    assert heard.events == []


def test_the_end_of_the_process_saves_without_an_event_loop(tmp_path: Path, heard: Heard) -> None:
    before = opened(tmp_path, heard)
    before.add("spend", 1.25, HOUR)
    before.save()
    assert opened(tmp_path, heard).total("spend") == 1.25


def test_nothing_is_made_on_disk_before_something_is_known(tmp_path: Path, heard: Heard) -> None:
    opened(tmp_path / "state", heard).save()
    assert not (tmp_path / "state").exists()


async def test_two_processes_of_one_machine_share_through_the_folder(tmp_path: Path, heard: Heard) -> None:
    one, two = opened(tmp_path, heard), opened(tmp_path, heard)
    for _ in range(3):
        one.add("spend", 1.0, HOUR)
        two.add("spend", 0.25, HOUR)
        two.put("session", "llm-b", HOUR)
        for state in (one, two, one):
            await state.exchange()
    assert one.total("spend") == two.total("spend") == 3.75
    assert one.get("session") == "llm-b"


CHILD = """
import asyncio, sys
from pathlib import Path
from embedllm_router.telemetry.log import configure_logging
from embedllm_router.config.process import LogSettings
from embedllm_router.state import StateOptions, open_state

async def main():
    state = open_state(StateOptions(path=Path(sys.argv[1]), refresh_s=0.05), configure_logging(LogSettings()))
    task = asyncio.create_task(state.run())
    for _ in range(10_000):
        state.add("spend", 0.25, 3600)
        await asyncio.sleep(0.01)
        if state.health().unsent == 0:
            print(state.total("spend"), flush=True)

asyncio.run(main())
"""


def test_a_process_that_is_killed_has_kept_all_but_the_last_moment(tmp_path: Path, heard: Heard) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = [float(child.stdout.readline()) for _ in range(5)]
        child.kill()
        told += [float(line) for line in child.stdout.read().split()]
    kept = opened(tmp_path / "state", heard).total("spend")
    assert told[-1] <= kept <= told[-1] + 0.25 * 20, "what was said to be on disk is; a few additions may follow it"
    assert heard.events == []


async def test_a_dead_process_leaves_its_sums_to_another_and_no_file(tmp_path: Path, heard: Heard) -> None:
    dead = opened(tmp_path, heard)
    dead.add("spend", 1.0, HOUR)
    await dead.exchange()
    (file,) = files_in(tmp_path)
    long_ago = time.time() - 3_600
    os.utime(file, (long_ago, long_ago))
    (tmp_path / ".state-half").write_text("{")
    os.utime(tmp_path / ".state-half", (long_ago, long_ago))
    heir = opened(tmp_path, heard)
    await heir.exchange()
    assert not file.exists()
    assert not (tmp_path / ".state-half").exists()
    assert opened(tmp_path, heard).total("spend") == 1.0, "the heir's file holds it now"


async def test_a_process_thought_dead_that_goes_on_counts_right(tmp_path: Path, heard: Heard) -> None:
    """As after the laptop's lid was closed."""
    sleeper, heir = opened(tmp_path, heard), opened(tmp_path, heard)
    sleeper.add("spend", 1.0, HOUR)
    await sleeper.exchange()
    (file,) = files_in(tmp_path)
    os.utime(file, (0, 0))
    await heir.exchange()
    assert not file.exists()
    sleeper.add("spend", 1.0, HOUR)
    for state in (sleeper, heir):
        await state.exchange()
    assert heir.total("spend") == sleeper.total("spend") == 2.0


NOT_A_NUMBER = b'{"format":1,"replica":"r","sums":{"k":{"expires_at":1e99,"shares":{"r":[1,null]}}},"entries":{}}'


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', NOT_A_NUMBER])
async def test_a_damaged_file_is_reported_once_and_does_no_harm(tmp_path: Path, heard: Heard, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    state = opened(tmp_path, heard)
    state.add("spend", 1.0, HOUR)
    for _ in range(3):
        await state.exchange()
    os.utime(tmp_path / "broken.json", (0, 0))
    await state.exchange()
    assert heard.events in (["state.file_unusable"], ["state.file_unusable"] * 2), "again when its time has changed"
    assert state.total("spend") == 1.0


async def test_a_folder_that_cannot_be_written_is_reported_once_and_memory_goes_on(
    tmp_path: Path, heard: Heard
) -> None:
    (tmp_path / "state").write_text("a file is in the way")
    state = opened(tmp_path / "state", heard)
    for _ in range(3):
        state.add("spend", 1.0, HOUR)
        await state.exchange()
    assert state.total("spend") == 3.0
    assert heard.events == ["state.files_unusable"]
    health = state.health()
    assert (health.connected, health.last_error, health.unsent) == (False, "FileExistsError", 3)
    (tmp_path / "state").unlink()
    await state.exchange()
    assert state.health().connected
    assert opened(tmp_path / "state", heard).total("spend") == 3.0


async def test_files_are_for_their_owner_alone_and_hold_keys_values_and_nothing_else(
    tmp_path: Path, heard: Heard
) -> None:
    state = opened(tmp_path / "state", heard)
    state.add("spend", 1.0, HOUR)
    state.put("session", "llm-a", HOUR)
    await state.exchange()
    (file,) = files_in(tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
    assert file.stat().st_mode & 0o077 == 0
    saved = orjson.loads(file.read_bytes())
    assert set(saved) == {"format", "replica", "sums", "entries"}
    ((replica, (version, amount)),) = saved["sums"]["spend"]["shares"].items()
    assert (replica, amount) == (saved["replica"], 1.0)
    assert version > 0


async def test_expired_sums_do_not_come_back(tmp_path: Path, heard: Heard) -> None:
    now = time.time()
    early = open_state(StateOptions(path=tmp_path, clock=lambda: now), heard.log)
    early.add("spend", 1.0, HOUR)
    await early.exchange()
    late = open_state(StateOptions(path=tmp_path, clock=lambda: now + 2 * HOUR), heard.log)
    assert late.total("spend") == 0.0


async def test_nothing_is_kept_where_nothing_shall_be(tmp_path: Path, heard: Heard) -> None:
    state = open_state(StateOptions(path=None), heard.log)
    state.add("spend", 1.0, HOUR)
    await state.exchange()
    await state.aclose()
    state.save()
    assert (state.total("spend"), state.health().kind, state.health().location) == (1.0, "local", None)
    assert files_in(tmp_path) == []
