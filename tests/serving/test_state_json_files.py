"""A state folder of a version before the database is read once, so that budgets and sessions survive the upgrade."""

import os
import time
from pathlib import Path

import pytest
from state_folder import HOUR, Heard, database_in, names, opened

NOW = 4_000_000_000.0
ONE = (
    '{"format":1,"replica":"53d495c8f6ec","sums":{"spend:auto":{"expires_at":4000086400.0,"shares":{"53d495c8f6ec":'
    '[4000000000000,1.25]}}},"entries":{"session:1":{"value":"llm-a","expires_at":4000003600.0,"stamp":4000000000.0}}}'
)
TWO = (
    '{"format":1,"replica":"5d63351e748c","sums":{"spend:auto":{"expires_at":4000086401.0,"shares":{"5d63351e748c":'
    '[4000000001000,0.5],"53d495c8f6ec":[4000000000000,1.25]}}},"entries":{"session:1":{"value":"llm-b","expires_at":'
    '4000003601.0,"stamp":4000000001.0},"session:2":{"value":"","expires_at":4000000061.0,"stamp":4000000001.0}}}'
)
"""What two processes of the previous version wrote to one folder; both added to a sum, and the second put last."""
OLD_FILES = ["53d495c8f6ec.json", "5d63351e748c.json"]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in zip(OLD_FILES, (ONE, TWO), strict=True):
        (tmp_path / name).write_text(content)
    return tmp_path


async def test_an_upgrade_keeps_budgets_and_sessions_and_takes_the_old_files_over(folder: Path, heard: Heard) -> None:
    state = opened(folder, heard, lambda: NOW + 2)
    assert state.total("spend:auto") == 1.75
    assert (state.get("session:1"), state.get("session:2")) == ("llm-b", None)
    assert names(folder) == OLD_FILES, "they stay until the database has their content"
    await state.exchange()
    await state.aclose()
    assert names(folder) == ["state.sqlite3"]
    after = opened(folder, heard, lambda: NOW + 2)
    assert (after.total("spend:auto"), after.get("session:1")) == (1.75, "llm-b")
    assert heard.events == []


def test_a_process_that_ends_at_once_takes_them_over_too(folder: Path, heard: Heard) -> None:
    opened(folder, heard, lambda: NOW + 2).save()
    assert names(folder) == ["state.sqlite3"]
    assert opened(folder, heard, lambda: NOW + 2).total("spend:auto") == 1.75


async def test_several_processes_that_start_at_once_count_them_once(folder: Path, heard: Heard) -> None:
    states = [opened(folder, heard, lambda: NOW + 2) for _ in range(3)]
    for state in (*states, *states):
        state.add("spend:auto", 1.0, HOUR)
        await state.exchange()
    for state in states:
        await state.exchange()
    assert [state.total("spend:auto") for state in states] == [7.75] * 3
    assert heard.events == []


async def test_old_files_stay_while_the_database_cannot_be_written(folder: Path, heard: Heard) -> None:
    database_in(folder).mkdir()
    state = opened(folder, heard, lambda: NOW + 2)
    await state.exchange()
    assert state.total("spend:auto") == 1.75
    assert names(folder) == [*OLD_FILES, "state.sqlite3"]
    assert heard.events == ["state.files_unusable"]
    database_in(folder).rmdir()
    await state.aclose()
    assert names(folder) == ["state.sqlite3"]
    assert opened(folder, heard, lambda: NOW + 2).total("spend:auto") == 1.75


async def test_a_file_that_an_old_process_still_writes_is_left_to_the_next_start(folder: Path, heard: Heard) -> None:
    state = opened(folder, heard, lambda: NOW + 2)
    still = folder / OLD_FILES[0]
    still.write_text(ONE.replace("[4000000000000,1.25]", "[4000000002000,2.25]"))
    os.utime(still, (NOW, NOW))
    await state.aclose()
    assert names(folder) == [still.name, "state.sqlite3"]
    assert opened(folder, heard, lambda: NOW + 2).total("spend:auto") == 2.75


NOT_A_NUMBER = b'{"format":1,"replica":"r","sums":{"k":{"expires_at":1e99,"shares":{"r":[1,null]}}},"entries":{}}'


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', NOT_A_NUMBER])
async def test_a_damaged_file_is_reported_and_left_and_does_no_harm(
    tmp_path: Path, heard: Heard, content: bytes
) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    state = opened(tmp_path, heard)
    state.add("spend", 1.0, HOUR)
    for _ in range(3):
        await state.exchange()
    assert heard.events == ["state.file_unusable"]
    assert (tmp_path / "broken.json").read_bytes() == content
    assert state.total("spend") == 1.0
    assert opened(tmp_path, Heard()).total("spend") == 1.0


async def test_drafts_that_a_crash_left_are_deleted_with_the_old_files(folder: Path, heard: Heard) -> None:
    old, fresh = folder / ".state-old", folder / ".state-fresh"
    for draft in (old, fresh):
        draft.write_text("{")
    os.utime(old, (time.time() - HOUR, time.time() - HOUR))
    await opened(folder, heard, lambda: NOW + 2).exchange()
    assert (old.exists(), fresh.exists()) == (False, True)
