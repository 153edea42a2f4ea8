"""What training must be told because no correctness data say it: who made an LLM, what it costs, what it hides.

It reads models.csv and the JSON files of weights/. It knows nothing of prompts or labels.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from embedllm_router.errors import DataError

__all__ = ["Facts", "LLMFacts", "Price", "Source", "find_llm_table", "read_facts", "read_llm_table"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Price(_Entry):
    """List price of an LLM in USD per million tokens; None is unknown, never free."""

    input_usd_per_mtok: float | None = Field(ge=0)
    output_usd_per_mtok: float | None = Field(ge=0)
    source: str | None


class Source(_Entry):
    """Licence and attribution of a data set."""

    licence: str
    attribution: str


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
        sources: {"datasets": {name: {"licence", "attribution"}}}.

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
    candidates = [place / "models.csv" for folder in data for place in (folder, folder.resolve().parent)]
    return next((file for file in candidates if file.is_file()), None)


def read_llm_table(file: Path) -> dict[str, LLMFacts]:
    """Reads models.csv: columns canonical, vendor, kind ("chat" or "base"), thinking ("True" or "False").

    Args:
        file: Where it is. An LLM may have several rows, one per data set; they must agree.

    Returns:
        Facts by canonical id.

    Raises:
        DataError: The file is missing, lacks a column or contradicts itself.
    """
    facts: dict[str, LLMFacts] = {}
    for number, row in enumerate(csv.DictReader(_text(file).splitlines()), start=2):
        missing = [c for c in ("canonical", "vendor", "kind", "thinking") if not row.get(c)]
        if missing:
            raise DataError(f"{file}: line {number}: {missing} expected, found {row}.")
        found = LLMFacts(row["vendor"], row["kind"] == "chat", row["thinking"] == "True")
        known = facts.setdefault(row["canonical"], found)
        if known != found:
            raise DataError(f"{file}: line {number}: {row['canonical']} was {known} before, found {found}.")
    return facts


_T = TypeVar("_T")


def _entries(file: Path | None, key: str, adapter: TypeAdapter[dict[str, _T]]) -> dict[str, _T]:
    if file is None:
        return {}
    try:
        raw = json.loads(_text(file))
        return adapter.validate_python(raw.get(key) if isinstance(raw, dict) else raw)
    except (ValueError, ValidationError) as error:
        raise DataError(f"{file}: expected {{{key!r}: {{name: entry}}}}, found otherwise: {error}") from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error}). Check the path.") from error
