"""What training must be given because no correctness data hold it: vendors, prices, licences, and lengths of answers.

Vendors and prices are read from models.csv and the JSON files of weights/. The length of an answer, for the second
head, is the tokens billed or an estimate of them: token counts are taken where a data set recorded them. Many record
visible characters only; a thinking LLM also bills tokens nobody sees, and of those only the mean per request is known
(weights/reasoning_tokens.json).
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from embedllm_router.data.folder import find_beside
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import DataError

__all__ = [
    "UNRECORDED_TOKENS",
    "Asked",
    "Facts",
    "LLMFacts",
    "Price",
    "Source",
    "fill_unknown",
    "find_llm_table",
    "log_output_tokens",
    "read_facts",
    "read_llm_table",
    "smearing",
]

UNRECORDED_TOKENS: Final = 300.0
"""Taken for every answer where no data set records a length: an assumption, but free output would be a wrong one."""

_SHOWN: Final = 5  # problems of a file that an error names
_NO_VENDOR: Final = "other"
_SPREAD: Final = 4.0  # a prompt moves the reasoning estimate by at most this factor either way
_PRIOR_LABELS: Final = 50.0  # an LLM's smearing factor counts fully when it has many more labels than this


def log_output_tokens(matrix: CorrectnessMatrix, reasoning_tokens: Mapping[str, float]) -> NDArray[np.float32]:
    """Natural logarithm of all output tokens, hidden reasoning included.

    A counted length holds the hidden part already. Otherwise it is the LLM's mean times the prompt's relative length:
    how long LLMs that show all their work answer this prompt, compared with prompts in general. That ratio is an
    assumption, not a measurement.

    Args:
        matrix: Its `output_tokens` are the whole where counted, else the visible part.
        reasoning_tokens: Mean hidden tokens per request of each LLM that has any.

    Returns:
        float32 (n_prompts, n_llms), NaN where the length is unknown.
    """
    hidden = np.array([reasoning_tokens.get(llm, 0.0) for llm in matrix.llm_ids])
    shows_all = hidden == 0
    visible = matrix.output_tokens.astype(np.float64)
    factor = _relative_length(visible[:, shows_all])
    tokens = np.maximum(visible + np.where(matrix.counted, 0.0, factor[:, None] * hidden), 1.0)
    logs: NDArray[np.float32] = np.log(tokens).astype(np.float32)
    return logs


def fill_unknown(
    values: NDArray[np.float32], known: NDArray[np.bool_], thinking: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Gives LLMs without recorded lengths the average of those that have them, thinking LLMs that of thinking ones.

    Args:
        values: One row per LLM, float32 (n_llms, d) or (n_llms,).
        known: bool (n_llms,), lengths were recorded; at least one is true.
        thinking: bool (n_llms,), the LLM reasons before it answers.

    Returns:
        The values with the rows of unknown LLMs replaced.
    """
    filled = values.copy()
    for kind in (False, True):
        alike = known & (thinking == kind)
        source = alike if alike.any() else known
        filled[~known & (thinking == kind)] = values[source].mean(axis=0)
    return filled


def smearing(predicted: NDArray[np.float32], actual: NDArray[np.float32]) -> NDArray[np.float32]:
    """What to add to a predicted logarithm so that its exponential is right on average (Duan, 1983).

    Args:
        predicted: float32 (n_prompts, n_llms).
        actual: float32 (n_prompts, n_llms), NaN where unknown.

    Returns:
        float32 (n_llms,), shrunk towards the common value where an LLM has few lengths; 0 without any.
    """
    ratio = np.exp(np.clip(actual.astype(np.float64) - predicted, -6.0, 6.0))
    known = np.isfinite(ratio)
    if not known.any():
        return np.zeros(ratio.shape[1], dtype=np.float32)
    common = float(ratio[known].mean())
    total = np.where(known, ratio, 0.0).sum(axis=0) + _PRIOR_LABELS * common
    shift: NDArray[np.float32] = np.log(total / (known.sum(axis=0) + _PRIOR_LABELS)).astype(np.float32)
    return shift


