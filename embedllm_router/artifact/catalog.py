"""The learned LLMs by name: which row a candidate stands for, and what is near when none does."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.errors import ConfigError

__all__ = ["Catalog", "Match"]

_N_NEAREST = 3
_RELEASE = re.compile(r"-(latest|\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{8}|\d{6}|\d{3,4})(?=$|:)")


@dataclass(frozen=True, slots=True)
class Match:
    """What a name stands for.

    Attributes:
        name: The name that was looked up.
        llm: The learned LLM's canonical id, or None when the name matches none.
        how: "exact", "spelling" (case, provider prefix, dots), "newest release" (the name has no date, the id
            has one) or "none".
        nearest: Known ids close to the name, best first; only for "none".
    """

    name: str
    llm: str | None
    how: Literal["exact", "spelling", "newest release", "none"]
    nearest: tuple[str, ...] = ()


class Catalog:
    """Learned LLMs in artifact order.

    Args:
        llms: The manifest's list; position is row.
    """

    def __init__(self, llms: Sequence[LearnedLLM]) -> None:
        self.llms = tuple(llms)
        self.ids = tuple(llm.id for llm in self.llms)
        self._rows = {llm_id: row for row, llm_id in enumerate(self.ids)}
        self._by_spelling: dict[str, str] = {}
        self._by_undated: dict[str, str] = {}
        for llm_id in sorted(self.ids):  # sorted: of several releases the newest is kept last
            self._by_spelling.setdefault(_spelling(llm_id), llm_id)
            self._by_undated[_undated(_spelling(llm_id))] = llm_id

    def row(self, llm: str) -> int:
        """Row of a canonical id in every tensor.

        Raises:
            ConfigError: The id is not in the artifact.
        """
        if llm not in self._rows:
            nearest = ", ".join(self.nearest(llm))
            raise ConfigError(f"the artifact does not know the LLM {llm!r}. Nearest known ids: {nearest}.")
        return self._rows[llm]

    def match(self, name: str) -> Match:
        """Finds the learned LLM a deployment or model name stands for.

        A name with a release date never matches another release: that would be a guess about another LLM.
        """
        if name in self._rows:
            return Match(name, name, "exact")
        spelling = _spelling(name)
        if spelling in self._by_spelling:
            return Match(name, self._by_spelling[spelling], "spelling")
        without_latest = spelling.removesuffix("-latest")
        if _undated(without_latest) == without_latest and without_latest in self._by_undated:
            return Match(name, self._by_undated[without_latest], "newest release")
        return Match(name, None, "none", self.nearest(name))

    def nearest(self, name: str) -> tuple[str, ...]:
        """Up to three known ids that look most like a name, best first."""
        by_spelling = {_spelling(llm_id): llm_id for llm_id in self.ids}
        close = difflib.get_close_matches(_spelling(name), by_spelling, n=_N_NEAREST, cutoff=0.0)
        return tuple(by_spelling[spelling] for spelling in close)


def _spelling(name: str) -> str:
    return name.rsplit("/", maxsplit=1)[-1].lower().replace(".", "-").replace("_", "-").replace("@", "-")


def _undated(spelling: str) -> str:
    return _RELEASE.sub("", spelling)
