"""Keyed hashes of prompts: equal prompts can be linked, and nobody without the key can test a guess.

The key of a folder lies in it as `hash.key`, readable by its user alone.
"""

import contextlib
import hashlib
import os
import secrets
import tempfile
from pathlib import Path

__all__ = ["KEY_FILE", "PromptHasher"]

KEY_FILE = "hash.key"
_KEY_BYTES = 32
_DIGEST_BYTES = 12


class PromptHasher:
    """Hashes prompts with one key, which is read or made when it is first needed."""

    def __init__(self, secret: str | None, folder: Path | None) -> None:
        """Remembers where the key comes from.

        Args:
            secret: The key as the settings give it; None for one that is made.
            folder: Where a made key is kept; None keeps it for the life of this process only.
        """
        self._folder = folder
        self._key = hashlib.sha256(secret.encode()).digest() if secret is not None else None

    def __call__(self, text: str) -> str:
        """The hash, 24 hexadecimal digits. A key that cannot be kept is made for this process: this never fails."""
        if self._key is None:
            self._key = _kept_key(self._folder) if self._folder else secrets.token_bytes(_KEY_BYTES)
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, key=self._key).hexdigest()


def _kept_key(folder: Path) -> bytes:
    file = folder / KEY_FILE
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(2):
            if (key := _read(file)) is not None:
                return key
            _offer(file)
    return secrets.token_bytes(_KEY_BYTES)


def _read(file: Path) -> bytes | None:
    try:
        key = bytes.fromhex(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except ValueError:
        key = b""
    if len(key) == _KEY_BYTES:
        return key
    file.unlink(missing_ok=True)  # half a key, left by a crash of the machine
    return None


def _offer(file: Path) -> None:
    """Puts a new key in place unless another process was faster; whole or not at all."""
    fd, draft = tempfile.mkstemp(dir=file.parent, prefix=".hash-")
    try:
        with os.fdopen(fd, "w", encoding="ascii") as opened:
            opened.write(secrets.token_hex(_KEY_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        Path(draft).unlink()
