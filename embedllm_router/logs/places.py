"""Where records lie → the files to read.

A place is a folder of record files, one such file, or a glob that matches either. It does not open the files.
"""

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedllm_router.errors import DataError

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

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read at all."""
        return not (self.requests_parquet or self.requests_jsonl or self.feedback_parquet or self.feedback_jsonl)


def record_files(places: Sequence[str]) -> RecordFiles:
    """Lists the record files of some places.

    Args:
        places: Folders, files and globs.

    Returns:
        Each file once. A `.jsonl` beside a `.parquet` of the same stem is left out: sealing copies before it removes.

    Raises:
        DataError: A place does not exist, or a glob matches nothing.
    """
    found = {file for place in places for file in _files_of(place)}
    sealed = {file.with_suffix("") for file in found if file.suffix == _PARQUET}
    return RecordFiles(
        requests_parquet=_of(found, _PARQUET, feedback=False),
        requests_jsonl=tuple(f for f in _of(found, _LINES, feedback=False) if f.with_suffix("") not in sealed),
        feedback_parquet=_of(found, _PARQUET, feedback=True),
        feedback_jsonl=tuple(f for f in _of(found, _LINES, feedback=True) if f.with_suffix("") not in sealed),
    )


def _of(files: Iterable[Path], suffix: str, *, feedback: bool) -> tuple[Path, ...]:
    return tuple(sorted(f for f in files if f.suffix == suffix and f.name.startswith(_FEEDBACK) is feedback))


def _files_of(place: str) -> list[Path]:
    path = Path(place).expanduser()
    if path.is_dir():
        return _inside(path)
    if path.is_file():
        _check_suffix(path)
        return [path]
    matched = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not matched:
        raise DataError(f"no records at {place}: expected a folder, a file or a glob that matches some. {_REMEDY}")
    return [file for match in matched for file in (_inside(match) if match.is_dir() else [match])]


_REMEDY = "Name the folder in the setting store.path of the proxy, or a postgresql:// URL."


def _inside(folder: Path) -> list[Path]:
    # One listing may miss both names of a file that is sealed meanwhile; it cannot miss them twice.
    twice = set(folder.iterdir()) | set(folder.iterdir())
    return [file for file in twice if file.suffix in {_PARQUET, _LINES}]


def _check_suffix(path: Path) -> None:
    if path.suffix not in {_PARQUET, _LINES}:
        raise DataError(f"{path} is no record file: expected a name that ends in {_PARQUET} or {_LINES}.")
