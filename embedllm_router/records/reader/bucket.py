"""Records in object storage: `s3://bucket/prefix`, listed and read in place, and never written.

A place is a prefix whose objects are record files, or one such object. DuckDB reads them through a file system of
Python's, a range of bytes at a time, so only the columns that a query names are fetched. Who may read comes from the
variables of AWS (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL), else from
the machine's role.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from embedllm_router.errors import ConfigError, DataError
from embedllm_router.records.writer.segments import KINDS, OPEN, SEALED

try:
    import obstore
    from fsspec import AbstractFileSystem
    from obstore.exceptions import BaseError
    from obstore.store import S3Store
except ImportError as error:
    raise ConfigError("reading records from a bucket needs: pip install 'embedllm-router[s3]'.") from error

__all__ = ["Buckets", "bucket_files"]

_HEAD_KEPT_S = 2.0
_WILDCARDS = frozenset("*?[")
_STARTS = tuple(f"{kind}-" for kind in KINDS)


def bucket_files(place: str) -> list[Path]:
    """The record files at a place, as paths that begin with `s3:`, sorted; none where there are none.

    Args:
        place: `s3://bucket/prefix`, or one object.

    Raises:
        ConfigError: It names no bucket, or has a wildcard in it; or AWS_ENDPOINT_URL is no address.
        DataError: The bucket cannot be listed.
    """
    bucket, prefix = _split(place)
    prefix = prefix.strip("/")
    if "@" in bucket:
        raise ConfigError(
            "cannot read records from s3://…@…: expected s3://bucket/prefix. Give keys in AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY."
        )
    if not bucket or _WILDCARDS & set(place) or {"", ".", ".."} & set(prefix.split("/") if prefix else ()):
        raise ConfigError(
            f"cannot read records from {place}: expected s3://bucket/prefix, without wildcards, empty parts, . and .."
        )
    _check_endpoint()
    with _told(place):
        if Path(prefix).suffix in {OPEN, SEALED}:
            keys = [obstore.head(_store(bucket), prefix)["path"]]
        else:
            inside = obstore.list_with_delimiter(_store(bucket), prefix or None)
            keys = [one["path"] for one in inside["objects"]]
    names = (Path(f"s3://{bucket}") / key for key in keys)
    return sorted(one for one in names if one.suffix in {OPEN, SEALED} and one.name.startswith(_STARTS))


class Buckets(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no type information
    """What DuckDB reads `s3://…` through; only what it calls is there."""

    protocol = "s3"
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self._heads: dict[str, tuple[float, Any]] = {}

    def size(self, path: str) -> int:
        """Bytes of an object."""
        return int(self._head(path)["size"])

    def modified(self, path: str) -> datetime:
        """When an object was written."""
        found: datetime = self._head(path)["last_modified"]
        return found

    def exists(self, path: str, **_: object) -> bool:
        """Whether there is such an object."""
        try:
            return bool(self._head(path))
        except FileNotFoundError:
            return False

    def glob(self, path: str, **_: object) -> list[str]:
        """The object itself: names are listed before, and none has a wildcard."""
        return [path]

    def open(self, path: str, mode: str = "rb", **_: object) -> "_Object":
        """An object for reading.

        Raises:
            PermissionError: Anything else is asked for.
        """
        if mode != "rb":
            raise PermissionError(f"records in buckets are read only, and {path} was opened for {mode}.")
        return _Object(*_split(path), self.size(path))

    def _head(self, path: str) -> Any:
        """Size and time; one query asks for them a dozen times."""
        asked, head = self._heads.get(path, (-math.inf, None))
        if time.monotonic() - asked > _HEAD_KEPT_S:
            bucket, key = _split(path)
            head = obstore.head(_store(bucket), key)
            self._heads[path] = time.monotonic(), head
        return head


class _Object:
    """An object as a file. Every thread has a position of its own, since DuckDB's threads share one file."""

    closed = False

    def __init__(self, bucket: str, key: str, size: int) -> None:
        self._store, self._key, self._size = _store(bucket), key, size
        self._thread = threading.local()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}[whence]
        self._thread.at = start + offset
        return self.tell()

    def tell(self) -> int:
        return int(getattr(self._thread, "at", 0))

    def seekable(self) -> bool:
        return True

    def read(self, n: int = -1) -> bytes:
        start = self.tell()
        end = self._size if n < 0 else min(start + n, self._size)
        self._thread.at = max(start, end)
        return bytes(obstore.get_range(self._store, self._key, start=start, end=end)) if end > start else b""

    def close(self) -> None:
        """There is nothing to let go of."""


def _store(bucket: str) -> S3Store:
    """A bucket. Plain HTTP is for an endpoint that says so, such as one on this machine."""
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return S3Store(bucket, client_options={"allow_http": plain})


def _check_endpoint() -> None:
    """Makes sure that the endpoint is an address, since the library panics at others, and repeats it in errors.

    Raises:
        ConfigError: It is none.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        usable = usable and parts.username is None and endpoint.isprintable() and " " not in endpoint
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            "AWS_ENDPOINT_URL is no address; expected http://host:port or https://host, without user and password."
        )


def _split(path: str) -> tuple[str, str]:
    bucket, _, key = path.removeprefix("s3://").partition("/")
    return bucket, key


@contextlib.contextmanager
def _told(place: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"no records at {place}: there is no such bucket or object.") from None
    except (BaseError, OSError) as error:
        said = str(error).strip().splitlines()[0].rstrip(".")[:200]
        raise DataError(
            f"{place} cannot be listed: {said}. Check AWS_REGION, AWS_ENDPOINT_URL and the credentials."
        ) from None
