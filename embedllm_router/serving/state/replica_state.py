"""The form in which a process's knowledge lies in a file: JSON, checked when it is read."""

from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedllm_router.serving.state.replica_state_state_counters import Share
from embedllm_router.serving.state.replica_state_state_entries import Entry
from embedllm_router.serving.state.replica_state_state_known import Known

__all__ = ["Saved", "dumps", "pack", "take_up", "unpack"]

Number = Annotated[float, Field(allow_inf_nan=False)]
Version = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Sum(_Part):
    expires_at: Number
    shares: dict[str, tuple[Version, Number]]


class _Text(_Part):
    value: str
    expires_at: Number
    stamp: Number


class Saved(_Part):
    """What one process knew.

    Attributes:
        format: Version of this form.
        replica: Name of the process.
        sums: Every sum, with each replica's share.
        entries: Every entry, the least recently used first.
    """

    format: Literal[1]
    replica: str
    sums: dict[str, _Sum]
    entries: dict[str, _Text]


def pack(known: Known) -> dict[str, object]:
    """Everything known, as `dumps` takes it; a copy, made quickly."""
    sums = {key: {"expires_at": expires_at, "shares": dict(shares)} for key, expires_at, shares in known.counters}
    return {"format": 1, "replica": known.counters.replica, "sums": sums, "entries": dict(known.entries)}


def dumps(packed: dict[str, object]) -> bytes:
    """What was packed, as JSON."""
    return orjson.dumps(packed, default=tuple)  # of a share, which is a named tuple


def unpack(data: bytes) -> Saved:
    """Reads a file's bytes.

    Raises:
        ValueError: They are not what `pack` makes.
    """
    try:
        return Saved.model_validate(orjson.loads(data))
    except (orjson.JSONDecodeError, ValidationError) as error:
        raise ValueError("not a state file of this version") from error


def take_up(saved: Saved, known: Known, since: float = 0.0) -> float:
    """Learns what another process knew.

    Args:
        saved: Its knowledge.
        known: This process's.
        since: Entries put before this, in seconds since the epoch, were taken up already.

    Returns:
        When the latest of its entries was put.
    """
    for key, one in saved.sums.items():
        known.counters.learn(key, {who: Share(*share) for who, share in one.shares.items()}, one.expires_at)
    for key, text in saved.entries.items():
        if text.stamp >= since:
            known.entries.learn_newer(key, Entry(text.value, text.expires_at, text.stamp))
    return max((text.stamp for text in saved.entries.values()), default=since)
