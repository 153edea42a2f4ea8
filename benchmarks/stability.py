"""Small changes to a prompt that leave its meaning, and how often the choice changes with them.

The share of choices that stay, 1 - flips / prompts, is RouterArena's robustness (Lu et al., 2025, arXiv 2510.00202; its
`global_utils/robustness.py`), here over generated changes rather than its own noisy prompts. What training perturbs
prompts with (training/fit/encoding.py) is phrased differently, so that this measures more than what was learned.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import Estimate, mean_of
from embedllm_router.routing.decision import Decision
from embedllm_router.routing.policy import Objective, rank
from embedllm_router.routing.pool import CandidatePool
from embedllm_router.routing.router import Router

_TYPO_SHARE: Final = 0.02  # of the words of four letters and more, at least one
_SPACE_SHARE: Final = 0.05
_FIVE_LETTERS: Final = 5  # with fewer there is one pair between first and last letter
GREETINGS: Final = ("Please answer this. ", "Hi! ", "I have a question. ", "Could you help me with this? ")
THANKS: Final = (" Thank you!", " Thanks.", "\n\nThanks in advance!", " Please be careful.")
FRAMES: Final = (
    ("Question: ", ""),
    ("Answer the following question.\n\n", ""),
    ("", "\n\nExplain your answer."),
    ("Here is my question: ", ""),
    ("Solve this:\n", ""),
)
WORDINGS: Final = (
    (re.compile(r"\bWhat is\b"), "Tell me what is"),
    (re.compile(r"\bWhich of the following\b"), "Which one of these"),
    (re.compile(r"\bFind\b"), "Determine"),
    (re.compile(r"\bHow many\b"), "What number of"),
    (re.compile(r"\bdoes not\b"), "doesn't"),
    (re.compile(r"\bis not\b"), "isn't"),
    (re.compile(r"\bcannot\b"), "can't"),
)
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def _typos(text: str, rng: random.Random) -> str:
    words = list(re.finditer(r"[A-Za-z]{4,}", text))
    chosen = rng.sample(words, min(len(words), max(1, round(_TYPO_SHARE * len(words)))))
    letters = list(text)
    for word in chosen:
        long = word.end() - word.start() >= _FIVE_LETTERS
        at = rng.randrange(word.start() + 1, word.end() - 2) if long else word.start() + 1
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def _spaces(text: str, rng: random.Random) -> str:
    doubled = [part + (" " if rng.random() < _SPACE_SHARE else "") for part in text.split(" ")]
    return " ".join(doubled) + rng.choice(("", " ", "\n", "\n\n"))


def _punctuation(text: str, rng: random.Random) -> str:
    return text.rstrip(".?! \n") + rng.choice(("", ".", "?", " ?"))


def _frame(text: str, rng: random.Random) -> str:
    before, after = rng.choice(FRAMES)
    return f"{before}{text}{after}"


def _wording(text: str, _: random.Random) -> str:
    for pattern, other in WORDINGS:
        text = pattern.sub(other, text)
    return text


CHANGES: Mapping[str, Callable[[str, random.Random], str]] = {
    "lower case": lambda text, _: text.lower(),
    "typos": _typos,
    "white space": _spaces,
    "punctuation": _punctuation,
    "greeting": lambda text, rng: rng.choice(GREETINGS) + text,
    "thanks": lambda text, rng: text + rng.choice(THANKS),
    "frame": _frame,
    "wording": _wording,
}
"""A prompt and a source of randomness → the prompt changed, by the kind of change."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a pool's candidates weigh for some prompts; each array is (n_prompts, n_candidates).

    Attributes:
        p_correct: In [0, 1]; NaN where unknown.
        cost_usd: Expected cost; NaN likewise.
        usable: Who could be chosen.
    """

    p_correct: Floats
    cost_usd: Floats
    usable: NDArray[np.bool_]

    @classmethod
    def of(cls, decisions: Sequence[Decision]) -> "Weighed":
        """Stacks decisions about one pool; at least one."""
        return cls(
            np.stack([one.p_correct for one in decisions]),
            np.stack([one.cost_usd for one in decisions]),
            np.stack([one.exclusions == 0 for one in decisions]),
        )

    def utility(self, objective: Objective) -> Floats:
        """p_correct - cost_weight * cost_usd."""
        return self.p_correct - objective.cost_weight * self.cost_usd


@dataclass(frozen=True, slots=True)
class NearTies:
    """Near ties go to favourites; see favourites.py.

    Attributes:
        places: (n_candidates,), place of each among the favourites.
        margin: How much utility may be lost.
    """

    places: Indices
    margin: float


def near_ties_as_served(pool: CandidatePool, objective: Objective, margin: float | None = None) -> NearTies | None:
    """Favourites in the order of the request path, where nobody waits; see `favourites.settled`.

    Args:
        pool: The candidates.
        objective: Its cost weight makes the order.
        margin: The objective's own by default.

    Returns:
        None where the pool knows nothing of its candidates before a prompt.
    """
    if pool.average is None:
        return None
    usual = pool.average.p_correct - objective.cost_weight * pool.average.cost_usd
    places = np.empty(len(usual), dtype=np.intp)
    places[np.argsort(-usual, kind="stable")] = np.arange(len(usual))
    return NearTies(places, objective.near_tie_margin if margin is None else margin)


@dataclass(frozen=True, slots=True)
class Perturbed:
    """Prompts as they are, and after every kind of change.

    Attributes:
        before: As they are.
        after: By kind of change.
        changed: By kind, bool (n_prompts,), whether the change did anything to the prompt.
    """

    before: Weighed
    after: Mapping[str, Weighed]
    changed: Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Flips:
    """What one kind of change does.

    Attributes:
        change: Its name.
        n: Prompts that it changed at all.
        share: Of these, prompts whose choice changed, with its 95 % interval; NaN without any.
        lost: Mean utility that the changed choices lose, by the predictions for the prompt as it was, over all n.
    """

    change: str
    n: int
    share: Estimate
    lost: float

    @property
    def rate(self) -> float:
        """Share of prompts whose choice changed, in [0, 1]; 0 without prompts."""
        return self.share.value if self.n else 0.0


def perturb(router: Router, pool: CandidatePool, prompts: Sequence[str], seed: int = 0) -> Perturbed:
    """Weighs prompts as they are and changed.

    Args:
        router: Loaded weights.
        pool: The candidates.
        prompts: Texts, at least one.
        seed: Of the changes.
    """
    before, after, changed = _weigh(router, pool, prompts), dict[str, Weighed](), dict[str, NDArray[np.bool_]]()
    for name, change in CHANGES.items():
        rng = random.Random(f"{seed} {name}")  # noqa: S311 - seeded, for measuring
        texts = [change(text, rng) for text in prompts]
        after[name] = _weigh(router, pool, texts)
        changed[name] = np.array([new != old for new, old in zip(texts, prompts, strict=True)])
    return Perturbed(before, after, changed)


def choices(weighed: Weighed, objective: Objective, near_ties: NearTies | None = None) -> Indices:
    """Who is chosen for each prompt, as `policy.rank` has it; (n_prompts,).

    Args:
        weighed: Each prompt has a usable candidate.
        objective: What the best candidate is; its limit on cost is not looked at.
        near_ties: What becomes of near ties; None leaves them to the objective. A floor leaves them so, too.
    """
    utility, found = weighed.utility(objective), np.empty(len(weighed.usable), dtype=np.intp)
    for row, usable in enumerate(weighed.usable):
        order, floor_met = rank(objective, weighed.p_correct[row], weighed.cost_usd[row], usable)
        ranking = order[usable[order]].tolist()
        found[row] = ranking[0]
        if near_ties is not None and floor_met is None:
            found[row] = first_favourite(utility[row], ranking, near_ties.places, near_ties.margin)
    return found


def first_favourite(utility: Floats, ranking: Sequence[int], places: Indices, margin: float) -> int:
    """The greatest favourite among those whose utility is within a margin of the best one's.

    Args:
        utility: (n_candidates,); NaN for those outside the ranking.
        ranking: Indices of candidates, best first; at least one.
        places: (n_candidates,), place among the favourites.
        margin: At least 0.

    Returns:
        Its index; equals in place go to the better one.
    """
    least = utility[ranking[0]] - margin
    return min((i for i in ranking if utility[i] >= least), key=lambda i: places[i])


def flips(perturbed: Perturbed, objective: Objective, near_ties: NearTies | None = None) -> list[Flips]:
    """Compares choices before and after, one row per kind of change."""
    first, utility = choices(perturbed.before, objective, near_ties), perturbed.before.utility(objective)
    everyone, rows = np.arange(len(first)), []
    for name, weighed in perturbed.after.items():
        then, changed = choices(weighed, objective, near_ties), perturbed.changed[name]
        lost = (utility[everyone, first] - utility[everyone, then])[changed]
        flipped = np.where(changed, (then != first).astype(np.float64), np.nan)
        rows.append(Flips(name, int(changed.sum()), mean_of(flipped), float(lost.mean()) if changed.any() else 0.0))
    return rows


def _weigh(router: Router, pool: CandidatePool, prompts: Sequence[str]) -> Weighed:
    return Weighed.of([router.route(text, pool=pool).decision for text in prompts])
