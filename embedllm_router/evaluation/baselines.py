"""Baselines that an evaluation sets beside the artifact, by name: each learns from the train part and scores the test.

The plain ones are here: ways to choose that look at no prompt (random, the best single LLM, two that know the answers),
LLM means, and tiers of complexity. `learned_baselines` has those that learn from prompt embeddings; it is imported when
one of them is made, because it loads torch and scikit-learn.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.inputs import OnProgress, Part, find_pools, llm_means

__all__ = [
    "BASELINES",
    "UNTRAINED",
    "Baseline",
    "BaselineOptions",
    "BestSingle",
    "DatasetOracle",
    "Oracle",
    "complexity_score",
    "complexity_tier",
    "group_means",
    "make_baseline",
    "parse_names",
    "repeat_means",
]

Matrix = NDArray[np.float32]
_UNSEEN: Final = -1.0


class Baseline(Protocol):
    """Something that learns from one part and scores another.

    Attributes:
        probabilistic: Whether its scores are probabilities; if not, only their order means something.
    """

    probabilistic: ClassVar[bool]

    def fit(self, train: Part) -> None:
        """Learns; called once, before `predict`."""

    def predict(self, test: Part) -> NDArray[np.float32]:
        """Scores every prompt and LLM, float32 (n_prompts, n_llms)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineOptions:
    """What is chosen of baselines.

    Attributes:
        seed: Decides whatever is random.
        mf_epochs: Epochs of the paper's matrix factorisation; 50 in the paper.
        on_progress: Called as the slow ones learn.
    """

    seed: int = 0
    mf_epochs: int = 50
    on_progress: OnProgress = lambda *_: None


class RandomChoice:
    """A uniformly random LLM for every prompt.

    Args:
        seed: Decides the choices.
    """

    probabilistic: ClassVar[bool] = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, train: Part) -> None:
        """Learns nothing."""

    def predict(self, test: Part) -> NDArray[np.float32]:
        """Random scores, float32 (n_prompts, n_llms), in [0, 1)."""
        return np.random.default_rng(self._seed).random(test.matrix.observed.shape, dtype=np.float32)


class BestSingle:
    """In every data set, always the LLM that was most often right there in training."""

    probabilistic: ClassVar[bool] = False

    def __init__(self) -> None:
        self._means: dict[str, NDArray[np.float32]] = {}

    def fit(self, train: Part) -> None:
        """Learns each LLM's share of correct answers per data set."""
        self._means = _dataset_means(train.matrix)

    def predict(self, test: Part) -> NDArray[np.float32]:
        """Each LLM's share of correct training answers in the data set, float32 (n_prompts, n_llms)."""
        unseen = np.full(len(test.matrix.llm_ids), _UNSEEN, dtype=np.float32)
        scores = {name: self._means.get(name, unseen) for name in dict.fromkeys(test.matrix.datasets)}
        return np.stack([scores[name] for name in test.matrix.datasets])


class DatasetOracle:
    """In every data set, always the LLM most often right there on test: LLMRouterBench's "Max Expert", in hindsight."""

    probabilistic: ClassVar[bool] = False

    def fit(self, train: Part) -> None:
        """Learns nothing."""

    def predict(self, test: Part) -> NDArray[np.float32]:
        """Each LLM's share of correct answers to the prompts of the data set's pool, float32 (n_prompts, n_llms)."""
        scores = np.full(test.matrix.observed.shape, _UNSEEN, dtype=np.float32)
        datasets = np.array(test.matrix.datasets)
        for pool in find_pools(test.matrix):
            scores[np.ix_(datasets == pool.dataset, pool.columns)] = pool.block(test.matrix.labels()).mean(axis=0)
        return scores


class Oracle:
    """For every prompt, an LLM that is right if any is: the bound no router can beat."""

    probabilistic: ClassVar[bool] = False

    def fit(self, train: Part) -> None:
        """Learns nothing."""

    def predict(self, test: Part) -> NDArray[np.float32]:
        """The test labels themselves, float32 (n_prompts, n_llms); -1 where there is none."""
        return np.where(test.matrix.observed, test.matrix.labels(), np.float32(_UNSEEN))


