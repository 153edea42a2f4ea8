"""Hashes that stand for texts where others may read: the same text the same hash, and nobody reads it back."""

import hashlib

__all__ = ["digest_of"]

_BYTES = 16


def digest_of(*parts: str) -> str:
    """32 hexadecimal digits; different parts have different ones, also where their texts joined are the same."""
    digest = hashlib.blake2b(digest_size=_BYTES)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()
