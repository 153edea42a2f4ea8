"""Fetches the EmbedLLM release: from Hugging Face, or file by file from another address.

A file that is already in the folder is not fetched again, and a file is in its place only when it is whole. Hugging
Face's library goes on with a broken download where it ended.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from tqdm import tqdm

from embedllm_router.data.formats.embedllm import ORDER_FILES, PART_FILES
from embedllm_router.errors import DataError

__all__ = ["EMBEDLLM_FILES", "download"]

EMBEDLLM_FILES: Final = (*ORDER_FILES, *reversed(PART_FILES))
_REPOSITORY: Final = "RZ412/EmbedLLM"
_TIMEOUT: Final = httpx.Timeout(30.0)
_RETRIES: Final = 3  # of a connection that cannot be made

OnProgress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes on disk and the bytes in all, None where the server does not say."""


def download(
    folder: Path,
    *,
    url: str | None = None,
    files: Sequence[str] = EMBEDLLM_FILES,
    on_progress: OnProgress = lambda *_: None,
) -> list[Path]:
    """Downloads files that are not there yet.

    Args:
        folder: Where they shall be; made if missing.
        url: Address that the names are appended to; None is the publisher's repository on Hugging Face.
        files: Names.
        on_progress: Called now and then for each file.

    Returns:
        Their paths.

    Raises:
        DataError: The server cannot be reached, lacks a file or breaks off, or the folder cannot be written.
    """
    targets = [folder / name for name in files]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for target in targets:
            if target.exists():
                size = target.stat().st_size
                on_progress(target.name, size, size)
            elif url is None:
                _fetch_from_hub(target, on_progress)
            else:
                _fetch(f"{url.rstrip('/')}/{target.name}", target, on_progress)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{folder}: cannot be written ({reason}). Name another with --download-dir.") from error
    return targets


def _fetch_from_hub(target: Path, on_progress: OnProgress) -> None:
    class Bar(tqdm):  # type: ignore[misc]  # tqdm is untyped
        """Reports instead of drawing."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, file=io.StringIO(), **kwargs)

        def display(self, *_: Any, **__: Any) -> None:
            on_progress(target.name, int(self.n), self.total)

    try:
        hf_hub_download(_REPOSITORY, target.name, repo_type="dataset", local_dir=target.parent, tqdm_class=Bar)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError) as error:
        raise _failed(f"{target.name} of {_REPOSITORY}", error) from error


def _fetch(url: str, target: Path, on_progress: OnProgress) -> None:
    part = target.with_name(f"{target.name}.part")
    transport = httpx.HTTPTransport(retries=_RETRIES)
    try:
        with (
            httpx.Client(timeout=_TIMEOUT, follow_redirects=True, transport=transport) as client,
            client.stream("GET", url, headers={"accept-encoding": "identity"}) as response,
        ):
            response.raise_for_status()
            length = response.headers.get("content-length", "")
            with part.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    on_progress(target.name, file.tell(), int(length) if length.isdigit() else None)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _failed(url, error) from error
    part.replace(target)


def _failed(what: str, error: Exception) -> DataError:
    cause = error.__cause__ or error
    response = getattr(cause, "response", None)
    if response is not None:
        reason = f"the server answers {response.status_code}"
    else:
        reason = f"{type(cause).__name__}: {str(cause).partition(chr(10))[0].rstrip('.')}"
    return DataError(
        f"cannot download {what}: {reason}. Check the network and try again, or get the files another way and name "
        "their folder as SOURCE."
    )
