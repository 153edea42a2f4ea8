"""The type of a setting that names a folder to read: it may begin with `~` and is never empty."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

__all__ = ["Folder"]


def _named(folder: object) -> object:
    if isinstance(folder, str) and not folder.strip():
        raise ValueError("expected a folder, found an empty name, which is the working directory: leave it out")
    return folder


def _of_the_user(folder: Path) -> Path:
    try:
        return folder.expanduser()
    except RuntimeError:
        raise ValueError(f"{folder} begins with the home of a user who is not known here") from None


Folder = Annotated[Path, BeforeValidator(_named), AfterValidator(_of_the_user)]
