"""Which LLMs are alike: cosine of centred LLM embeddings, and a map of them in two dimensions.

It knows nothing of prompts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ConfigError

__all__ = ["Neighbour", "centred_embeddings", "llm_map", "nearest_llms"]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An LLM near another one.

    Attributes:
        llm: Canonical id.
        vendor: Who made it.
        similarity: Cosine of the two centred embeddings, in [-1, 1].
        mean_correctness: Share of its training labels that were correct.
    """

    llm: str
    vendor: str
    similarity: float
    mean_correctness: float


def nearest_llms(artifact: Artifact, llm: str, n: int) -> tuple[Neighbour, ...]:
    """The LLMs whose embeddings point the most alike.

    Args:
        artifact: Holds the embeddings.
        llm: A canonical id or a name that matches one.
        n: How many, at least 1.

    Returns:
        Up to n others, most similar first.

    Raises:
        ConfigError: The artifact does not know the LLM.
    """
    if n < 1:
        raise ConfigError(f"--n must be at least 1, found {n}.")
    catalog = Catalog(artifact.manifest.llms)
    match = catalog.match(llm)
    row = catalog.row(match.llm or llm)
    unit = _unit(centred_embeddings(artifact))
    similarity = unit @ unit[row]
    order = [i for i in np.argsort(-similarity, kind="stable").tolist() if i != row]
    found = [(catalog.llms[i], float(similarity[i])) for i in order[:n]]
    return tuple(Neighbour(one.id, one.vendor, value, one.mean_correctness) for one, value in found)


def centred_embeddings(artifact: Artifact) -> NDArray[np.float64]:
    """LLM embeddings as the prompt network's last layer reads them, less their mean: what tells LLMs apart.

    `e · (W·h + b)` fixes embeddings only up to an invertible map that W undoes, so distances between the raw ones mean
    little. `e·W` is fixed: its inner product with the hidden values h of a prompt is the logit.

    Args:
        artifact: Holds the embeddings.

    Returns:
        float64 (n_llms, width of the last hidden layer).
    """
    depth = len(artifact.manifest.decoder.hidden)
    last = artifact.decoder[f"prompt_network.{depth}.weight"].astype(np.float64)
    embeddings = artifact.decoder["llm_embeddings"].astype(np.float64) @ last
    centred: NDArray[np.float64] = embeddings - embeddings.mean(axis=0)
    return centred


def llm_map(artifact: Artifact) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The LLMs on the two principal axes of their embeddings.

    Args:
        artifact: Holds the embeddings.

    Returns:
        Positions, float64 (n_llms, 2), and the share of variance each axis explains.
    """
    centred = centred_embeddings(artifact)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    padded = np.pad(left * sizes, ((0, 0), (0, max(2 - len(sizes), 0))))[:, :2]
    share = np.pad(sizes**2 / max(float((sizes**2).sum()), 1e-12), (0, 2))[:2]
    return padded, (float(share[0]), float(share[1]))


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = x / np.maximum(np.sqrt((x * x).sum(axis=1, keepdims=True)), 1e-12)
    return unit
