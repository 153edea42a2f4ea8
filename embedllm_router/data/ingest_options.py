"""What a user chooses of an ingestion. It loads no data library, so that a command line can name the choices."""

from dataclasses import dataclass, field
from enum import StrEnum

from embedllm_router.errors import DataError

__all__ = ["BadRowLimit", "Format", "IngestOptions", "OnConflict"]


class Format(StrEnum):
    """The formats that can be read."""

    EMBEDLLM = "embedllm"
    ROUTERBENCH = "routerbench"
    LLMROUTERBENCH = "llmrouterbench"
    LM_EVAL = "lm-eval"
    INSPECT = "inspect"
    LONG = "long"


class OnConflict(StrEnum):
    """What becomes of several scores for one prompt and LLM."""

    MEAN = "mean"
    FIRST = "first"
    LAST = "last"
    MAX = "max"
    ERROR = "error"


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
