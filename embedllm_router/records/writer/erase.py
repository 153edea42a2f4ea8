"""Erases what is on record of one API key, user or prompt, with the feedback on it, from files.

Files that are being written are asked for and sealed first, so that everything lies in sealed files. Each that holds
something is replaced by one without it, as merging replaces files: a reader sees either, and whenever this is
interrupted, starting it again finishes it. The database's half of this is in postgres.py.
"""

import hashlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import orjson

from embedllm_router.errors import ConfigError, EmbedLLMRouterError
from embedllm_router.records.owners import key_hash_of, user_hash_of
from embedllm_router.records.reader.file_source import record_files, view
from embedllm_router.records.schema import FEEDBACK_COLUMNS, REQUEST_COLUMNS
from embedllm_router.records.writer.queue import KEY_FILE, PromptHasher
from embedllm_router.records.writer.seal import (
    merging_in,
    put_in_place,
    quoted,
    quoted_path,
    rewrite,
    scratch,
    seal_file,
)
from embedllm_router.records.writer.segments import KINDS, OPEN, REJECTED, SEALED, Kind, ask_to_let_go, named

__all__ = ["Erased", "Subject", "by_key", "by_prompt", "by_user", "erase_files", "hasher_of"]

_LIMITS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "memory_limit": "1GB",
    "autoinstall_known_extensions": False,
}
_WAIT_S, _LOOK_S = 30.0, 0.2
_LEFT_BEHIND_S = 3_600.0
"""Age from which a folder of a process that died while it sealed is taken for one."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose records are erased: those of which one column has one of its values.

    Attributes:
        requests: Columns of `requests` and their values.
        feedback: Likewise of `feedback`; what is on the requests goes in any case.
    """

    requests: dict[str, tuple[str, ...]]
    feedback: dict[str, tuple[str, ...]]

    @property
    def values(self) -> set[str]:
        """All values that tell whose a record is."""
        return {one for values in (*self.requests.values(), *self.feedback.values()) for one in values}


def by_key(key: str) -> Subject:
    """The records of an API key, and feedback that it gave.

    Args:
        key: Its alias, its id in LiteLLM, the key itself, or what records call `key_hash`.
    """
    ids = (key, hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest())  # LiteLLM's id is such a hash
    hashes = (key, *(found for one in ids if (found := key_hash_of(one)) is not None))
    return Subject({"key_alias": (key,), "key_hash": hashes}, {"key_alias": (key,)})


def by_user(user: str, hash_of: Callable[[str], str]) -> Subject:
    """The records of an end user, or of the user whose API keys were used without naming an end user.

    Args:
        user: The id, as requests and LiteLLM name it.
        hash_of: The store's keyed hash.
    """
    return Subject({"user_hash": (user_hash_of(user, hash_of) or "",)}, {})


def by_prompt(prompt_hash: str) -> Subject:
    """The records of a prompt, by its hash."""
    return Subject({"prompt_hash": (prompt_hash,)}, {})


