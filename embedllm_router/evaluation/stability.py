"""Small changes to a prompt that leave its meaning: does the choice stay the same? Pure, seeded.

The share of choices that stay is RouterArena's robustness (Lu et al., 2025, arXiv 2510.00202), here over generated
changes rather than its own noisy prompts.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from embedllm_router.candidates import CandidatePool
from embedllm_router.policy import Objective
from embedllm_router.router import Router

__all__ = ["CHANGES", "Flips", "measure_flips"]

_TYPO_SHARE = 0.02  # of the words of four letters and more, at least one
_GREETINGS = ("Please answer this. ", "Hi! ", "I have a question. ", "Could you help me with this? ")
_THANKS = (" Thank you!", " Thanks.", "\n\nThanks in advance!", " Please be careful.")


def _typos(text: str, rng: random.Random) -> str:
    words = list(re.finditer(r"[A-Za-z]{4,}", text))
    chosen = rng.sample(words, min(len(words), max(1, round(_TYPO_SHARE * len(words)))))
    letters = list(text)
    for word in chosen:
        at = rng.randrange(word.start() + 1, word.end() - 2) if word.end() - word.start() > 4 else word.start() + 1  # noqa: PLR2004 - first and last letter stay
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def _spaces(text: str, rng: random.Random) -> str:
    parts = text.split(" ")
    doubled = [part + (" " if rng.random() < 0.05 else "") for part in parts]  # noqa: PLR2004 - one space in twenty
    return " ".join(doubled) + rng.choice(("", " ", "\n", "\n\n"))


def _punctuation(text: str, rng: random.Random) -> str:
    stripped = text.rstrip(".?! \n")
    return stripped + rng.choice(("", ".", "?", " ?"))


CHANGES: Mapping[str, Callable[[str, random.Random], str]] = {
    "lower case": lambda text, _: text.lower(),
    "typos": _typos,
    "white space": _spaces,
    "punctuation": _punctuation,
    "greeting": lambda text, rng: rng.choice(_GREETINGS) + text,
    "thanks": lambda text, rng: text + rng.choice(_THANKS),
}
"""A prompt and a source of randomness → the prompt changed, by the kind of change."""


@dataclass(frozen=True, slots=True)
class Flips:
    """What one kind of change does.

    Attributes:
        change: Its name.
        n: Prompts that it changed at all.
        rate: Share of these whose choice changed, in [0, 1].
        lost: Mean utility that the changed choices lose, by the predictions for the prompt as it was, over all n.
    """

    change: str
    n: int
    rate: float
    lost: float


def measure_flips(
    router: Router, pool: CandidatePool, objective: Objective, prompts: Sequence[str], seed: int = 0
) -> list[Flips]:
    """Routes prompts as they are and changed.

    Args:
        router: Loaded weights.
        pool: The candidates.
        objective: What the best candidate is.
        prompts: Texts.
        seed: Of the changes.

    Returns:
        One row per kind of change.
    """
    before = [router.route(text, objective=objective, pool=pool).decision for text in prompts]
    rows = []
    for name, change in CHANGES.items():
        rng = random.Random(f"{seed} {name}")  # noqa: S311 - seeded, for measuring
        n = flips = 0
        lost = 0.0
        for text, decision in zip(prompts, before, strict=True):
            changed = change(text, rng)
            if changed == text:
                continue
            first, then = decision.ranking[0], router.route(changed, objective=objective, pool=pool).decision.ranking[0]
            n, flips = n + 1, flips + (then != first)
            lost += float(decision.utility[first] - decision.utility[then])
        rows.append(Flips(name, n, flips / max(n, 1), lost / max(n, 1)))
    return rows
