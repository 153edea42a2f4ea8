"""Who may give feedback on an answer: whoever asked for it, and administrators, who may also speak for others."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from embedllm_router._hashing import digest_of
from embedllm_router.records.reader.source import RecordSource

__all__ = ["USER", "Giver", "Owners", "key_hash_of", "owners_of", "user_hash_of"]

USER: Final = "user"
"""The source of feedback from those who asked; only administrators name another."""

_AFTER_FLUSH_S: Final = 0.5


def key_hash_of(key_id: str | None) -> str | None:
    """What a record says of the API key, the same on every proxy: LiteLLM's own id is a hash of a random key already.

    Args:
        key_id: LiteLLM's id of the key; None without one.
    """
    return digest_of("key", key_id) if key_id else None


def user_hash_of(user_id: str | None, hash_of: Callable[[str], str]) -> str | None:
    """What a record says of a user, whose id is often an address that could be guessed: hashed with the store's key.

    Args:
        user_id: The end user's id, or that of the key's user; None without either.
        hash_of: The store's keyed hash.
    """
    return hash_of(f"user\0{user_id}") if user_id else None


@dataclass(frozen=True, slots=True)
class Giver:
    """Somebody who gives feedback.

    Attributes:
        key_hash: Hash of the id of their API key; None without a key.
        key_alias: Alias of the API key; None when it has none.
        admin: Whether they administrate the proxy, or it asks for no keys.
    """

    key_hash: str | None
    key_alias: str | None = None
    admin: bool = False


class Owners:
    """Looks up whose requests feedback is on.

    Args:
        source: Gives the records; called at every look.
        flush_s: How long a record may wait before any worker writes it: so long is waited for an id nobody knows yet.
    """

    def __init__(self, source: Callable[[], RecordSource], flush_s: float) -> None:
        self._source, self._wait_s = source, flush_s + _AFTER_FLUSH_S
        self._one_at_a_time = asyncio.Lock()

    async def refused(self, ids: Collection[str], giver: Giver) -> list[str]:
        """The ids on which somebody may not give feedback: of no request on record, or of another key's.

        Args:
            ids: Request ids or response ids.
            giver: Who gives it.

        Returns:
            Those refused, in order.
        """
        wanted = list(dict.fromkeys(ids))
        owners = await self._owners(wanted)
        if len(owners) < len(wanted):
            await asyncio.sleep(self._wait_s)
            owners = {**owners, **await self._owners([one for one in wanted if one not in owners])}
        return [one for one in wanted if not (one in owners and (giver.admin or _is_among(giver, owners[one])))]

    async def _owners(self, ids: list[str]) -> dict[str, list[Mapping[str, Any]]]:
        async with self._one_at_a_time:  # a look reads many files: several at once would take the requests' time
            rows = await asyncio.to_thread(self._look, ids)
        owners: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            owners.setdefault(row["given_for"], []).append(row)
        return owners

    def _look(self, ids: list[str]) -> list[dict[str, Any]]:
        return owners_of(self._source(), ids)


def owners_of(source: RecordSource, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Whose requests have some ids.

    Args:
        source: The records.
        ids: Request ids or response ids, some thousands at most.

    Returns:
        A row per id and owner: given_for (the id), key_hash, key_alias. None of an id on no record.
    """
    names = ", ".join(f"$id{number}" for number in range(len(ids)))
    of = "SELECT DISTINCT {0} AS given_for, key_hash, key_alias FROM requests WHERE {0} IN ({1})"
    both = " UNION ALL ".join(of.format(column, names) for column in ("request_id", "response_id"))
    return source.rows(both, {f"id{number}": one for number, one in enumerate(ids)}) if ids else []


def _is_among(giver: Giver, owners: list[Mapping[str, Any]]) -> bool:
    """Whether one of the owners is the giver; of records from before there were hashes, by the key's alias."""
    return any(
        owner["key_hash"] == giver.key_hash
        if owner["key_hash"] is not None
        else owner["key_alias"] is not None and owner["key_alias"] == giver.key_alias
        for owner in owners
    )
