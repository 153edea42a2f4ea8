"""The learned LLMs by name: which row a candidate stands for, and what is near when none does."""

import difflib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.artifact.names import EFFORTS, REASONING_EFFORTS, LLMName, aliases_of, read_name
from embedllm_router.errors import ConfigError

__all__ = ["Catalog", "How", "Match"]

_N_NEAREST: Final = 3

How = Literal["exact", "spelling", "alias", "newest release", "other effort", "none"]


@dataclass(frozen=True, slots=True)
class Match:
    """What a name stands for.

    Attributes:
        name: The name that was looked up.
        llm: The learned LLM's canonical id, or None when the name matches none.
        how: "exact", "spelling" (case, provider prefix, dots, the way of serving), "alias" (the provider lets the name
            stand for this release), "newest release" (the name has no date, the id has one), "other effort" (the same
            LLM, told to reason more or less) or "none".
        nearest: Known ids of the same vendor and family, the closest first; only for "none".
    """

    name: str
    llm: str | None
    how: How
    nearest: tuple[str, ...] = ()


class Catalog:
    """Learned LLMs in artifact order.

    Args:
        llms: The manifest's list; position is row.
    """

    def __init__(self, llms: Sequence[LearnedLLM]) -> None:
        self.llms = tuple(llms)
        self.ids = tuple(llm.id for llm in self.llms)
        self.names = tuple(read_name(llm_id) for llm_id in self.ids)
        self._rows = {llm_id: row for row, llm_id in enumerate(self.ids)}
        self._by_key: dict[tuple[str, str, str | None, bool], str] = {}
        self._loosely: dict[tuple[str, str, str | None, bool], str] = {}
        self._newest: dict[tuple[str, str | None, bool], str] = {}
        self._fill()

    def row(self, llm: str) -> int:
        """Row of a canonical id in every tensor.

        Raises:
            ConfigError: The id is not in the artifact.
        """
        if llm not in self._rows:
            close = difflib.get_close_matches(llm.lower(), self.ids, n=_N_NEAREST, cutoff=0.0)
            raise ConfigError(f"the artifact does not know the LLM {llm!r}. Nearest known ids: {', '.join(close)}.")
        return self._rows[llm]

    def match(self, name: str, effort: str | None = None) -> Match:
        """Finds the learned LLM a deployment or model name stands for.

        A name with a release date never matches another release, and an alias only the release it stands for now:
        anything else would be a guess about another LLM.

        Args:
            name: As the deployment has it.
            effort: The reasoning effort it is set to, one of `EFFORTS`; where the weights know no such variant, the
                LLM is taken without one. None sets none.
        """
        if effort is None and name in self._rows:
            return Match(name, name, "exact")
        for wanted in _efforts(effort):
            for llm, how in self._found(name, wanted):
                return Match(name, llm, how)
        return Match(name, None, "none", self.nearest(name))

    def at_effort(self, names: Sequence[str], effort: str) -> Match:
        """Finds the learned LLM that a name stands for when each request sets a reasoning effort.

        An LLM that reasons unless told otherwise is learned at medium effort, and a variant that is only said to
        reason ("…:thinking") at high effort. One that was told not to is learned as "…:none", or by its bare name.

        Args:
            names: Names of the LLM, the surest first.
            effort: One of `REASONING_EFFORTS`.

        Returns:
            The match; where the weights know no such variant the one of the nearest effort, which is "other effort",
            and none where they know none that reasons, or does not, as the LLM does at this effort.
        """
        if effort == "none":
            wanted = [spelled for name in names for spelled in (f"{name}:none", name)]
            found = next((one for name in wanted if (one := self._variant(name, None, thinking=False))), None)
            return found or Match(names[0], None, "none", self.nearest(names[0]))
        steps = REASONING_EFFORTS[1:]
        for step in sorted(steps, key=lambda one: abs(steps.index(one) - steps.index(effort))):
            variants = (step, *{"medium": (None,), "high": ("thinking",)}.get(step, ()))
            for name, variant in itertools.product(names, variants):
                found = self._variant(name, variant, thinking=True)
                if found is not None:
                    return found if step == effort else replace(found, how="other effort")
        return Match(names[0], None, "none", self.nearest(names[0]))

    def base_of(self, llm: str) -> str:
        """A canonical id without the reasoning effort that it names."""
        effort = self.names[self.row(llm)].effort
        return llm if effort is None else llm.removesuffix(f":{effort}")

    def _variant(self, name: str, effort: str | None, *, thinking: bool) -> Match | None:
        """What a name stands for with exactly this effort, if that reasons or does not as it should."""
        found = self.match(name, effort)
        if found.llm is None:
            return None
        row = self._rows[found.llm]
        return found if (self.names[row].effort, self.llms[row].thinking) == (effort, thinking) else None

    def nearest(self, name: str) -> tuple[str, ...]:
        """Up to three known ids of the vendor and family that a name says, the most similar first.

        A name without a known vendor is near to an id that it differs from by a slip of the pen, and to no other.
        """
        read = read_name(name)
        if read.vendor is None:
            spelled = {one.spelling: self.ids[row] for row, one in enumerate(self.names) if one.vendor is None}
            close = difflib.get_close_matches(read.spelling, spelled, n=_N_NEAREST)
        else:
            spelled = {f"{self.names[i].spelling}-{self.names[i].release}:{i}": self.ids[i] for i in self._alike(read)}
            close = difflib.get_close_matches(f"{read.spelling}-{read.release}", spelled, n=_N_NEAREST, cutoff=0.0)
        return tuple(spelled[one] for one in close)

    def _alike(self, read: LLMName) -> list[int]:
        """Rows of the same vendor and family; where the family has none, of families that are parts of it."""
        of_vendor = [row for row, one in enumerate(self.names) if one.vendor == read.vendor]
        words = set(read.family.split("-"))
        same = [row for row in of_vendor if self.names[row].family == read.family]
        return same or [row for row in of_vendor if words <= set(self.names[row].family.split("-"))]

    def _fill(self) -> None:
        in_order = sorted(zip(self.ids, self.names, strict=True), key=lambda one: (one[1].release, one[0]))
        for llm_id, name in in_order:  # of several releases the newest is kept last
            self._by_key.setdefault(name.key, llm_id)
            self._loosely.setdefault(_loose(name), llm_id)
            self._newest[name.loose, name.effort, name.fine_tuned] = llm_id
        for llm_id, name in in_order:
            stood_for = aliases_of(llm_id)
            if not name.release and len(stood_for) == 1:  # it has never been another release
                dated = _with_effort(read_name(stood_for[0].stands_for), name.effort)
                self._by_key.setdefault(dated.key, llm_id)

    def _found(self, name: str, effort: str | None) -> Iterator[tuple[str, How]]:
        """The learned LLMs that a name can mean, the surest first."""
        read = _with_effort(read_name(name), effort)
        if read.key in self._by_key:
            yield self._by_key[read.key], "spelling"
        if read.base:
            return
        if _loose(read) in self._loosely:
            yield self._loosely[_loose(read)], "spelling"
        aliases = () if read.fine_tuned else aliases_of(name)
        if aliases:
            release = _with_effort(read_name(aliases[-1].stands_for), read.effort)
            for index, key in ((self._by_key, release.key), (self._loosely, _loose(release))):
                if key in index:
                    yield index[key], "alias"
            return
        newest = self._newest.get((read.loose, read.effort, read.fine_tuned))
        if not read.release and newest is not None:
            yield newest, "newest release"


def _efforts(effort: str | None) -> tuple[str | None, ...]:
    """The variants of an LLM that an effort may mean, the surest first; at last the LLM as its name has it."""
    if effort not in EFFORTS:
        return (None,)
    others = ("thinking",) if effort != "thinking" else ("high",)
    return (effort, *others, None)


def _with_effort(name: LLMName, effort: str | None) -> LLMName:
    return name if effort is None else replace(name, effort=effort)


def _loose(name: LLMName) -> tuple[str, str, str | None, bool]:
    return name.loose, name.release, name.effort, name.fine_tuned
