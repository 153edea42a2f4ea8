"""The processes of one host share a database: it outlives a restart; damage and a full disk cost no request."""

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from state_folder import HOUR, Heard, database_in, names, opened

from embedllm_router.config.process import StateSettings
from embedllm_router.serving.state.opening import open_state
from embedllm_router.serving.state.shared import ReplicaState


@pytest.fixture
def heard() -> Heard:
    return Heard()


@contextlib.contextmanager
def client(folder: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the database."""
    with contextlib.closing(sqlite3.connect(database_in(folder), isolation_level=None)) as connection:
        yield connection


def rows(folder: Path, table: str) -> list[tuple[object, ...]]:
    with client(folder) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - a name of this file


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
    before.put("session", "llm-a", HOUR)
    before.save()
    after = opened(tmp_path, heard)
    assert (after.total("spend"), after.get("session")) == (1.25, "llm-a")


async def test_nothing_is_made_on_disk_before_there_is_something_to_keep(tmp_path: Path, heard: Heard) -> None:
    state = opened(tmp_path / "state", heard)
    await state.exchange()
    state.save()
    assert not (tmp_path / "state").exists()


async def test_two_processes_of_one_host_share_sums_and_the_entry_put_last(tmp_path: Path, heard: Heard) -> None:
    one, two = opened(tmp_path, heard), opened(tmp_path, heard)
    for i in range(3):
        one.add("spend", 1.0, HOUR)
        two.add("spend", 0.25, HOUR)
        two.put("session", f"llm-{i}", HOUR)
        for state in (one, two, one):
            await state.exchange()
        assert one.total("spend") == two.total("spend") == 1.25 * (i + 1)
        assert one.get("session") == f"llm-{i}"
        one.put("session", f"other-{i}", HOUR)
        for state in (one, two):
            await state.exchange()
        assert two.get("session") == f"other-{i}"
    two.forget("session")
    for state in (two, one):
        await state.exchange()
    assert one.get("session") is None
    assert opened(tmp_path, heard).get("session") is None


async def test_an_entry_that_is_delivered_is_there_for_the_next_reader(tmp_path: Path, heard: Heard) -> None:
    """Also where the writer rests after a slow exchange, or has never written."""
    one, two = opened(tmp_path, heard), opened(tmp_path, heard)
    for i in range(3):
        one.put(f"session {i}", "llm-a", HOUR)
        await one.deliver(f"session {i}", 10.0)
        await two.exchange()
        assert two.get(f"session {i}") == "llm-a"
    await one.deliver("nobody put it", 10.0)


async def test_who_waits_for_a_delivery_does_not_wait_for_ever(tmp_path: Path, heard: Heard) -> None:
    one, two = opened(tmp_path, heard), opened(tmp_path, heard)
    one.put("session", "llm-a", HOUR)
    async with one._exchanging:  # as if the disk did not answer
        await one.deliver("session", 0.01)
        await two.exchange()
        assert two.get("session") is None
    await asyncio.gather(*one._delivering)
    await two.exchange()
    assert two.get("session") == "llm-a", "it went on"


async def test_of_two_unsent_entries_the_later_one_wins_whoever_writes_first(tmp_path: Path, heard: Heard) -> None:
    one, two = opened(tmp_path, heard, lambda: 100.0), opened(tmp_path, heard, lambda: 101.0)
    for key, order in (("a", (one, two, one)), ("b", (two, one, two))):
        two.put(key, "later", HOUR)
        one.put(key, "earlier", HOUR)
        for state in order:
            await state.exchange()
        assert (one.get(key), two.get(key)) == ("later", "later")


async def test_only_what_changed_is_written_and_only_what_others_wrote_is_read(tmp_path: Path, heard: Heard) -> None:
    one, two = opened(tmp_path, heard), opened(tmp_path, heard)
    one.add("spend", 1.0, HOUR)
    for state in (one, two, one, two):
        await state.exchange()
    ((_, change),) = rows(tmp_path, "meta")
    assert change == 1, "an exchange without news writes nothing"
    assert one.health().unsent == two.health().unsent == 0


async def test_what_others_write_meanwhile_does_not_keep_ones_own_unsent(tmp_path: Path, heard: Heard) -> None:
    one, two = opened(tmp_path, heard), opened(tmp_path, heard)
    for _ in range(3):
        for state in (one, two):
            state.add("spend", 1.0, HOUR)
            state.put("session", "llm-a", HOUR)
            await state.exchange()
            assert state.health().unsent == 0


CHILD = """
import asyncio, sys
from pathlib import Path
from embedllm_router.telemetry.log import configure_logging
from embedllm_router.config.process import LogSettings, StateSettings
from embedllm_router.serving.state.opening import open_state

async def main():
    state = open_state(StateSettings(path=Path(sys.argv[1])), configure_logging(LogSettings()))
    task = asyncio.create_task(state.run(refresh_s=0.05))
    while not task.done():
        state.add("spend", 0.25, 3600)
        total = state.total("spend")
        while state.health().unsent:
            await asyncio.sleep(0.001)
        print(total, flush=True)

asyncio.run(main())
"""


def test_a_process_that_is_killed_has_kept_what_it_exchanged(tmp_path: Path, heard: Heard) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        kept = [float(child.stdout.readline()) for _ in range(5)]
        child.kill()
        kept += [float(line) for line in child.stdout.read().split()]
    total = opened(tmp_path / "state", heard).total("spend")
    assert total in {kept[-1], kept[-1] + 0.25}, "the addition that was in flight may be kept, too"
    assert heard.events == []


async def test_a_process_that_others_have_outlived_counts_right_when_it_goes_on(tmp_path: Path, heard: Heard) -> None:
    """As after the laptop's lid was closed."""
    sleeper, other = opened(tmp_path, heard), opened(tmp_path, heard)
    sleeper.add("spend", 1.0, HOUR)
    await sleeper.exchange()
    for _ in range(3):
        other.add("spend", 0.5, HOUR)
        await other.exchange()
    sleeper.add("spend", 1.0, HOUR)
    for state in (sleeper, other):
        await state.exchange()
    assert other.total("spend") == sleeper.total("spend") == 3.5


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5_000])


