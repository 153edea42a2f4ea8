"""Where records lie → the files to read.

A place is a folder of record files, one such file, or a glob that matches either. It does not open the files.
"""

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedllm_router.errors import DataError
from embedllm_router.records.writer.segments import MERGED, OPEN, SEALED, named, superseded

__all__ = ["RecordFiles", "record_files"]

_PARQUET, _LINES = ".parquet", ".jsonl"
_FEEDBACK = "feedback"


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """The files that hold each record once.

    Attributes:
        requests_parquet: Sealed requests.
        requests_jsonl: Requests that are still being written, one JSON object a line.
        feedback_parquet: Sealed feedback.
        feedback_jsonl: Feedback that is still being written.
    """

    requests_parquet: tuple[Path, ...] = ()
    requests_jsonl: tuple[Path, ...] = ()
    feedback_parquet: tuple[Path, ...] = ()
    feedback_jsonl: tuple[Path, ...] = ()


def record_files(places: Sequence[str], *, must_exist: bool = True) -> RecordFiles:
    """Lists the record files of some places.

    Args:
        places: Folders, files and globs.
        must_exist: Whether a place that is not there is an error.

    Returns:
        Each record once: what is being sealed or merged is listed either in its old or in its new form.

    Raises:
        DataError: A place does not exist, or a glob matches nothing.
    """
    found = {file.absolute() for place in places for file in _files_of(place, must_exist=must_exist)}
    merges = {merge for folder in {file.parent for file in found} for merge in named(folder, MERGED)}
    left = found - superseded(found | merges)
    return RecordFiles(
        requests_parquet=_of(left, SEALED, feedback=False),
        requests_jsonl=_of(left, OPEN, feedback=False),
        feedback_parquet=_of(left, SEALED, feedback=True),
        feedback_jsonl=_of(left, OPEN, feedback=True),
    )


def _of(files: Iterable[Path], suffix: str, *, feedback: bool) -> tuple[Path, ...]:
    return tuple(sorted(f for f in files if f.suffix == suffix and f.name.startswith(_FEEDBACK) is feedback))


def _files_of(place: str, *, must_exist: bool) -> list[Path]:
    path = Path(place).expanduser()
    if path.is_dir():
        return _inside(path)
    if path.is_file():
        _check_suffix(path)
        return [path]
    matched = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute pattern
    if must_exist and not matched:
        raise DataError(
            f"no records at {place}: expected a folder, a file or a glob that matches some. Name the folder in the "
            "setting store.path of the proxy, or a postgresql:// URL."
        )
    return [file for match in matched for file in (_inside(match) if match.is_dir() else [match])]


def _inside(folder: Path) -> list[Path]:
    # While files are sealed and merged, one listing may miss old and new names of the same records. Twice it cannot.
    return [file for _ in range(2) for ending in (OPEN, SEALED) for file in named(folder, ending)]


def _check_suffix(path: Path) -> None:
    if path.suffix not in {SEALED, OPEN}:
        raise DataError(f"{path} is no record file: expected a name that ends in {SEALED} or {OPEN}.")
