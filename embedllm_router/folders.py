"""A folder that appears whole or not at all: written beside its place, then renamed. Pure files."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["draft_beside", "put_in_place"]


@contextmanager
def draft_beside(folder: Path) -> Iterator[Path]:
    """A new empty folder beside another one's place; gone afterwards unless it was put in place.

    Args:
        folder: Where the draft shall end up; its parents are made.

    Yields:
        The draft.

    Raises:
        OSError: The draft cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    draft.chmod(0o755)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def put_in_place(draft: Path, folder: Path) -> None:
    """Renames a draft to its place; what was there is removed only once the draft is in.

    Raises:
        OSError: The folder cannot be renamed.
    """
    if not folder.exists():
        draft.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.replace(old)
    draft.rename(folder)
    shutil.rmtree(old)