def _dataset_means(matrix: CorrectnessMatrix) -> dict[str, NDArray[np.float32]]:
    datasets, labels = np.array(matrix.datasets), matrix.labels()
    means = {}
    for name in dict.fromkeys(matrix.datasets):
        mine = datasets == name
        seen = matrix.observed[mine].sum(axis=0)
        right = (labels[mine] * matrix.observed[mine]).sum(axis=0)
        means[name] = np.where(seen > 0, right / np.maximum(seen, 1), _UNSEEN).astype(np.float32)
    return means


def repeat_means(means: NDArray[np.float32], n_prompts: int) -> NDArray[np.float32]:
    """Every LLM's training mean for every prompt, float32 (n_prompts, n_llms)."""
    return np.repeat(means[None, :], n_prompts, axis=0)


# How complex a prompt looks: a re-statement of the heuristic of LiteLLM's complexity router. LiteLLM 1.106 adds up
# weighted signs (length, code, reasoning and technical words, simple questions, steps, several question marks) and cuts
# the sum into four tiers. The signs, weights and cuts here are its; the word lists are shorter ones of our own, and
# mathematics counts as technical.

N_TIERS: Final = 4
"""Simple, medium, complex, reasoning."""

_CUTS: Final = (0.15, 0.35, 0.60)
_SHORT_TOKENS, _LONG_TOKENS = 15, 400
_CHARS_PER_TOKEN: Final = 4
_MANY_QUESTIONS: Final = 3
_OVERRIDE: Final = 2  # this many reasoning words make a prompt a reasoning one if it is not simple


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(alternatives) + r")\b")


_CODE: Final = _words(
    "functions?", "class", "def", "import", "return", "algorithms?", "python", "java(?:script)?", "sql", "api", "debug",
    "exception", "compile", "database", "query", "array", "refactor", "implement",
)  # fmt: skip
_REASONING: Final = _words(
    "step by step", "think (?:through|carefully)", "show your work", "explain your reasoning", "logical(?:ly)?",
    "deduce", "infer", "conclude", "evaluate", "prove", "chain of thought", "pros and cons", "compare and contrast",
)  # fmt: skip
_TECHNICAL: Final = _words(
    "architecture", "distributed", "neural", "machine learning", "protocol", "memory", "cpu", "parallel", "latency",
    "encryption", "integral", "derivative", "equation", "theorem", "matrix", "probability", "polynomial", "vector",
)  # fmt: skip
_SIMPLE: Final = _words(
    "what is", "what's", "who (?:is|was)", "when (?:did|was)", "where (?:is|was)", "how (?:many|much)", "define",
    "definition of", "true or false", "yes or no", "hello", "hi", "thanks",
)  # fmt: skip
_STEPS: Final = re.compile(r"first.*?then|step\s*\d|\d+\.\s|[a-z]\)\s")


def complexity_tier(prompt: str) -> int:
    """Tier of a prompt: 0 simple, 1 medium, 2 complex, 3 reasoning."""
    score = complexity_score(prompt)
    if score >= _CUTS[0] and _count(_REASONING, prompt.lower()) >= _OVERRIDE:
        return N_TIERS - 1
    return sum(score >= cut for cut in _CUTS)


def complexity_score(prompt: str) -> float:
    """Weighted sum of signs, between about -0.15 and 1."""
    text, tokens = prompt.lower(), len(prompt) // _CHARS_PER_TOKEN
    length = (tokens > _LONG_TOKENS) - (tokens < _SHORT_TOKENS)
    return (
        0.10 * length
        + 0.30 * _graded(_count(_CODE, text), (1, 2), (0.5, 1.0))
        + 0.25 * _graded(_count(_REASONING, text), (1, 2), (0.7, 1.0))
        + 0.25 * _graded(_count(_TECHNICAL, text), (2, 4), (0.5, 1.0))
        - 0.05 * (_count(_SIMPLE, text) > 0)
        + 0.03 * 0.5 * bool(_STEPS.search(text))
        + 0.02 * 0.5 * (prompt.count("?") > _MANY_QUESTIONS)
    )


def _count(pattern: re.Pattern[str], text: str) -> int:
    """How many different words of a list occur."""
    return len(set(pattern.findall(text)))


def _graded(count: int, at: tuple[int, int], values: tuple[float, float]) -> float:
    return values[1] if count >= at[1] else values[0] if count >= at[0] else 0.0


