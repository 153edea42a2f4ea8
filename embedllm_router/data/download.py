"""Fetches the EmbedLLM release over HTTP: streamed to disk, resumed after an interruption, in place only when whole.

It knows nothing of what the files mean. A file being fetched is called `<name>.part`; beside it `<name>.part.etag` says
of which version it is a part, so that a resumed download never joins two versions.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import httpx

from embedllm_router.data.formats.embedllm import ORDER_FILES, PART_FILES
from embedllm_router.errors import DataError

__all__ = ["EMBEDLLM_FILES", "EMBEDLLM_URL", "Tell", "download"]

EMBEDLLM_URL: Final = "https://huggingface.co/datasets/RZ412/EmbedLLM/resolve/main"
EMBEDLLM_FILES: Final = (*ORDER_FILES, *reversed(PART_FILES))

Tell = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes on disk and the bytes in all, None where the server does not say."""

_ATTEMPTS: Final = 4
_TIMEOUT: Final = httpx.Timeout(30.0)
_PARTIAL, _OK, _RANGE_NOT_SATISFIABLE = 206, 200, 416


def download(
    folder: Path, *, url: str = EMBEDLLM_URL, files: Sequence[str] = EMBEDLLM_FILES, tell: Tell = lambda *_: None
) -> list[Path]:
    """Downloads files that are not there yet.

    Args:
        folder: Where they shall be; made if missing.
        url: Address that the names are appended to.
        files: Names.
        tell: Told of the progress.

    Returns:
        Their paths.

    Raises:
        DataError: The server cannot be reached, lacks a file or keeps breaking off, or the disk is too small. What has
            arrived stays, and the next call goes on from there.
    """
    headers = {"accept-encoding": "identity"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with httpx.Client(timeout=_TIMEOUT, follow_redirects=True, headers=headers) as client:
            return [_fetch(client, f"{url.rstrip('/')}/{name}", folder / name, tell) for name in files]
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{folder}: cannot be written ({reason}). Name another with --download-dir.") from error


def _fetch(client: httpx.Client, url: str, target: Path, tell: Tell) -> Path:
    if target.exists():
        size = target.stat().st_size
        tell(target.name, size, size)
        return target
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            _continue(client, url, target, tell)
        except httpx.HTTPStatusError as error:
            raise _failed(url, f"the server answers {error.response.status_code}") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise _failed(url, f"not an address ({error})") from None
        except httpx.TransportError as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            return target
    raise _failed(url, f"gave up after {_ATTEMPTS} attempts ({reason})")


def _continue(client: httpx.Client, url: str, target: Path, tell: Tell) -> None:
    """Fetches what is missing of one file, then puts it in place."""
    part, mark = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.etag")
    have = part.stat().st_size if part.exists() and mark.exists() else 0
    headers = {"range": f"bytes={have}-", "if-range": mark.read_text(encoding="utf-8")} if have else {}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == _RANGE_NOT_SATISFIABLE:
            mark.unlink()  # the part is longer than the file: begin again
            raise httpx.ReadError("the file has become shorter")
        response.raise_for_status()
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _failed(url, "the server sends it compressed though asked not to")
        have = have if response.status_code == _PARTIAL else 0
        total = _total(response, have)
        _check_space(target, total, have)
        _keep_mark(response, mark)
        _save(response, part, target.name, have, total, tell)
    found = part.stat().st_size
    if total is not None and found != total:
        raise httpx.ReadError(f"expected {total} bytes, found {found}")
    part.replace(target)
    mark.unlink(missing_ok=True)


def _save(  # noqa: PLR0913, PLR0917 - one file's whole state
    response: httpx.Response, part: Path, name: str, have: int, total: int | None, tell: Tell
) -> None:
    with part.open("ab" if have else "wb") as file:
        tell(name, have, total)
        for chunk in response.iter_raw():
            file.write(chunk)
            have += len(chunk)
            tell(name, have, total)


def _total(response: httpx.Response, have: int) -> int | None:
    length = response.headers.get("content-length", "")
    return have + int(length) if length.isdigit() else None


def _keep_mark(response: httpx.Response, mark: Path) -> None:
    """Notes the version; without one a part cannot be continued."""
    etag = response.headers.get("etag", "")
    if etag and not etag.startswith("W/"):
        mark.write_text(etag, encoding="utf-8")
    else:
        mark.unlink(missing_ok=True)


def _check_space(target: Path, total: int | None, have: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if total is not None and total - have > free:
        raise DataError(
            f"{target.name} needs {(total - have) / 1e6:,.0f} MB, {target.parent} has {free / 1e6:,.0f} MB free. "
            "Name a folder on a larger disk with --download-dir."
        )


def _failed(url: str, reason: str) -> DataError:
    return DataError(
        f"cannot download {url}: {reason}. Check the network and try again, which goes on where this ended, or get the "
        "files another way and name their folder as SOURCE."
    )
