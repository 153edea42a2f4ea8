"""All baselines by name, ready to fit on the train part and to predict the test part.

It knows nothing of metrics.

Ways to choose that predict nothing of a prompt: random, the best single LLM, and two that know the answers.

Their scores order LLMs; they are no probabilities, so correctness metrics are not taken of them. It knows nothing of
cost.

The two yardsticks each training run reports: LLM means and nearest neighbours, on its own split. Numpy only.

It knows nothing of artifacts; the full set of baselines is in baselines.py.

How complex a prompt looks, by rules: a re-statement of the heuristic scoring of LiteLLM's complexity router.

LiteLLM 1.106 adds up weighted signs (length, code, reasoning and technical words, simple questions, steps, several
question marks) and cuts the sum into four tiers. The signs, weights and cuts here are its; the word lists are shorter
ones of our own, and mathematics counts as technical. It knows nothing of LLMs.

Adam (Kingma & Ba, 2015) for lists of numpy arrays. It knows nothing of what they parametrise.

Baselines with parameters: the paper's matrix factorisation, logistic regression per LLM, item response theory.

Gradients are written out in numpy, so evaluation needs no torch. It knows nothing of the router's own decoder.

Baselines that average over similar prompts: all of them, the nearest, a cluster, a complexity tier.

It knows nothing of gradients; learned_baselines.py has those.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.inputs import Part, Standardiser, find_pools, llm_means

__all__ = [
    "BASELINES",
    "N_TIERS",
    "UNTRAINED",
    "Adam",
    "Baseline",
    "BaselineOptions",
    "BestSingle",
    "Clusters",
    "ComplexityTiers",
    "DatasetOracle",
    "ItemResponse",
    "LLMMeans",
    "LogisticPerLLM",
    "MatrixFactorisation",
    "NearestNeighbours",
    "Oracle",
    "RandomChoice",
    "Told",
    "complexity_score",
    "complexity_tier",
    "knn",
    "make_baseline",
    "parse_names",
    "repeat_means",
    "unit_rows",
]

_UNSEEN = -1.0


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


_CANDIDATES: Final = 400  # nearest prompts looked through for labelled ones
_PRIOR_LABELS: Final = 5.0  # weight of an LLM's mean beside its neighbours' labels


def repeat_means(means: NDArray[np.float32], n_prompts: int) -> NDArray[np.float32]:
    """Every LLM's training mean for every prompt, float32 (n_prompts, n_llms)."""
    return np.repeat(means[None, :], n_prompts, axis=0)


def knn(  # noqa: PLR0913 - a training set is four arrays
    train_x: NDArray[np.float32],
    labels: NDArray[np.float32],
    observed: NDArray[np.bool_],
    means: NDArray[np.float32],
    x: NDArray[np.float32],
    *,
    k: int = 40,
) -> NDArray[np.float32]:
    """Mean label of the k nearest training prompts that have one, per LLM, by cosine similarity.

    Args:
        train_x: float32 (n_train, d).
        labels: float32 (n_train, n_llms), 0 or 1.
        observed: bool (n_train, n_llms).
        means: Each LLM's training mean, float32 (n_llms,), counted as a few labels.
        x: Prompts to predict, float32 (n, d).
        k: Neighbours per LLM.

    Returns:
        Probabilities, float32 (n, n_llms).
    """
    bank = unit_rows(train_x)
    out = np.empty((len(x), labels.shape[1]), dtype=np.float32)
    n_near = min(_CANDIDATES, len(bank))
    for row, query in enumerate(unit_rows(x)):
        similarity = bank @ query
        near = np.argpartition(-similarity, n_near - 1)[:n_near]
        near = near[np.argsort(-similarity[near], kind="stable")]
        used = observed[near] & (np.cumsum(observed[near], axis=0) <= k)
        right = (labels[near] * used).sum(axis=0)
        out[row] = (right + _PRIOR_LABELS * means) / (used.sum(axis=0) + _PRIOR_LABELS)
    return out


