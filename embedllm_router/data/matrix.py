"""Which LLM answered which prompt correctly: the matrix everything is learned from.

It knows nothing of files (folder.py reads them) and nothing of embeddings. Rows are never implicit: every row has a
prompt id, every column an LLM id.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedllm_router.errors import DataError

__all__ = ["CorrectnessMatrix"]


@dataclass(frozen=True, slots=True)
class CorrectnessMatrix:
    """Graded answers of LLMs to prompts; most pairs may be unobserved.

    Attributes:
        prompts: What was asked, one text per row.
        prompt_ids: Unique id of each row.
        categories: Category of each row, as its data set names it.
        datasets: Data set of each row.
        llm_ids: Unique id of each column.
        correctness: float32 (n_prompts, n_llms), in [0, 1]; 0 where unobserved.
        observed: bool (n_prompts, n_llms); False means never graded, not wrong.
        output_tokens: Length of the answer, float32 (n_prompts, n_llms); NaN where unknown.
        counted: bool (n_prompts, n_llms), the length is a recorded count of all tokens billed, hidden reasoning
            included; False where it is an estimate from the visible characters, or unknown.
        input_tokens: Recorded length of the request, mean over the LLMs that recorded it, float32 (n_prompts,); NaN
            where none did.

    Raises:
        DataError: Shapes, ids or values do not fit.
    """

    prompts: tuple[str, ...]
    prompt_ids: tuple[str, ...]
    categories: tuple[str, ...]
    datasets: tuple[str, ...]
    llm_ids: tuple[str, ...]
    correctness: NDArray[np.float32]
    observed: NDArray[np.bool_]
    output_tokens: NDArray[np.float32]
    counted: NDArray[np.bool_]
    input_tokens: NDArray[np.float32]

    def __post_init__(self) -> None:
        n_prompts, n_llms = len(self.prompts), len(self.llm_ids)
        for name in ("prompt_ids", "categories", "datasets", "input_tokens"):
            _check_equal(f"length of {name}", len(getattr(self, name)), n_prompts)
        for name in ("correctness", "observed", "output_tokens", "counted"):
            _check_equal(f"shape of {name}", getattr(self, name).shape, (n_prompts, n_llms))
        _check_unique("prompt_ids", self.prompt_ids)
        _check_unique("llm_ids", self.llm_ids)
        if not bool(np.all((self.correctness >= 0) & (self.correctness <= 1))):
            raise DataError("correctness holds values outside [0, 1] or NaN; scale the scores first.")

    @property
    def n_labels(self) -> int:
        """How many pairs were graded."""
        return int(self.observed.sum())

    def labels(self) -> NDArray[np.float32]:
        """Binary labels, float32 (n_prompts, n_llms): 1 where correctness is at least 0.5, else 0."""
        return (self.correctness >= 0.5).astype(np.float32)  # noqa: PLR2004 - the threshold is the definition

    def category_names(self) -> NDArray[np.str_]:
        """Data set and category of each prompt, for example "mmlu_pro/law", (n_prompts,)."""
        return np.array([f"{d}/{c}" for d, c in zip(self.datasets, self.categories, strict=True)])

    def select_prompts(self, rows: NDArray[np.int64]) -> "CorrectnessMatrix":
        """The matrix of some rows, in the order given.

        Args:
            rows: int64 (n_selected,), each in [0, n_prompts), none twice.

        Returns:
            A matrix of n_selected prompts and the same LLMs.
        """
        picked = rows.tolist()
        return CorrectnessMatrix(
            prompts=tuple(self.prompts[i] for i in picked),
            prompt_ids=tuple(self.prompt_ids[i] for i in picked),
            categories=tuple(self.categories[i] for i in picked),
            datasets=tuple(self.datasets[i] for i in picked),
            llm_ids=self.llm_ids,
            correctness=self.correctness[rows],
            observed=self.observed[rows],
            output_tokens=self.output_tokens[rows],
            counted=self.counted[rows],
            input_tokens=self.input_tokens[rows],
        )

    def select_llms(self, ids: Sequence[str]) -> "CorrectnessMatrix":
        """The matrix of some LLMs, in the order given, without the prompts none of them answered.

        Args:
            ids: Ids of columns.

        Returns:
            A matrix of len(ids) LLMs.

        Raises:
            DataError: An id is unknown.
        """
        column = {llm: i for i, llm in enumerate(self.llm_ids)}
        unknown = [llm for llm in ids if llm not in column]
        if unknown:
            raise DataError(f"llm ids {unknown} are not in the matrix; it has {list(self.llm_ids)}.")
        columns = [column[llm] for llm in ids]
        narrow = replace(
            self,
            llm_ids=tuple(ids),
            correctness=self.correctness[:, columns],
            observed=self.observed[:, columns],
            output_tokens=self.output_tokens[:, columns],
            counted=self.counted[:, columns],
        )
        return narrow.select_prompts(np.flatnonzero(narrow.observed.any(axis=1)))


def _check_equal(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise DataError(f"{what} is {found}, expected {expected}.")


def _check_unique(what: str, ids: Sequence[str]) -> None:
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        repeated = sorted({i for i in ids if i in seen or seen.add(i)})  # type: ignore[func-returns-value]
        raise DataError(f"{what} repeat {repeated[:5]} ({len(repeated)} in all); each needs its own.")
