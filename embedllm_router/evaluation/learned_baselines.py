"""Baselines that learn from prompt embeddings, with scikit-learn and torch; `baselines.make_baseline` makes them.

Local ones average labels over similar prompts: the nearest, or a cluster. The others have parameters: the paper's
matrix factorisation, a logistic regression per LLM, and item response theory.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors as Index
from sklearn.preprocessing import normalize
from torch import Tensor, nn

from embedllm_router._stats import logit, sigmoid
from embedllm_router.evaluation.baselines import group_means
from embedllm_router.evaluation.inputs import OnProgress, Part, Standardiser, llm_means

__all__ = ["Clusters", "ItemResponse", "LogisticPerLLM", "MatrixFactorisation", "NearestNeighbours", "knn"]

Matrix = NDArray[np.float32]

# Local baselines

_CANDIDATES: Final = 400  # nearest prompts looked through for labelled ones
_MEAN_LABELS: Final = 5.0  # weight of an LLM's mean beside its neighbours' labels
_QUERIES: Final = 1024  # looked up at once: bounds the memory for distances


def knn(  # noqa: PLR0913 - a training set is four arrays
    train_x: Matrix, labels: Matrix, observed: NDArray[np.bool_], means: Matrix, x: Matrix, *, k: int = 40
) -> Matrix:
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
    index = Index(n_neighbors=min(_CANDIDATES, len(train_x)), metric="cosine", algorithm="brute").fit(train_x)
    out = np.empty((len(x), labels.shape[1]), dtype=np.float32)
    for start in range(0, len(x), _QUERIES):
        found = index.kneighbors(x[start : start + _QUERIES], return_distance=False)
        for row, near in enumerate(found, start):
            used = observed[near] & (np.cumsum(observed[near], axis=0) <= k)
            right = (labels[near] * used).sum(axis=0)
            out[row] = (right + _MEAN_LABELS * means) / (used.sum(axis=0) + _MEAN_LABELS)
    return out


class NearestNeighbours:
    """Per LLM, mean label of the k most similar train prompts it was graded on; see `knn`.

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
        mean_labels: Labels that the LLM's own mean counts for.
        seed: Decides the first centres.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(self, n_clusters: int = 64, mean_labels: float = 5.0, seed: int = 0) -> None:
        self._n_clusters, self._mean_labels, self._seed = n_clusters, mean_labels, seed

    def fit(self, train: Part) -> None:
        """Clusters embeddings of length 1, then counts per cluster."""
        self._standardiser = Standardiser.fit(train.x)
        x = self._unit(train)
        n_clusters = min(self._n_clusters, len(np.unique(x, axis=0)))
        self._clusters = KMeans(n_clusters, n_init=1, random_state=self._seed).fit(x)
        self._means = group_means(self._clusters.labels_, n_clusters, train, self._mean_labels)

    def predict(self, test: Part) -> Matrix:
        """Each cluster's means, float32 (n_prompts, n_llms)."""
        nearest: NDArray[np.int32] = self._clusters.predict(self._unit(test))
        return self._means[nearest]

    def _unit(self, part: Part) -> Matrix:
        unit: Matrix = normalize(self._standardiser.apply(part.x))
        return unit


# Baselines with parameters