class LLMMeans:
    """Every LLM's share of correct answers in training, whatever the prompt."""

    probabilistic: ClassVar[bool] = True

    def __init__(self) -> None:
        self._means: Matrix = np.zeros(0, dtype=np.float32)

    def fit(self, train: Part) -> None:
        """Counts."""
        self._means = llm_means(train.matrix)

    def predict(self, test: Part) -> Matrix:
        """The means, once per prompt, float32 (n_prompts, n_llms)."""
        return repeat_means(self._means, len(test.x))


class ComplexityTiers:
    """Mean label of the LLM in the prompt's complexity tier, after LiteLLM's heuristic router.

    LiteLLM leaves it to the user which LLM serves a tier. Here train decides, which is more than LiteLLM can know.

    Args:
        mean_labels: Labels that the LLM's own mean counts for.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(self, mean_labels: float = 5.0) -> None:
        self._mean_labels = mean_labels

    def fit(self, train: Part) -> None:
        """Counts per tier."""
        self._means = group_means(_tiers(train), N_TIERS, train, self._mean_labels)

    def predict(self, test: Part) -> Matrix:
        """Each tier's means, float32 (n_prompts, n_llms)."""
        return self._means[_tiers(test)]


def _tiers(part: Part) -> NDArray[np.int64]:
    return np.array([complexity_tier(prompt) for prompt in part.matrix.prompts], dtype=np.int64)


def group_means(group: NDArray[np.integer], n_groups: int, train: Part, mean_labels: float) -> Matrix:
    """Share of correct answers per group and LLM, smoothed by the LLM's mean.

    Args:
        group: Of each train prompt, (n_prompts,), below `n_groups`.
        n_groups: How many groups there are.
        train: Prompts and labels.
        mean_labels: Labels that the LLM's own mean counts for.

    Returns:
        float32 (n_groups, n_llms).
    """
    n_llms = len(train.matrix.llm_ids)
    right, seen = np.zeros((n_groups, n_llms), np.float32), np.zeros((n_groups, n_llms), np.float32)
    np.add.at(right, group, train.matrix.labels() * train.matrix.observed)
    np.add.at(seen, group, train.matrix.observed.astype(np.float32))
    means: Matrix = (right + mean_labels * llm_means(train.matrix)) / (seen + mean_labels)
    return means


BASELINES: Final = (
    "random", "best_single", "llm_means", "complexity", "clusters", "irt", "logistic", "mf", "knn", "dataset_oracle",
    "oracle",
)  # fmt: skip
"""Names, roughly from weak to strong; the last two know the test labels."""

UNTRAINED: Final = frozenset({"random", "dataset_oracle", "oracle"})
"""Those that need no train part."""


def make_baseline(name: str, options: BaselineOptions) -> Baseline:
    """A fresh baseline by its name in `BASELINES`."""
    plain: Mapping[str, Callable[[], Baseline]] = {
        "random": lambda: RandomChoice(options.seed),
        "best_single": BestSingle,
        "llm_means": LLMMeans,
        "complexity": ComplexityTiers,
        "dataset_oracle": DatasetOracle,
        "oracle": Oracle,
    }
    return plain[name]() if name in plain else _learned(name, options)


def _learned(name: str, options: BaselineOptions) -> Baseline:
    from embedllm_router.evaluation import learned_baselines as learned  # noqa: PLC0415 - loads torch and scikit-learn

    makers: Mapping[str, Callable[[], Baseline]] = {
        "clusters": lambda: learned.Clusters(seed=options.seed),
        "irt": lambda: learned.ItemResponse(seed=options.seed, on_progress=options.on_progress),
        "logistic": learned.LogisticPerLLM,
        "mf": lambda: learned.MatrixFactorisation(
            epochs=options.mf_epochs, seed=options.seed, on_progress=options.on_progress
        ),
        "knn": learned.NearestNeighbours,
    }
    return makers[name]()


def parse_names(text: str) -> tuple[str, ...]:
    """Names from "all", "none" or a list separated by commas, in the order of `BASELINES`.

    Raises:
        ConfigError: A name is unknown.
    """
    wanted: Sequence[str] = [part.strip() for part in text.split(",") if part.strip()]
    if wanted == ["none"]:
        return ()
    if wanted == ["all"]:
        return BASELINES
    unknown = [name for name in wanted if name not in BASELINES]
    if unknown or not wanted:
        raise ConfigError(f"--baselines takes all, none or names out of {', '.join(BASELINES)}; found {text!r}.")
    return tuple(name for name in BASELINES if name in wanted)
