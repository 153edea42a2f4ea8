"""The section of a model card that states the contract. It knows nothing but the contract's rows."""

import re
from collections.abc import Sequence

from embedllm_router.artifact.guarantees import rows_of, verdict
from embedllm_router.artifact.manifest import ContractRow

__all__ = ["card_with_contract"]

_HEAD = "## Contract"
_OLD = re.compile(rf"\n{_HEAD}\n.*?(?=\n## |\Z)", re.DOTALL)
_LAST = "\n## Landmarks\n"
_SECTION = """{head}

`min_p_correct` τ chooses the cheapest LLM whose p_correct reaches τ. On {n:,} prompts of the test part, in which some
LLM reached the lowest of these τ, the chosen LLM was right this often:

| τ | prompts | predicted | right | 95 % interval | at least (95 %) | promise |
|---|---|---|---|---|---|---|
{rows}

The intervals are the wider of Clopper and Pearson's (1934) and a bootstrap over questions. A promise is kept where the
one-sided 95 % bound reaches τ. These prompts are benchmarks, not your traffic.
"""


def card_with_contract(card: str, contract: Sequence[ContractRow]) -> str:
    """A model card with a section about the contract, in place of an older such section.

    Args:
        card: Markdown; a section about landmarks stays the last.
        contract: Without rows of floors over all data sets, the section is left out.

    Returns:
        Markdown.
    """
    others = _OLD.sub("", card)
    floors = rows_of(contract, "min_p_correct")
    if not floors:
        return others
    section = _SECTION.format(head=_HEAD, n=floors[0].n_prompts, rows="\n".join(map(_row, floors)))
    body, mark, rest = others.partition(_LAST)
    return f"{body.rstrip()}\n\n{section}{mark}{rest}"


def _row(row: ContractRow) -> str:
    share = f"{row.predicted:.3f} | {row.correct:.3f} | [{row.low:.3f}, {row.high:.3f}] | {row.at_least:.3f}"
    return f"| {row.value:g} | {row.n_prompts:,} | {share} | {verdict(row)} |"