class LogisticPerLLM:
    """One ridge-penalised logistic regression per LLM.

    Args:
        penalty: Weight of half the squared weights, the intercept's left out.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(self, penalty: float = 1.0) -> None:
        self._penalty = penalty

    def fit(self, train: Part) -> None:
        """Fits every LLM to the prompts it was graded on; one that was always right, wrong or absent gets its mean."""
        self._standardiser = Standardiser.fit(train.x)
        z, labels, observed = self._standardiser.apply(train.x), train.matrix.labels(), train.matrix.observed
        self._intercepts = logit(llm_means(train.matrix))
        self._weights = np.zeros((z.shape[1], len(self._intercepts)), dtype=np.float32)
        for llm, seen in enumerate(observed.T):
            y = labels[seen, llm]
            if len(np.unique(y)) > 1:
                fitted = LogisticRegression(C=1 / self._penalty, max_iter=1000).fit(z[seen], y)
                self._weights[:, llm], self._intercepts[llm] = fitted.coef_[0], fitted.intercept_[0]

    def predict(self, test: Part) -> Matrix:
        """Probabilities, float32 (n_prompts, n_llms)."""
        return sigmoid(self._standardiser.apply(test.x) @ self._weights + self._intercepts)


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
        on_progress: Called after each epoch.
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
        on_progress: OnProgress = lambda *_: None,
    ) -> None:
        self._d_llm, self._noise, self._epochs = d_llm, noise, epochs
        self._learning_rate, self._batch, self._seed, self._on_progress = learning_rate, batch_pairs, seed, on_progress

    def fit(self, train: Part) -> None:
        """Trains for the number of epochs given."""
        self._standardiser = Standardiser.fit(train.x)
        z, labels = torch.from_numpy(self._standardiser.apply(train.x)), torch.from_numpy(train.matrix.labels())
        rows, llms = torch.from_numpy(train.matrix.observed).nonzero(as_tuple=True)

        def loss(pairs: Tensor) -> Tensor:
            x, llm = z[rows[pairs]], llms[pairs]
            logits = self._model(x + self._noise * torch.randn_like(x)).gather(1, llm[:, None])[:, 0]
            return nn.functional.binary_cross_entropy_with_logits(logits, labels[rows[pairs], llm])

        with _seeded(self._seed):
            self._model = _Factorisation(z.shape[1], self._d_llm, labels.shape[1])
            for epoch in _train(self._model, loss, len(rows), self._batch, self._epochs, self._learning_rate):
                self._on_progress("mf", epoch, self._epochs)

    def predict(self, test: Part) -> Matrix:
        """Probabilities without noise, float32 (n_prompts, n_llms)."""
        return _predict(self._model, self._standardiser.apply(test.x))


class ItemResponse:
    """The two-parameter logistic model of item response theory: `logit = a(x) · (ability_llm - b(x))`.

    Discrimination a > 0 and difficulty b of a prompt are amortised: linear in its embedding, a through a softplus
    (after IRT-Router, arXiv 2506.01048, with one dimension of ability). Whole rows of the matrix per step, Adam.

    Args:
        epochs: Passes over all prompts.
        learning_rate: Adam's.
        batch_prompts: Prompts per step.
        seed: Decides the order.
        on_progress: Called after each epoch.
    """

    probabilistic: ClassVar[bool] = True

    def __init__(
        self,
        *,
        epochs: int = 30,
        learning_rate: float = 5e-3,
        batch_prompts: int = 256,
        seed: int = 0,
        on_progress: OnProgress = lambda *_: None,
    ) -> None:
        self._epochs, self._learning_rate, self._batch = epochs, learning_rate, batch_prompts
        self._seed, self._on_progress = seed, on_progress

    def fit(self, train: Part) -> None:
        """Trains for the number of epochs given."""
        self._standardiser = Standardiser.fit(train.x)
        z, labels = torch.from_numpy(self._standardiser.apply(train.x)), torch.from_numpy(train.matrix.labels())
        observed = torch.from_numpy(train.matrix.observed).float()

        def loss(rows: Tensor) -> Tensor:
            of_pairs = nn.functional.binary_cross_entropy_with_logits(
                self._model(z[rows]), labels[rows], observed[rows], reduction="sum"
            )
            return of_pairs / observed[rows].sum().clamp(min=1)

        with _seeded(self._seed):
            self._model = _Response(z.shape[1], logit(llm_means(train.matrix)))
            for epoch in _train(self._model, loss, len(z), self._batch, self._epochs, self._learning_rate):
                self._on_progress("irt", epoch, self._epochs)

    def predict(self, test: Part) -> Matrix:
        """Probabilities, float32 (n_prompts, n_llms)."""
        return _predict(self._model, self._standardiser.apply(test.x))


class _Factorisation(nn.Module):
    """Embeddings, float32 (batch, d_prompt), to every LLM's logit, (batch, n_llms)."""

    def __init__(self, d_prompt: int, d_llm: int, n_llms: int) -> None:
        super().__init__()
        self.llms = nn.Embedding(n_llms, d_llm)
        self.projection = nn.Linear(d_prompt, d_llm)
        self.output = nn.Linear(d_llm, 1)

    def forward(self, x: Tensor) -> Tensor:
        weighted = (
            self.llms.weight * self.output.weight
        )  # projected first: there are fewer LLMs than prompts in a batch
        offsets: Tensor = weighted @ self.projection.bias + self.output.bias
        return x @ (weighted @ self.projection.weight).T + offsets


class _Response(nn.Module):
    """Embeddings, float32 (batch, d_prompt), to every LLM's logit, (batch, n_llms)."""

    def __init__(self, d_prompt: int, ability: Matrix) -> None:
        super().__init__()
        self.ability = nn.Parameter(torch.from_numpy(ability))
        self.slope, self.difficulty = nn.Linear(d_prompt, 1), nn.Linear(d_prompt, 1)
        for layer in (self.slope, self.difficulty):
            nn.init.zeros_(layer.weight)
        nn.init.constant_(self.slope.bias, float(np.log(np.expm1(1.0))))  # every discrimination starts at 1
        nn.init.zeros_(self.difficulty.bias)

    def forward(self, x: Tensor) -> Tensor:
        gap: Tensor = self.ability - self.difficulty(x)
        return nn.functional.softplus(self.slope(x)) * gap


def _train(  # noqa: PLR0913, PLR0917 - a model and how it learns
    model: nn.Module, loss: Callable[[Tensor], Tensor], n: int, batch: int, epochs: int, learning_rate: float
) -> Iterator[int]:
    """Descends the loss of random batches of n examples by Adam; yields the number of epochs done after each."""
    optimiser = torch.optim.Adam(model.parameters(), learning_rate)
    for epoch in range(epochs if n else 0):
        for examples in torch.randperm(n).tensor_split(max(n // batch, 1)):
            optimiser.zero_grad()
            loss(examples).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimiser.step()
        yield epoch + 1


@torch.no_grad()
def _predict(model: nn.Module, x: Matrix) -> Matrix:
    p: Matrix = torch.sigmoid(model(torch.from_numpy(x))).numpy()
    return p


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """A seed for torch's random generator, which is afterwards as it was."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        yield
