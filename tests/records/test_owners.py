"""Whose request an answer belongs to is read from records, in files and in PostgreSQL."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from reading import Sources
from recorded import make_record

from embedllm_router.config.process import StoreSettings
from embedllm_router.records.owners import Giver, Owners
from embedllm_router.records.reader.source import LateSource, Limits
from embedllm_router.records.writer.store import open_store

MINE, THEIRS = Giver("mine", "team-a"), Giver("theirs", "team-b")
RECORDS = [
    make_record(1, key_hash="mine", response_id="chatcmpl-1"),
    make_record(2, key_hash="theirs", key_alias="team-a"),
    make_record(3, key_hash=None, key_alias="team-a"),
    make_record(4, key_hash=None, key_alias=None),
    replace(make_record(5, key_hash="mine"), request_id="twice"),
    replace(make_record(6, key_hash="theirs"), request_id="twice"),
]


@pytest.mark.parametrize(
    ("giver", "refused"),
    [
        (MINE, ["request-2", "request-4", "nobody's"]),
        (THEIRS, ["request-1", "chatcmpl-1", "request-3", "request-4", "nobody's"]),
        (Giver(None), ["request-1", "chatcmpl-1", "request-2", "request-3", "request-4", "twice", "nobody's"]),
        (Giver("none of these", admin=True), ["nobody's"]),
    ],
)
async def test_a_key_owns_what_it_asked_for(recorded: Sources, giver: Giver, refused: list[str]) -> None:
    """By the hash of its id; by its alias where records are from before there were hashes."""
    source = recorded([*RECORDS])
    ids = ["request-1", "chatcmpl-1", "request-2", "request-3", "request-4", "twice", "nobody's", "nobody's"]
    assert await Owners(lambda: source, 0.0).refused(ids, giver) == refused


async def test_an_id_nobody_knows_is_looked_for_again_once_it_may_be_written(tmp_path: Path) -> None:
    """A record is written a moment after the answer's end, perhaps by another worker."""
    source = LateSource(str(tmp_path), Limits())
    owners = Owners(source, 0.0)
    asked = asyncio.create_task(owners.refused(["request-1"], MINE))
    await asyncio.sleep(0.2)
    store = open_store(StoreSettings(path=tmp_path, flush_s=0.05))
    store.put(RECORDS[0])
    store.close()
    assert await asked == []
    source.close()