def hasher_of(secret: str | None, folder: Path | None) -> PromptHasher:
    """The hash that records were written with.

    Args:
        secret: The setting `store.hash_key`.
        folder: Of the record files; None for a database.

    Raises:
        ConfigError: Its key is not known here.
    """
    if secret is None and folder is None:
        raise ConfigError(
            "users are hashed with store.hash_key, which is not set: without it each process makes a key of its own "
            "and forgets it. Erase by --key or --prompt-hash."
        )
    if secret is None and folder is not None and not (folder / KEY_FILE).is_file():
        raise ConfigError(
            f"users are hashed with a key, and there is no {KEY_FILE} in {folder}: set store.hash_key (in the "
            "environment EMBEDLLM_ROUTER_STORE__HASH_KEY) to the key of the proxy that wrote the records."
        )
    return PromptHasher(secret, folder)


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased, or would be.

    Attributes:
        requests: Records of requests.
        feedback: Records of feedback.
        damaged: Lines that were no records and named whose they were.
        in_use: Files that are still being written and were not searched.
    """

    requests: int = 0
    feedback: int = 0
    damaged: int = 0
    in_use: tuple[str, ...] = ()


def erase_files(folder: Path, subject: Subject, *, dry_run: bool = False, wait_s: float = _WAIT_S) -> Erased:
    """Erases records from a folder that others may be writing to and reading.

    Args:
        folder: Of the record files.
        subject: Whose records.
        dry_run: Counts them, and changes nothing.
        wait_s: How long to wait for files that are being written, and for others who replace files here.

    Returns:
        What was erased. A request that ended after the start may be there still.

    Raises:
        OSError: A file cannot be read or replaced; what was erased before stays so.
        duckdb.Error: Likewise.
        EmbedLLMRouterError: Another process is replacing files here.
    """
    if dry_run:
        with _Search.of(folder, subject) as search:
            n_requests, n_feedback = (search.in_lines(kind) + sum(search.in_files(kind).values()) for kind in KINDS)
        return Erased(n_requests, n_feedback, _damaged(folder, subject, dry_run=True))
    until = time.monotonic() + wait_s
    with _alone_in(folder, until):
        in_use = _seal_everything(folder, until)
        with _Search.of(folder, subject) as search:
            # Feedback first: while the requests are there, an interrupted run can still tell what is on them.
            n_feedback, n_requests = (_rewrite_all(search, kind) for kind in ("feedback", "requests"))
        damaged = _damaged(folder, subject, dry_run=False)
        _clear_up(folder)
    return Erased(n_requests, n_feedback, damaged, in_use)


@contextmanager
def _alone_in(folder: Path, until: float) -> Iterator[None]:
    """Waits for the right to replace files."""
    while True:
        with merging_in(folder) as ours:
            if ours:
                yield
                return
        if time.monotonic() > until:
            raise EmbedLLMRouterError(
                f"another process is merging or erasing files in {folder}: try again when it ends."
            )
        time.sleep(_LOOK_S)


def _seal_everything(folder: Path, until: float) -> tuple[str, ...]:
    """Seals what is being written; names of the files that their writers kept."""
    waiting = named(folder, OPEN)
    if waiting:
        ask_to_let_go(folder)
    while waiting:
        for path in waiting:
            seal_file(path)
        waiting = [path for path in waiting if path.exists()]
        if time.monotonic() > until:
            break
        time.sleep(_LOOK_S if waiting else 0.0)
    return tuple(path.name for path in waiting)


_COLUMNS: Mapping[Kind, Mapping[str, str]] = {"requests": REQUEST_COLUMNS, "feedback": FEEDBACK_COLUMNS}


@dataclass(frozen=True, slots=True)
class _Search:
    """Where the records of somebody are.

    Attributes:
        sql: A database without tables.
        sealed: Parquet files, by what they hold.
        lines: Files of JSON lines, likewise.
        where: SQL that is true of the records meant, likewise; never NULL.
    """

    sql: duckdb.DuckDBPyConnection
    sealed: Mapping[Kind, tuple[Path, ...]]
    lines: Mapping[Kind, tuple[Path, ...]]
    where: Mapping[Kind, str]

    @classmethod
    @contextmanager
    def of(cls, folder: Path, subject: Subject) -> Iterator["_Search"]:
        """Finds the ids of the requests, by which feedback on them is known."""
        files = record_files([str(folder)])
        sealed: dict[Kind, tuple[Path, ...]] = {"requests": files.requests_parquet, "feedback": files.feedback_parquet}
        lines: dict[Kind, tuple[Path, ...]] = {"requests": files.requests_jsonl, "feedback": files.feedback_jsonl}
        with tempfile.TemporaryDirectory(prefix="embedllm-router-") as draft, duckdb.connect(config=_LIMITS) as sql:
            sql.execute(f"SET temp_directory = {quoted(draft)}")
            ids = quoted_path(Path(draft, "ids.parquet"))
            of_them = f"request_id IN (SELECT id FROM read_parquet({ids}))"  # noqa: S608 - a path of our own
            theirs, by_them = _any_of(subject.requests), _any_of(subject.feedback)
            found = cls(sql, sealed, lines, {"requests": theirs, "feedback": f"({by_them} OR {of_them})"})
            every = f"SELECT unnest([request_id, response_id]) AS id FROM ({found.all_of('requests')}) WHERE {theirs}"  # noqa: S608
            distinct = f"SELECT DISTINCT id FROM ({every}) WHERE id IS NOT NULL"  # noqa: S608 - names of our own
            sql.execute(f"COPY ({distinct}) TO {quoted(str(Path(draft, 'ids.parquet')))} (FORMAT parquet)")
            yield found

    def all_of(self, kind: Kind) -> str:
        """SQL of every record of a kind."""
        of_lines = view([], self.lines[kind], _COLUMNS[kind])
        return " UNION ALL BY NAME ".join([of_lines, *self._of_files(self.sealed[kind])])

    def in_lines(self, kind: Kind) -> int:
        """How many of the records meant are in files of lines."""
        of_lines = view([], self.lines[kind], _COLUMNS[kind])
        found = self.sql.execute(f"SELECT count(*) FROM ({of_lines}) WHERE {self.where[kind]}").fetchone()  # noqa: S608
        return int((found or (0,))[0])

    def in_files(self, kind: Kind) -> dict[Path, int]:
        """The sealed files that hold some of them, and how many."""
        every = " UNION ALL BY NAME ".join([view([], [], _COLUMNS[kind]), *self._of_files(self.sealed[kind])])
        if not self.sealed[kind]:
            return {}
        query = f"SELECT filename, count(*) FROM ({every}) WHERE {self.where[kind]} GROUP BY filename"  # noqa: S608
        return {Path(name): int(n) for name, n in self.sql.execute(query).fetchall()}

    def others(self, kind: Kind, path: Path) -> str:
        """SQL of all other records of a sealed file."""
        of_it = f"SELECT * FROM read_parquet({quoted_path(path)})"  # noqa: S608 - a quoted path
        every = f"{view([], [], _COLUMNS[kind])} UNION ALL BY NAME {of_it}"
        return f"SELECT * FROM ({every}) WHERE NOT {self.where[kind]}"  # noqa: S608 - quoted values

    @staticmethod
    def _of_files(sealed: Sequence[Path]) -> list[str]:
        listed = ", ".join(map(quoted_path, sealed))
        return [f"SELECT * FROM read_parquet([{listed}], union_by_name = true, filename = true)"] if sealed else []  # noqa: S608


def _any_of(columns: Mapping[str, Sequence[str]]) -> str:
    """SQL that is true where one of the columns has one of its values."""
    tests = [f"coalesce({name} IN ({', '.join(map(quoted, values))}), false)" for name, values in columns.items()]
    return f"({' OR '.join(tests)})" if tests else "false"


def _rewrite_all(search: _Search, kind: Kind) -> int:
    """Replaces every file that holds something by one without it; how many records that were."""
    found = search.in_files(kind)
    for path, n in found.items():
        (rows,) = search.sql.execute(f"SELECT count(*) FROM read_parquet({quoted_path(path)})").fetchone() or (0,)  # noqa: S608
        if n == rows:
            path.unlink()
            continue
        kind_and_time = "-".join(path.stem.split("-")[:2])
        rewrite(
            [path], search.others(kind, path), path.with_name(f"{kind_and_time}-day-{secrets.token_hex(4)}{SEALED}")
        )
    return sum(found.values())


def _damaged(folder: Path, subject: Subject, *, dry_run: bool) -> int:
    """Removes the lines that could not be read as records and hold one of the values; how many."""
    marks = [orjson.dumps(one) for one in subject.values]
    n_lines = 0
    for path in named(folder, REJECTED):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not any(mark in line for mark in marks)]
        n_lines += len(lines) - len(kept)
        if len(kept) < len(lines) and not dry_run:
            with scratch(path) as draft:
                (draft / path.name).write_bytes(b"".join(kept))
                put_in_place(draft / path.name, folder, path.stat().st_mtime)
    return n_lines


def _clear_up(folder: Path) -> None:
    """Removes what processes left behind that died while they sealed."""
    for left_behind in folder.glob(".seal-*"):
        if time.time() - left_behind.stat().st_mtime > _LEFT_BEHIND_S:
            shutil.rmtree(left_behind)
