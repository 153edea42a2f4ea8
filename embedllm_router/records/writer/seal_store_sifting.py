"""Tells the lines of a damaged record file that are records from those that are not. Loses neither."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.records.writer.segments import Kind

__all__ = ["sift"]


def sift(source: Path, good: Path, bad: Path, kind: Kind) -> int:
    """Copies every line that is a record to one file and every other to a second, made only when there are any.

    The start of a line at the very end is neither: a process was killed while it wrote, before that record counted as
    written.

    Returns:
        How many lines were no records.

    Raises:
        OSError: A file cannot be read or written.
    """
    adapter: TypeAdapter[RequestRecord | FeedbackRecord]
    adapter = TypeAdapter(RequestRecord if kind == "requests" else FeedbackRecord)
    rejected: list[bytes] = []
    with source.open("rb") as lines, good.open("wb") as kept:
        for line in lines:
            if _is_record(line, adapter):
                kept.write(line)
            elif line.endswith(b"\n") and line.strip():
                rejected.append(line)
    if rejected:
        bad.write_bytes(b"".join(rejected))
    return len(rejected)


def _is_record(line: bytes, adapter: TypeAdapter[RequestRecord | FeedbackRecord]) -> bool:
    try:
        adapter.validate_json(line, strict=True)
    except ValidationError:
        return False
    return True
