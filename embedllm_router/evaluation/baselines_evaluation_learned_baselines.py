"""Baselines with parameters: the paper's matrix factorisation, logistic regression per LLM, item response theory.

Gradients are written out in numpy, so evaluation needs no torch. It knows nothing of the router's own decoder.
"""

from collections.abc import Callable
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.evaluation.baselines_evaluation_adam import Adam
from embedllm_router.evaluation.inputs_evaluation_parts import Part, Standardiser, llm_means

__all__ = ["ItemResponse", "LogisticPerLLM", "MatrixFactorisation", "Told"]

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
