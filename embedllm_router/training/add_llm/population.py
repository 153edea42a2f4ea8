"""What an LLM is like before it has answered anything: as the learned LLMs are, with their mean and their spread.

An LLM is a row θ = (e, b) of the decoder, and e · f(x) + b is linear in it. The rows of the learned LLMs are taken as
draws from one normal distribution (empirical Bayes; Efron and Morris, 1975), whose covariance is shrunk because there
are few of them (Ledoit and Wolf, 2004). Before that, coordinates are chosen in which a usual prompt's f(x) varies alike
in all directions, so that shrinking does not depend on how the network happens to scale its outputs.

It reads weights only. It knows nothing of answers.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ConfigError
from embedllm_router.prediction.scorer import PromptNetwork, usual_embeddings

__all__ = ["Population"]

_N_DRAWN: Final = 512
_FEWEST: Final = 3
_JITTER: Final = 1e-6
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Population:
    """Where the rows of LLMs lie; columns are (f(x) - centre, 1).

    Attributes:
        network: f.
        centre: Mean of f(x) over usual prompts, (d,).
        mean: Of the rows, (d + 1,): what is expected of a new LLM.
        spread: (d + 1, d + 1); mean + spread · z with standard normal z is a new LLM.
        usual: Columns of usual prompts, (512, d + 1); see `inputs.usual_embeddings`.
    """

    network: PromptNetwork
    centre: Floats
    mean: Floats
    spread: Floats
    usual: Floats

    @classmethod
    def of(
        cls, artifact: Artifact, which: Literal["prompt", "length"], *, thinking: bool | None = None
    ) -> "Population":
        """The population of an artifact's LLMs.

        Args:
            artifact: Weights.
            which: Rows of which network; see `PromptNetwork`.
            thinking: Expect the mean of LLMs that reason before they answer, or of those that do not, where there are
                any; None expects the mean of all.

        Raises:
            ConfigError: Fewer than three LLMs do not say how LLMs differ.
        """
        llms = artifact.manifest.llms
        if len(llms) < _FEWEST:
            raise ConfigError(
                f"the weights know {len(llms)} LLMs, expected at least {_FEWEST} to tell how LLMs differ. Train on the "
                "answers of all of them instead."
            )
        network = PromptNetwork(artifact, which)
        hidden = network.hidden(list(usual_embeddings(artifact.decoder, _N_DRAWN))).astype(np.float64)
        centre = hidden.mean(axis=0)
        usual = _columns(hidden, centre)
        embeddings, bias = network.llm_embeddings.astype(np.float64), network.llm_bias.astype(np.float64)
        rows = np.column_stack([embeddings, bias + embeddings @ centre])
        alike = np.array([llm.thinking == thinking for llm in llms])
        return cls(
            network=network,
            centre=centre,
            mean=rows[alike if alike.any() else slice(None)].mean(axis=0),
            spread=_spread(rows, usual.T @ usual / len(usual)),
            usual=usual,
        )

    def columns(self, embeddings: list[NDArray[np.float32] | None]) -> Floats:
        """Columns of prompts, (n_prompts, d + 1).

        Args:
            embeddings: float32 (d_prompt,) each; None for a prompt without text.
        """
        return _columns(self.network.hidden(embeddings).astype(np.float64), self.centre)

    def as_tensors(self, row: Floats) -> tuple[NDArray[np.float32], np.float32]:
        """A row as the decoder holds it: embedding, (d,), and bias."""
        embedding = row[:-1]
        return embedding.astype(np.float32), np.float32(row[-1] - embedding @ self.centre)


def _columns(hidden: Floats, centre: Floats) -> Floats:
    return np.column_stack([hidden - centre, np.ones(len(hidden))])


def _spread(rows: Floats, second_moment: Floats) -> Floats:
    """A square root of the rows' covariance, shrunk where prompts vary alike."""
    d = len(second_moment)
    root = np.linalg.cholesky(second_moment + _JITTER * np.trace(second_moment) / d * np.eye(d))
    covariance = LedoitWolf().fit(rows @ root).covariance_
    inner = np.linalg.cholesky(covariance + _JITTER * max(np.trace(covariance) / d, _JITTER) * np.eye(d))
    spread: Floats = np.linalg.solve(root.T, inner)
    return spread