def overwrite_pages(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4_096:] = b"\xa5" * (len(content) - 4_096)
    file.write_bytes(content)


def write_text(file: Path) -> None:
    file.write_text("this is a text, not a database, and it is long enough to be taken for one" * 20)


def drop_table(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE entries")


def empty_meta(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM meta")


def put_text_for_a_number(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE shares SET amount = 'much', change = 99")


def put_bytes_for_a_text(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE entries SET value = CAST(x'ff' AS TEXT), change = 99")


DAMAGES = [cut, overwrite_pages, write_text, drop_table, empty_meta, put_text_for_a_number, put_bytes_for_a_text]
damages = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)


@damages
async def test_a_database_damaged_between_two_starts_is_set_aside_and_begun_anew(
    tmp_path: Path, heard: Heard, damage: Callable[[Path], None]
) -> None:
    before = opened(tmp_path, heard)
    before.add("spend", 1.0, HOUR)
    before.put("session", "llm-a", HOUR)
    before.save()
    damage(database_in(tmp_path))
    content = database_in(tmp_path).read_bytes()
    state = opened(tmp_path, heard)
    state.add("spend", 2.0, HOUR)
    for _ in range(3):
        await state.exchange()
    assert heard.events == ["state.database_damaged"]
    assert (tmp_path / "state.damaged.sqlite3").read_bytes() == content, "somebody may want to look at it"
    assert opened(tmp_path, heard).total("spend") == 2.0
    assert state.health().connected


@damages
async def test_a_database_damaged_under_running_processes_loses_nothing(
    tmp_path: Path, heard: Heard, damage: Callable[[Path], None]
) -> None:
    one, two = opened(tmp_path, heard), opened(tmp_path, heard)
    for state in (one, two, one):
        state.add("spend", 1.0, HOUR)
        state.put("session", "llm-a", HOUR)
        await state.exchange()
    for state in (one, two):
        await state.aclose()
    damage(database_in(tmp_path))
    for i in range(4):
        two.add("spend", 0.25, HOUR)
        for state in (one, two):
            await state.exchange()
            assert state.get("session") == "llm-a", i
    await one.exchange()
    assert "state.database_damaged" in heard.events
    assert one.total("spend") == two.total("spend") == 4.0
    late = opened(tmp_path, heard)
    assert (late.total("spend"), late.get("session")) == (4.0, "llm-a")


async def test_a_folder_that_somebody_empties_is_filled_again(tmp_path: Path, heard: Heard) -> None:
    one, two = opened(tmp_path / "state", heard), opened(tmp_path / "state", heard)
    for state in (one, two, one):
        state.add("spend", 1.0, HOUR)
        state.put("session", "llm-a", HOUR)
        await state.exchange()
    for file in (tmp_path / "state").iterdir():
        file.unlink()
    one.put("other", "llm-b", HOUR)
    for state in (one, two, one, two):
        await state.exchange()
    late = opened(tmp_path / "state", heard)
    assert (late.total("spend"), late.get("session"), late.get("other")) == (3.0, "llm-a", "llm-b")
    assert heard.events == []


async def test_a_database_of_a_later_version_is_left_alone_and_reported_once(tmp_path: Path, heard: Heard) -> None:
    before = opened(tmp_path, heard)
    before.add("spend", 1.0, HOUR)
    before.save()
    with client(tmp_path) as connection:
        connection.execute("PRAGMA user_version = 2")
    content = database_in(tmp_path).read_bytes()
    state = opened(tmp_path, heard)
    for _ in range(3):
        state.add("spend", 2.0, HOUR)
        await state.exchange()
    state.save()
    assert state.total("spend") == 6.0
    assert heard.events == ["state.database_newer"]
    assert (state.health().connected, state.health().last_error) == (False, "NewerSchema")
    assert database_in(tmp_path).read_bytes() == content
    with client(tmp_path) as connection:
        connection.execute("PRAGMA user_version = 1")
    await state.exchange()
    assert (state.total("spend"), state.health().connected) == (7.0, True)


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
    assert (health.connected, health.last_error, health.unsent) == (False, "FileExistsError", 1)
    (tmp_path / "state").unlink()
    await state.exchange()
    assert state.health().connected
    assert opened(tmp_path / "state", heard).total("spend") == 3.0


async def test_a_read_only_folder_is_read_and_reported_once(tmp_path: Path, heard: Heard) -> None:
    folder = tmp_path / "state"
    before = opened(folder, heard)
    before.add("spend", 1.0, HOUR)
    before.save()
    database_in(folder).chmod(0o400)
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere")
        state = opened(folder, heard)
        for _ in range(3):
            state.add("spend", 2.0, HOUR)
            await state.exchange()
        assert (state.total("spend"), state.health().connected) == (7.0, False)
        assert heard.events == ["state.files_unusable"]
    finally:
        folder.chmod(0o700)
        database_in(folder).chmod(0o600)
    await state.exchange()
    assert opened(folder, heard).total("spend") == 7.0


FULL = """
import asyncio, resource, sys
from pathlib import Path
from embedllm_router.telemetry.log import configure_logging
from embedllm_router.config.process import LogSettings, StateSettings
from embedllm_router.serving.state.opening import open_state

async def main():
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    state = open_state(StateSettings(path=Path(sys.argv[1])), configure_logging(LogSettings(), sys.stdout))
    state.add("spend", 1.0, 3600)
    await state.exchange()
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, most))
    for i in range(2_000):
        state.put(f"session-{i}", "llm-a", 3600)
    for _ in range(3):
        state.add("spend", 1.0, 3600)
        await state.exchange()
    print(state.health().connected, state.total("spend"), state.get("session-0"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    await state.exchange()
    print(state.health().connected, state.health().unsent)

asyncio.run(main())
"""


def test_a_full_disk_is_reported_once_and_nothing_is_lost_when_it_has_room_again(tmp_path: Path, heard: Heard) -> None:
    """A limit on the size of files stands for the full disk."""
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    event, full, roomy = done.stdout.splitlines()
    assert json.loads(event)["event"] == "state.files_unusable"
    assert (full, roomy) == ("False 4.0 llm-a", "True 0")
    after = opened(tmp_path, heard)
    assert (after.total("spend"), after.get("session-1999")) == (4.0, "llm-a")


async def test_a_lock_that_another_process_keeps_delays_no_request_and_passes(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedllm_router.serving.state.sqlite._BUSY_S", 0.2)
    state = opened(tmp_path, heard)
    state.add("spend", 1.0, HOUR)
    await state.exchange()
    with client(tmp_path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        state.add("spend", 1.0, HOUR)
        turns = 0
        exchange = asyncio.create_task(state.exchange())
        while not exchange.done():
            state.put("session", f"llm-{turns}", HOUR)
            turns += 1
            await asyncio.sleep(0.001)
        connection.execute("ROLLBACK")
    assert turns > 10, "the event loop went on meanwhile"
    assert heard.events == ["state.files_unusable"]
    assert state.health().last_error == "SQLITE_BUSY"
    await state.exchange()
    assert (state.health().connected, state.health().unsent) == (True, 0)
    assert opened(tmp_path, heard).total("spend") == 2.0


async def test_the_event_loops_thread_never_enters_the_database(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = opened(tmp_path, heard)
    threads: set[int] = set()

    def connect(*args: object, **options: object) -> sqlite3.Connection:
        made: sqlite3.Connection = original(*args, **options)  # type: ignore[call-overload]
        made.set_trace_callback(lambda _statement: threads.add(threading.get_ident()))
        return made

    original = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    for _ in range(2):
        state.add("spend", 1.0, HOUR)
        state.put("session", "llm-a", HOUR)
        assert (state.total("spend") > 0, state.get("session")) == (True, "llm-a")
        await state.exchange()
    await state.aclose()
    assert threads
    assert threading.get_ident() not in threads


async def test_news_are_looked_up_without_reading_what_is_old(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = opened(tmp_path, heard)
    statements: list[str] = []

    def connect(*args: object, **options: object) -> sqlite3.Connection:
        made: sqlite3.Connection = original(*args, **options)  # type: ignore[call-overload]
        made.set_trace_callback(statements.append)
        return made

    original = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    state.put("session", "llm-a", HOUR)
    await state.exchange()
    statements.clear()
    await state.exchange()
    reads = [statement for statement in statements if "SELECT" in statement and "meta" not in statement]
    assert len(reads) == 2
    with client(tmp_path) as connection:
        plan = [step for read in reads for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {read}")]
    assert [step for step in plan if "_by_change (change>?)" in step]
    assert not [step for step in plan if "SCAN" in step]


async def test_what_is_put_while_it_is_being_written_is_written_next(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = opened(tmp_path, heard)
    state.add("spend", 1.0, HOUR)
    state.put("session", "llm-a", HOUR)
    writing, go_on = threading.Event(), threading.Event()

    def connect(*args: object, **options: object) -> sqlite3.Connection:
        writing.set()
        assert go_on.wait(10)
        return original(*args, **options)  # type: ignore[call-overload]

    original = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    exchange = asyncio.create_task(state.exchange())
    assert await asyncio.to_thread(writing.wait, 10)
    state.add("spend", 1.0, HOUR)
    state.put("session", "llm-b", HOUR)
    go_on.set()
    await exchange
    assert [row[1] for row in rows(tmp_path, "entries")] == ["llm-a"]
    assert state.health().unsent == 2
    await state.exchange()
    after = opened(tmp_path, heard)
    assert (after.total("spend"), after.get("session")) == (2.0, "llm-b")


async def test_files_are_for_their_owner_alone_and_hold_keys_values_and_nothing_else(
    tmp_path: Path, heard: Heard
) -> None:
    folder = tmp_path / "state"
    state = opened(folder, heard)
    state.add("spend", 1.0, HOUR)
    state.put("session", "llm-a", HOUR)
    await state.exchange()
    assert folder.stat().st_mode & 0o077 == 0
    assert names(folder) == ["state.sqlite3", "state.sqlite3-shm", "state.sqlite3-wal"]
    assert {(folder / name).stat().st_mode & 0o777 for name in names(folder)} == {0o600}
    ((key, replica, version, amount, _),) = rows(folder, "shares")
    assert (key, amount) == ("spend", 1.0)
    assert isinstance(replica, str)
    assert isinstance(version, int)
    (entry,) = rows(folder, "entries")
    assert entry[:2] == ("session", "llm-a")


async def test_what_has_expired_does_not_come_back_and_leaves_the_database(tmp_path: Path, heard: Heard) -> None:
    now = 1_000_000.0
    early = opened(tmp_path, heard, lambda: now)
    early.add("spend", 1.0, HOUR)
    early.put("session", "llm-a", HOUR)
    await early.exchange()
    late = opened(tmp_path, heard, lambda: now + 2 * HOUR)
    assert (late.total("spend"), late.get("session")) == (0.0, None)
    late.add("other", 1.0, HOUR)
    late.add("spend", 0.5, HOUR)
    await late.exchange()
    assert {row[0] for row in rows(tmp_path, "sums")} == {"other", "spend"}
    assert [row[3] for row in rows(tmp_path, "shares")] == [1.0, 0.5]
    assert rows(tmp_path, "entries") == []
    assert opened(tmp_path, heard, lambda: now + 2 * HOUR).total("spend") == 0.5


async def test_the_database_keeps_as_many_entries_as_memory_the_latest(tmp_path: Path, heard: Heard) -> None:
    settings = StateSettings(path=tmp_path)
    now = 0.0
    one, two = (
        open_state(settings, heard.log, state=ReplicaState.new(max_entries=100, clock=lambda: now)) for _ in range(2)
    )
    for i in range(300):
        now += 1.0
        (one, two)[i % 2].put(f"k{i}", "v", HOUR)
        if i % 50 == 49:
            for state in (one, two):
                await state.exchange()
    assert {row[0] for row in rows(tmp_path, "entries")} == {f"k{i}" for i in range(200, 300)}


async def test_a_number_that_no_database_holds_keeps_nothing_else_from_being_saved(
    tmp_path: Path, heard: Heard
) -> None:
    state = opened(tmp_path, heard)
    state.add("broken", float("nan"), HOUR)
    state.add("spend", 1.0, HOUR)
    await state.exchange()
    after = opened(tmp_path, heard)
    assert (after.total("spend"), after.total("broken")) == (1.0, 0.0)
    assert (state.health().unsent, heard.events) == (0, [])


async def test_nothing_is_kept_where_nothing_shall_be(tmp_path: Path, heard: Heard) -> None:
    state = open_state(StateSettings(path=tmp_path), heard.log, on_disk=False)
    state.add("spend", 1.0, HOUR)
    await state.exchange()
    await state.aclose()
    state.save()
    assert (state.total("spend"), state.health().kind, state.health().location) == (1.0, "local", None)
    assert names(tmp_path) == []
