"""What training aims at and starts from, computed from the training part alone."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedllm_router.training.fit.decoder_learning_inputs import LearningData

__all__ = ["category_means", "data_set_weights", "mean_logits", "standardisation"]

_MIN_SCALE: Final = 1e-4
_PRIOR_LABELS: Final = 3.0  # weight of an LLM's overall mean in its mean on a category


def standardisation(x: NDArray[np.float32], *, unit_length: bool) -> tuple[Tensor, Tensor]:
    """Mean and scale of each column.

    Args:
        x: Prompt embeddings of the training part, float32 (n_train, d_prompt).
        unit_length: Whether standardised embeddings shall have length about 1, as those of the paper's encoder have,
            so that its noise and learning rate mean the same; else each column has standard deviation 1.

    Returns:
        Mean and positive scale, float32 (d_prompt,) each.
    """
    scale = np.maximum(x.std(axis=0), _MIN_SCALE)
    if unit_length:
        scale *= np.float32(x.shape[1] ** 0.5)
    return torch.from_numpy(x.mean(axis=0)), torch.from_numpy(scale)


def category_means(data: LearningData) -> NDArray[np.float32]:
    """Share of right answers by category, shrunk to the LLM's overall share, float32 (n_categories, n_llms)."""
    train = data.split.train
    seen = data.observed[train].astype(np.float32)
    right = data.labels[train] * seen
    overall = (right.sum(axis=0) + 1) / (seen.sum(axis=0) + 2)
    shape = (int(data.categories.max()) + 1, seen.shape[1])
    rights, counts = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    np.add.at(rights, data.categories[train], right)
    np.add.at(counts, data.categories[train], seen)
    means: NDArray[np.float32] = (rights + _PRIOR_LABELS * overall) / (counts + _PRIOR_LABELS)
    return means.astype(np.float32)


def mean_logits(data: LearningData) -> NDArray[np.float32]:
    """Logit of each LLM's share of right answers, smoothed by one of each kind, float32 (n_llms,)."""
    train = data.split.train
    right = (data.labels[train] * data.observed[train]).sum(axis=0, dtype=np.float32)
    share = (right + 1) / (data.observed[train].sum(axis=0) + 2)
    logits: NDArray[np.float32] = np.log(share / (1 - share)).astype(np.float32)
    return logits


def data_set_weights(data: LearningData, balance: float) -> NDArray[np.float32]:
    """Weight of each prompt's labels, float32 (n_prompts,): n to the power of -balance, n the labels of its data set.

    Args:
        data: Only its training part counts.
        balance: 0 weighs all alike; 1 gives each data set the same say.

    Returns:
        Weights whose mean over the labels of the training part is 1.
    """
    if not balance or data.datasets is None:
        return np.ones(len(data.x), dtype=np.float32)
    train = data.split.train
    per_prompt = data.observed[train].sum(axis=1)
    n_labels = np.bincount(data.datasets[train], per_prompt, minlength=int(data.datasets.max()) + 1)
    weights = np.maximum(n_labels, 1.0) ** -balance
    weights /= (weights * n_labels).sum() / n_labels.sum()
    return weights[data.datasets].astype(np.float32)
