"""The page's own files, read once: bytes, compressed bytes, type and a tag that changes with them.

They hold no data of anybody. It knows nothing of HTTP frameworks.
"""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["PageFile", "page_files"]

_FOLDER: Final = Path(__file__).parent / "static"
_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file.

    Attributes:
        body: Its bytes.
        compressed: The same, gzipped.
        kind: Its media type.
        tag: Its entity tag, quotes included.
    """

    body: bytes
    compressed: bytes
    kind: str
    tag: str


def page_files() -> dict[str, PageFile]:
    """Reads them all: name relative to the folder → file."""
    return {
        file.relative_to(_FOLDER).as_posix(): _read(file)
        for file in sorted(_FOLDER.rglob("*"))
        if file.suffix in _KINDS
    }


def _read(file: Path) -> PageFile:
    body = file.read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    return PageFile(body, gzip.compress(body, mtime=0), _KINDS[file.suffix], tag)