def _relative_length(visible: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each prompt, how long its visible answers are relative to all prompts; 1 where none is known."""
    known = np.isfinite(visible)
    if not known.any():
        return np.ones(len(visible))
    logs = np.log(np.maximum(np.where(known, visible, 1.0), 1.0))
    per_llm = logs.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, logs - per_llm, 0.0)
    mean = centred.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    factor: NDArray[np.float64] = np.exp(np.clip(mean, -np.log(_SPREAD), np.log(_SPREAD)))
    return factor


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Price(_Entry):
    """List price of an LLM in USD per million tokens; None is unknown, never free."""

    input_usd_per_mtok: float | None = Field(ge=0)
    output_usd_per_mtok: float | None = Field(ge=0)
    source: str | None


class Asked(_Entry):
    """Where the questions of a part of a data set are from, so that its labels can be checked.

    Attributes:
        benchmarks: Published benchmarks that ask the same questions or others drawn alike.
        chance: Share of right answers that guessing reaches: 0.25 with four options.
    """

    benchmarks: tuple[str, ...] = ()
    chance: float | None = Field(default=None, gt=0, lt=1)


class Source(_Entry):
    """Licence and attribution of a data set, and the published benchmarks that ask its questions.

    Attributes:
        licence: Of the data.
        attribution: Who made them, and where they are from.
        benchmarks: Published scores on these are not read when the set is left out, since its questions are in them.
        asks: By category, what its labels can be checked against; keys as for `CorrectnessMatrix.rows_of`.
    """

    licence: str
    attribution: str
    benchmarks: tuple[str, ...] = ()
    asks: dict[str, Asked] = Field(default_factory=dict)


class _Reasoning(_Entry):
    tokens: float = Field(ge=0)
    source: str


@dataclass(frozen=True, slots=True)
class LLMFacts:
    """One row of models.csv.

    Attributes:
        vendor: Who made it.
        chat: Whether it is tuned to answer; base models are not routed to.
        thinking: Whether it reasons before it answers.
    """

    vendor: str
    chat: bool
    thinking: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything told rather than learned; each mapping may lack entries.

    Attributes:
        llms: By canonical id.
        prices: By canonical id.
        reasoning_tokens: Mean hidden tokens per request, by canonical id.
        sources: By data set name.
    """

    llms: Mapping[str, LLMFacts]
    prices: Mapping[str, Price] = field(default_factory=dict)
    reasoning_tokens: Mapping[str, float] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)


def read_facts(
    llm_table: Path | None, *, prices: Path | None = None, reasoning: Path | None = None, sources: Path | None = None
) -> Facts:
    """Reads all files that are given.

    Args:
        llm_table: models.csv; without it every LLM counts as a chat LLM of an unknown vendor that does not reason.
        prices: {"llms": {id: {"input_usd_per_mtok", "output_usd_per_mtok", "source"}}}.
        reasoning: {"llms": {id: {"tokens", "source"}}}.
        sources: {"datasets": {name: {"licence", "attribution", optionally "benchmarks": [name] and "asks":
            {category: {"benchmarks": [name], "chance"}}}}}.

    Returns:
        The facts.

    Raises:
        DataError: A file is missing or not as described.
    """
    hidden = _entries(reasoning, "llms", TypeAdapter(dict[str, _Reasoning]))
    return Facts(
        llms=read_llm_table(llm_table) if llm_table else {},
        prices=_entries(prices, "llms", TypeAdapter(dict[str, Price])),
        reasoning_tokens={llm: entry.tokens for llm, entry in hidden.items()},
        sources=_entries(sources, "datasets", TypeAdapter(dict[str, Source])),
    )


def find_llm_table(data: list[Path]) -> Path | None:
    """The models.csv in or beside the first data folder that has one, or None."""
    return find_beside(data, "models.csv", Path.is_file)


def read_llm_table(file: Path) -> dict[str, LLMFacts]:
    """Reads models.csv: columns canonical, vendor, kind ("chat" or "base"), thinking ("True" or "False").

    Args:
        file: Where it is. An LLM may have several rows, one per data set (column dataset). Data sets may name its
            vendor differently, of which the first but "other" counts, and may have run it with reasoning and without,
            which counts as with; everything else must agree.

    Returns:
        Facts by canonical id.

    Raises:
        DataError: The file is missing, lacks a column or contradicts itself.
    """
    rows: dict[tuple[str, str], LLMFacts] = {}
    facts: dict[str, LLMFacts] = {}
    for number, row in enumerate(csv.DictReader(_text(file).splitlines()), start=2):
        missing = [c for c in ("canonical", "vendor", "kind", "thinking") if not row.get(c)]
        if missing:
            raise DataError(f"{file}: line {number}: {missing} expected, found {row}.")
        llm, found = row["canonical"], LLMFacts(row["vendor"], row["kind"] == "chat", row["thinking"] == "True")
        of_set = rows.setdefault((llm, row.get("dataset") or ""), found)
        known = facts.setdefault(llm, found)
        if of_set != found or known.chat != found.chat:
            raise DataError(f"{file}: line {number}: {llm} was {known} before, found {found}.")
        vendor = found.vendor if known.vendor == _NO_VENDOR else known.vendor
        facts[llm] = LLMFacts(vendor, found.chat, known.thinking or found.thinking)
    return facts


_T = TypeVar("_T")


def _entries(file: Path | None, key: str, adapter: TypeAdapter[dict[str, _T]]) -> dict[str, _T]:
    if file is None:
        return {}
    try:
        raw = json.loads(_text(file))
        return adapter.validate_python(raw.get(key) if isinstance(raw, dict) else raw)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        shown = "; ".join(problems[:_SHOWN]) + ("; …" if len(problems) > _SHOWN else "")
        raise DataError(f"{file}: expected {{{key!r}: {{name: entry}}}}, found otherwise: {shown}.") from error
    except ValueError as error:
        raise DataError(f"{file}: expected JSON, found otherwise: {error}.") from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error}). Check the path.") from error