def unit_rows(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row scaled to length one, float32 (n, d); a row of zeros stays one."""
    unit: NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    return unit


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


_MEAN_DECAY: Final = 0.9
_SQUARE_DECAY: Final = 0.999
_EPSILON: Final = 1e-8


class Adam:
    """Changes parameters in place.

    Args:
        parameters: float32 arrays of any shapes.
        learning_rate: Step size.
    """

    def __init__(self, parameters: Sequence[NDArray[np.float32]], learning_rate: float) -> None:
        self._parameters = list(parameters)
        self._learning_rate = learning_rate
        self._means = [np.zeros_like(p) for p in parameters]
        self._squares = [np.zeros_like(p) for p in parameters]
        self._steps = 0

    def step(self, gradients: Sequence[NDArray[np.float32]]) -> None:
        """One step against the gradients, given in the parameters' order and shapes."""
        self._steps += 1
        rate = np.float32(
            self._learning_rate * (1 - _SQUARE_DECAY**self._steps) ** 0.5 / (1 - _MEAN_DECAY**self._steps)
        )
        for i, gradient in enumerate(gradients):
            self._means[i] += np.float32(1 - _MEAN_DECAY) * (gradient - self._means[i])
            self._squares[i] += np.float32(1 - _SQUARE_DECAY) * (gradient * gradient - self._squares[i])
            self._parameters[i] -= rate * self._means[i] / (np.sqrt(self._squares[i]) + np.float32(_EPSILON))


Matrix = NDArray[np.float32]
Told = Callable[[str, int, int], None]
"""Called with a baseline's name, steps done and steps planned."""

_NOISE_BLOCK: Final = 1 << 22  # normal deviates drawn once and reused at random offsets: drawing is half the time
_NEWTON_STEPS: Final = 8
_MAX_LOGIT: Final = 30.0


class MatrixFactorisation:
    """EmbedLLM's decoder as its reference code trains it: `logit = w · (e_llm ∘ (A·(x + noise) + b)) + c`.

    Pairs of prompt and LLM in random batches, Adam, log-loss (arXiv 2410.02223). The code has two outputs under a
    softmax; their difference is the logit here. Embeddings are scaled to length about 1 as the paper's are.

    Args:
        d_llm: Length of an LLM embedding.
        noise: Standard deviation of the noise on the prompt embedding (alpha).
        epochs: Passes over all pairs.
        learning_rate: Adam's.
        batch_pairs: Pairs per step.
        seed: Decides initial weights, order and noise.
        told: Hears of each epoch.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(  # noqa: PLR0913 - the paper's settings
        self,
        *,
        d_llm: int = 232,
        noise: float = 0.05,
        epochs: int = 50,
        learning_rate: float = 1e-4,
        batch_pairs: int = 2048,
        seed: int = 0,
        told: Told = lambda *_: None,
    ) -> None:
        self._d_llm, self._noise, self.epochs = d_llm, np.float32(noise), epochs
        self._learning_rate, self._batch, self._seed, self._told = learning_rate, batch_pairs, seed, told

    def fit(self, train: Part) -> None:
        """Trains for the number of epochs given."""
        rng = np.random.default_rng(self._seed)
        self._standardiser = Standardiser.fit(train.x)
        z = self._standardiser.apply(train.x)
        rows, columns = np.nonzero(train.matrix.observed)
        labels = train.matrix.labels()[rows, columns]
        self._start(rng, z.shape[1], len(train.matrix.llm_ids))
        adam = Adam([self._e, self._a, self._b, self._w, self._c], self._learning_rate)
        block = rng.standard_normal(max(_NOISE_BLOCK, 2 * self._batch * z.shape[1]), dtype=np.float32) * self._noise
        for epoch in range(self.epochs):
            for batch in np.array_split(rng.permutation(len(rows)), max(len(rows) // self._batch, 1)):
                start = int(rng.integers(0, len(block) - len(batch) * z.shape[1] + 1))
                noise = block[start : start + len(batch) * z.shape[1]].reshape(len(batch), -1)
                adam.step(self._gradients(z[rows[batch]] + noise, columns[batch], labels[batch]))
            self._told("mf", epoch + 1, self.epochs)

    def predict(self, test: Part) -> Matrix:
        """Probabilities without noise, float32 (n_prompts, n_llms)."""
        projected = self._standardiser.apply(test.x) @ self._a.T + self._b
        return _sigmoid(projected @ (self._e * self._w).T + self._c)

    def _start(self, rng: np.random.Generator, d_prompt: int, n_llms: int) -> None:
        """Weights as torch initialises an embedding and two linear layers."""
        bound, out_bound = d_prompt**-0.5, self._d_llm**-0.5
        self._e = rng.standard_normal((n_llms, self._d_llm), dtype=np.float32)
        self._a = rng.uniform(-bound, bound, (self._d_llm, d_prompt)).astype(np.float32)
        self._b = rng.uniform(-bound, bound, self._d_llm).astype(np.float32)
        self._w = rng.uniform(-out_bound, out_bound, self._d_llm).astype(np.float32)
        self._c = np.zeros(1, dtype=np.float32)

    def _gradients(self, z: Matrix, llms: NDArray[np.int64], labels: Matrix) -> list[Matrix]:
        """Of the batch's mean log-loss, in the order Adam was given the parameters."""
        projected, e = z @ self._a.T + self._b, self._e[llms]
        product = projected * e
        error = (_sigmoid(product @ self._w + self._c) - labels) / np.float32(len(labels))
        back = error[:, None] * self._w
        to_projected, to_e = back * e, np.zeros_like(self._e)
        order = np.argsort(llms, kind="stable")
        starts = np.flatnonzero(np.diff(llms[order], prepend=-1))
        to_e[llms[order][starts]] = np.add.reduceat((back * projected)[order], starts, axis=0)
        return [to_e, to_projected.T @ z, to_projected.sum(axis=0), product.T @ error, error.sum(keepdims=True)]


class LogisticPerLLM:
    """One ridge-penalised logistic regression per LLM, by Newton's method.

    Args:
        penalty: Weight of half the squared weights, the intercept's left out.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(self, penalty: float = 1.0) -> None:
        self._penalty = penalty

    def fit(self, train: Part) -> None:
        """Fits every LLM to the prompts it was graded on; one without labels gets its mean."""
        self._standardiser = Standardiser.fit(train.x)
        z = _with_one(self._standardiser.apply(train.x))
        labels, observed = train.matrix.labels(), train.matrix.observed
        start = _logit(llm_means(train.matrix))
        columns = [self._fit_one(z[seen], y[seen], s) for seen, y, s in zip(observed.T, labels.T, start, strict=True)]
        self._weights = np.stack(columns, axis=1)

    def predict(self, test: Part) -> Matrix:
        """Probabilities, float32 (n_prompts, n_llms)."""
        return _sigmoid(_with_one(self._standardiser.apply(test.x)) @ self._weights)

    def _fit_one(self, z: Matrix, labels: Matrix, start: np.float32) -> Matrix:
        weights = np.zeros(z.shape[1], dtype=np.float32)
        weights[-1] = start
        ridge = np.full(z.shape[1], self._penalty, dtype=np.float32)
        ridge[-1] = 1e-3
        for _ in range(_NEWTON_STEPS if len(z) else 0):
            p = _sigmoid(z @ weights)
            curvature = (z * (p * (1 - p))[:, None]).T @ z + np.diag(ridge)
            step = np.linalg.solve(curvature, z.T @ (p - labels) + ridge * weights)
            weights = (weights - step).astype(np.float32)
            if float(np.abs(step).max()) < 1e-3:  # noqa: PLR2004 - far below any effect on a probability
                break
        return weights


class ItemResponse:
    """The two-parameter logistic model of item response theory: `logit = a(x) · (ability_llm - b(x))`.

    Discrimination a > 0 and difficulty b of a prompt are amortised: linear in its embedding, a through a softplus
    (after IRT-Router, arXiv 2506.01048, with one dimension of ability). Whole rows of the matrix per step, Adam.

    Args:
        epochs: Passes over all prompts.
        learning_rate: Adam's.
        batch_prompts: Prompts per step.
        seed: Decides initial weights and order.
        told: Hears of each epoch.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(
        self,
        *,
        epochs: int = 30,
        learning_rate: float = 5e-3,
        batch_prompts: int = 256,
        seed: int = 0,
        told: Told = lambda *_: None,
    ) -> None:
        self._epochs, self._learning_rate, self._batch = epochs, learning_rate, batch_prompts
        self._seed, self._told = seed, told

    def fit(self, train: Part) -> None:
        """Trains for the number of epochs given."""
        rng = np.random.default_rng(self._seed)
        self._standardiser = Standardiser.fit(train.x)
        z, labels, observed = (
            _with_one(self._standardiser.apply(train.x)),
            train.matrix.labels(),
            train.matrix.observed.astype(np.float32),
        )
        self._ability = _logit(llm_means(train.matrix))
        self._slope = np.zeros(z.shape[1], dtype=np.float32)
        self._slope[-1] = np.log(np.expm1(1.0))  # every discrimination starts at 1
        self._difficulty = np.zeros(z.shape[1], dtype=np.float32)
        adam = Adam([self._ability, self._slope, self._difficulty], self._learning_rate)
        for epoch in range(self._epochs):
            for rows in np.array_split(rng.permutation(len(z)), max(len(z) // self._batch, 1)):
                adam.step(self._gradients(z[rows], labels[rows], observed[rows]))
            self._told("irt", epoch + 1, self._epochs)

    def predict(self, test: Part) -> Matrix:
        """Probabilities, float32 (n_prompts, n_llms)."""
        z = _with_one(self._standardiser.apply(test.x))
        return _sigmoid(_softplus(z @ self._slope)[:, None] * (self._ability - (z @ self._difficulty)[:, None]))

    def _gradients(self, z: Matrix, labels: Matrix, observed: Matrix) -> list[Matrix]:
        raw = z @ self._slope
        discrimination = _softplus(raw)
        gap = self._ability - (z @ self._difficulty)[:, None]
        error = (_sigmoid(discrimination[:, None] * gap) - labels) * observed / max(float(observed.sum()), 1.0)
        to_raw = (error * gap).sum(axis=1) * _sigmoid(raw)
        scaled = error * discrimination[:, None]
        return [scaled.sum(axis=0), to_raw @ z, -(scaled.sum(axis=1)) @ z]


def _with_one(z: Matrix) -> Matrix:
    return np.concatenate([z, np.ones((len(z), 1), dtype=np.float32)], axis=1)


def _sigmoid(logits: NDArray[np.floating]) -> Matrix:
    p: Matrix = (1 / (1 + np.exp(-np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT)))).astype(np.float32, copy=False)
    return p


def _softplus(x: Matrix) -> Matrix:
    y: Matrix = np.logaddexp(x, np.float32(0))
    return y


def _logit(p: Matrix) -> Matrix:
    x: Matrix = np.log(p / (1 - p))
    return x


_LLOYD_STEPS: Final = 25


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


class NearestNeighbours:
    """Per LLM, mean label of the k most similar train prompts it was graded on; see yardsticks.py.

    Args:
        k: Neighbours.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(self, k: int = 40) -> None:
        self._k = k

    def fit(self, train: Part) -> None:
        """Keeps the train part."""
        self._standardiser = Standardiser.fit(train.x)
        self._x = self._standardiser.apply(train.x)
        self._known = train.matrix
        self._means = llm_means(train.matrix)

    def predict(self, test: Part) -> Matrix:
        """Means of neighbours by cosine, smoothed by the LLM's own mean, float32 (n_prompts, n_llms)."""
        x = self._standardiser.apply(test.x)
        return knn(self._x, self._known.labels(), self._known.observed, self._means, x, k=self._k)


class Clusters:
    """Mean label of the LLM in the prompt's k-means cluster (Avengers-Pro, arXiv 2508.12631; UniRoute, 2502.08773).

    Args:
        n_clusters: Clusters of train prompts.
        prior: Labels that the LLM's own mean counts for.
        seed: Decides the first centres.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(self, n_clusters: int = 64, prior: float = 5.0, seed: int = 0) -> None:
        self._n_clusters, self._prior, self._seed = n_clusters, prior, seed

    def fit(self, train: Part) -> None:
        """Lloyd's algorithm on unit vectors, then counts per cluster."""
        self._standardiser = Standardiser.fit(train.x)
        x = unit_rows(self._standardiser.apply(train.x))
        self._centres = _k_means(x, min(self._n_clusters, len(x)), self._seed)
        self._means = _group_means(_nearest_centre(x, self._centres), len(self._centres), train, self._prior)

    def predict(self, test: Part) -> Matrix:
        """Each cluster's means, float32 (n_prompts, n_llms)."""
        return self._means[_nearest_centre(unit_rows(self._standardiser.apply(test.x)), self._centres)]


class ComplexityTiers:
    """Mean label of the LLM in the prompt's complexity tier, after LiteLLM's heuristic router; see complexity.py.

    LiteLLM leaves it to the user which LLM serves a tier. Here train decides, which is more than LiteLLM can know.

    Args:
        prior: Labels that the LLM's own mean counts for.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(self, prior: float = 5.0) -> None:
        self._prior = prior

    def fit(self, train: Part) -> None:
        """Counts per tier."""
        self._means = _group_means(_tiers(train), N_TIERS, train, self._prior)

    def predict(self, test: Part) -> Matrix:
        """Each tier's means, float32 (n_prompts, n_llms)."""
        return self._means[_tiers(test)]


def _tiers(part: Part) -> NDArray[np.int64]:
    return np.array([complexity_tier(prompt) for prompt in part.matrix.prompts], dtype=np.int64)


def _group_means(group: NDArray[np.int64], n_groups: int, train: Part, prior: float) -> Matrix:
    """Smoothed share of correct answers per group, float32 (n_groups, n_llms)."""
    n_llms = len(train.matrix.llm_ids)
    right, seen = np.zeros((n_groups, n_llms), np.float32), np.zeros((n_groups, n_llms), np.float32)
    np.add.at(right, group, train.matrix.labels() * train.matrix.observed)
    np.add.at(seen, group, train.matrix.observed.astype(np.float32))
    means: Matrix = (right + prior * llm_means(train.matrix)) / (seen + prior)
    return means


def _k_means(x: Matrix, n_clusters: int, seed: int) -> Matrix:
    """Unit centres, float32 (n_clusters, d_prompt); an empty cluster keeps its centre."""
    centres = x[np.random.default_rng(seed).choice(len(x), n_clusters, replace=False)]
    for _ in range(_LLOYD_STEPS):
        group = _nearest_centre(x, centres)
        total = np.zeros_like(centres)
        np.add.at(total, group, x)
        empty = np.bincount(group, minlength=n_clusters) == 0
        centres = np.where(empty[:, None], centres, unit_rows(total))
    return centres


def _nearest_centre(x: Matrix, centres: Matrix) -> NDArray[np.int64]:
    nearest: NDArray[np.int64] = np.argmax(x @ centres.T, axis=1)
    return nearest


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
    """What baselines can be told.

    Attributes:
        seed: Decides whatever is random.
        mf_epochs: Epochs of the paper's matrix factorisation; 50 in the paper.
        told: Hears of the slow ones' progress.
    """

    seed: int = 0
    mf_epochs: int = 50
    told: Told = lambda *_: None


_MAKERS: Final[Mapping[str, Callable[[BaselineOptions], Baseline]]] = {
    "random": lambda o: RandomChoice(o.seed),
    "best_single": lambda _: BestSingle(),
    "llm_means": lambda _: LLMMeans(),
    "complexity": lambda _: ComplexityTiers(),
    "clusters": lambda o: Clusters(seed=o.seed),
    "irt": lambda o: ItemResponse(seed=o.seed, told=o.told),
    "logistic": lambda _: LogisticPerLLM(),
    "mf": lambda o: MatrixFactorisation(epochs=o.mf_epochs, seed=o.seed, told=o.told),
    "knn": lambda _: NearestNeighbours(),
    "dataset_oracle": lambda _: DatasetOracle(),
    "oracle": lambda _: Oracle(),
}
BASELINES: Final = tuple(_MAKERS)
"""Names, roughly from weak to strong; the last two know the test labels."""

UNTRAINED: Final = frozenset({"random", "dataset_oracle", "oracle"})
"""Those that need no train part."""


def make_baseline(name: str, options: BaselineOptions) -> Baseline:
    """A fresh baseline by its name in `BASELINES`."""
    return _MAKERS[name](options)


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
    unknown = [name for name in wanted if name not in _MAKERS]
    if unknown or not wanted:
        raise ConfigError(f"--baselines takes all, none or names out of {', '.join(BASELINES)}; found {text!r}.")
    return tuple(name for name in BASELINES if name in wanted)
