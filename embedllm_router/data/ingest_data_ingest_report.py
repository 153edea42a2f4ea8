"""What the user chooses of an ingestion, and what it reports. Values only."""

from dataclasses import dataclass, field

from embedllm_router.data.formats.detect import Format
from embedllm_router.data.matrix_data_conflicts import OnConflict
from embedllm_router.errors import DataError

__all__ = ["BadRowLimit", "FileRead", "IngestOptions", "IngestReport"]


@dataclass(frozen=True, slots=True)
class BadRowLimit:
    """How many rows may be rejected before the data counts as unusable.

    Attributes:
        share: Of all rows, in [0, 1]; None where `count` holds.
        count: Rows; None where `share` holds.
    """

    share: float | None = 0.001
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> "BadRowLimit":
        """Reads `0.1%` or a number of rows.

        Raises:
            DataError: It is neither.
        """
        number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
        try:
            limit = cls(share=float(number) / 100) if percent else cls(share=None, count=int(number))
        except ValueError:
            limit = cls(share=-1.0)
        if not (limit.count or 0) >= 0 or not 0 <= (limit.share or 0) <= 1:
            raise DataError(f"--max-bad-rows takes a share such as 0.1% or a number of rows, found {text!r}.")
        return limit

    def allows(self, rejected: int, rows: int) -> bool:
        """Whether so many rejected of so many rows are within the limit."""
        return rejected <= (self.count if self.count is not None else (self.share or 0) * rows)

    def __str__(self) -> str:
        return f"{self.count} rows" if self.count is not None else f"{100 * (self.share or 0):g}% of the rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """What the user chose.

    Attributes:
        format: Format of every file; None tells each file's by looking at it.
        on_conflict: What becomes of several scores for one prompt and LLM.
        max_bad_rows: Beyond it nothing is written.
        metric: Metric or scorer that counts, where a format has several.
        filter: Answer filter that counts, where a format has several.
    """

    format: Format | None = None
    on_conflict: OnConflict = OnConflict.MEAN
    max_bad_rows: BadRowLimit = field(default_factory=BadRowLimit)
    metric: str | None = None
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class FileRead:
    """One input file as it was read.

    Attributes:
        file: Its path below its source.
        format: Its format.
        bytes: Its size; of a canonical folder both files together.
        sha256: Of its content; of a canonical folder that of both, items first.
        rows: Answers found, rejected ones included.
        rejected: Answers not used.
    """

    file: str
    format: str
    bytes: int
    sha256: str
    rows: int
    rejected: int


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What was made of which files; ingest.json holds the same.

    Attributes:
        files: Read, in this order.
        ignored: Files that look like no known format, or that a later run replaces.
        notes: Choices the readers made on their own.
        n_items: Prompts.
        n_llms: LLMs.
        n_results: Pairs of prompt and LLM.
        n_rows: Answers found, rejected ones included.
        n_rejected: Answers not used.
        n_repeated: Answers beyond the first of their prompt and LLM.
        n_conflicting: Pairs with different scores.
        on_conflict: The rule that resolved them.
        llms: Names, sorted.
        llms_sha256: Of the names, one per line: whether two data sets have the same LLMs.
        categories: Prompts per category.
    """

    files: tuple[FileRead, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    n_items: int
    n_llms: int
    n_results: int
    n_rows: int
    n_rejected: int
    n_repeated: int
    n_conflicting: int
    on_conflict: str
    llms: tuple[str, ...]
    llms_sha256: str
    categories: dict[str, int]
