"""Prompt embedding → p_correct and expected output tokens of every learned LLM, in numpy.

`logit[llm] = e_llm · f(x) + b_llm`, after EmbedLLM (arXiv 2410.02223) with f a small network. `training/fit/decoder.py`
is the same decoder with gradients; a test holds the two together.

Weights with a hedge have two predictions. With x standardised and clipped, f the prompt network, g the broad network
and d the prompt's difficulty, both of which read some columns of x and clip them further,

    d       = difficulty_weight · x + difficulty_bias
    w[llm]  = broad_embedding[llm] · g(x) + broad_bias[llm]
    in[llm] = llm_embedding[llm] · f(x) + llm_bias[llm] + d + broad_weight · w[llm]

holds on prompts like those of training, and

    common   = reference_embedding · g(x) + reference_bias
    out[llm] = base + ability_share · (ability[llm] - mean_ability) + difficulty_share · d + common_share · common
               + difference_share · (w[llm] - common)

on others: `common` is the mean of w over LLMs with many labels, and what the shares are was fitted on data sets that
were left out of training. The gate h, in [0, 1], of `ood_score` says which of both holds:

    logit[llm] = offset + slope · ((1 - h) · temperature · in[llm] + h · out[llm])
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import BroadSpec, DecoderSpec, HedgeSpec
from embedllm_router.artifact.weights import Artifact, Tensors
from embedllm_router.prediction.ood_score import (
    MAX_DEVIATION,
    NO_SHRINKAGE,
    OneThread,
    OodScorer,
    Shrinkage,
    standardised,
)

__all__ = ["BroadNetwork", "Scorer", "Scores", "layers_of", "usual_embeddings"]

_MAX_LOG_TOKENS = float(np.log(131_072))  # no answer is expected to be longer: keeps exp() finite
Floats = NDArray[np.float32]
Layer = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True)
class Scores:
    """What is predicted of one prompt, one entry per learned LLM.

    Attributes:
        p_correct: Probability of a correct answer, float32 (n_llms,), in [0, 1].
        output_tokens: Expected output tokens, reasoning included, float32 (n_llms,), positive.
        shrinkage: How far the probabilities were shrunk, and why.
        unshrunk_logits: Logits of the probabilities before that, as on prompts like those of training, float32
            (n_llms,); None where nothing was shrunk.
    """

    p_correct: Floats
    output_tokens: Floats
    shrinkage: Shrinkage = NO_SHRINKAGE
    unshrunk_logits: Floats | None = None


class Scorer:
    """Predicts correctness and length of every LLM's answer.

    Args:
        tensors: The decoder's tensors, as `weights.decoder_shapes` lists them.
        ood_scorer: Shrinks predictions of prompts unlike the training prompts; None shrinks nothing.
        spec: What the manifest says of the decoder; None of one without a broad network that clips to `MAX_DEVIATION`.
        hedge: The manifest's hedge; given exactly when the spec has a broad network.
    """

    def __init__(
        self,
        tensors: Tensors,
        ood_scorer: OodScorer | None = None,
        spec: DecoderSpec | None = None,
        hedge: HedgeSpec | None = None,
    ) -> None:
        self._ood_scorer = ood_scorer
        t = {name: tensor.astype(np.float32, copy=False) for name, tensor in tensors.items()}
        self._mean = t["input_mean"]
        self._scale = 1.0 / t["input_scale"]
        self._max_deviation = MAX_DEVIATION if spec is None else spec.max_deviation
        prompt, length = layers_of(t, "prompt_network"), layers_of(t, "length_network")
        (prompt_weight, prompt_bias), (length_weight, length_bias) = prompt[0], length[0]
        # Both networks read the same inputs, so their first layers are one product.
        self._first = np.concatenate([prompt_weight, length_weight]), np.concatenate([prompt_bias, length_bias])
        self._n_prompt = len(prompt_bias)
        self._prompt_rest, self._length_rest = prompt[1:], length[1:]
        self._llm_embeddings, self._llm_bias = t["llm_embeddings"], t["llm_bias"]
        self._length_embeddings, self._length_bias = t["length_embeddings"], t["length_bias"]
        broad = None if spec is None else spec.broad
        self._blend = None if broad is None or hedge is None else _Blend(t, broad, hedge)
        self._one_thread = OneThread()

    @classmethod
    def from_artifact(cls, artifact: Artifact, *, shrinks: bool = True) -> "Scorer":
        """Builds the scorer an artifact holds.

        Args:
            artifact: Loaded weights.
            shrinks: Whether predictions of prompts unlike the training prompts are shrunk; without it every prompt is
                predicted as one like those of training.
        """
        manifest = artifact.manifest
        ood_scorer = OodScorer.from_artifact(artifact) if shrinks else None
        return cls(artifact.decoder, ood_scorer, manifest.decoder, manifest.hedge)

    def score(self, prompt_embedding: Floats | None, caller_shrinkage: float = 0.0) -> Scores:
        """Scores one prompt for every LLM.

        Args:
            prompt_embedding: float32 (d_prompt,); None for a prompt without text, which is scored as the average
                training prompt, and with a hedge as one of an unknown kind.
            caller_shrinkage: How far the drift of its caller demands that predictions are shrunk, in [0, 1].

        Returns:
            Predictions for all LLMs, in the artifact's order.
        """
        x = None
        if prompt_embedding is not None:
            x = standardised(prompt_embedding, self._mean, self._scale, self._max_deviation)
        logits, log_tokens, shrinkage = self._one_thread(lambda: self._products(x, caller_shrinkage))
        if self._blend is not None and shrinkage.strength:
            p_correct = _sigmoid(logits[0] + shrinkage.strength * (logits[1] - logits[0]))
        else:
            p_correct = _sigmoid(logits[0])
        if self._ood_scorer is not None and self._blend is None and shrinkage.strength:
            p_correct = self._ood_scorer.shrunk(p_correct, shrinkage.strength)
        return Scores(
            p_correct=p_correct,
            output_tokens=np.exp(np.minimum(np.maximum(log_tokens, 0.0), _MAX_LOG_TOKENS)),
            shrinkage=shrinkage,
            unshrunk_logits=logits[0] if shrinkage.strength else None,
        )

    def _products(self, x: Floats | None, caller_shrinkage: float) -> tuple[Floats, Floats, Shrinkage]:
        """All that multiplies matrices.

        Returns:
            Logits of every LLM, float32 (1, n_llms), with a hedge (2, n_llms): those on prompts like those of training
            and those on others. Then log tokens, float32 (n_llms,), and how far to shrink.
        """
        weight, bias = self._first
        first = bias if x is None else weight @ x + bias
        log_tokens = self._length_embeddings @ _forward(self._length_rest, first[self._n_prompt :]) + self._length_bias
        shrinkage = NO_SHRINKAGE if self._ood_scorer is None else self._ood_scorer.shrinkage(x, caller_shrinkage)
        hidden = _forward(self._prompt_rest, first[: self._n_prompt])
        if self._blend is None:
            return (self._llm_embeddings @ hidden + self._llm_bias)[None], log_tokens, shrinkage
        return self._blend.logits(hidden, x), log_tokens, shrinkage


class _Blend:
    """The logits of weights with a hedge, in one product.

    Both predictions are linear in an LLM's row and share most of its parts.

    Args:
        t: The decoder's tensors, float32.
        broad: What the manifest says of the broad network.
        hedge: And of the hedge.
    """

    def __init__(self, t: Mapping[str, Floats], broad: BroadSpec, hedge: HedgeSpec) -> None:
        self._hedge = hedge
        self._broad = BroadNetwork(t, broad)
        of_in = t["llm_bias"] + hedge.broad_weight * t["broad_bias"]
        of_out = hedge.difference_share * t["broad_bias"] + hedge.ability_share * (t["ability"] - hedge.mean_ability)
        biases = np.stack([of_in, of_out], axis=1, dtype=np.float32)
        self._rows = np.concatenate([t["llm_embeddings"], t["broad_embeddings"], biases], axis=1)
        self._n_prompt = t["llm_embeddings"].shape[1]

    def logits(self, hidden: Floats, x: Floats | None) -> Floats:
        """Calibrated logits of every LLM by each prediction alone; what is served lies between, by the gate.

        Args:
            hidden: f(x), float32 (d_llm,).
            x: Decoder inputs, float32 (d_prompt,); None for a prompt without text.

        Returns:
            float32 (2, n_llms): where the gate is shut, and where it is open.
        """
        hedge, n = self._hedge, self._n_prompt
        broad, common, difficulty = self._broad.read(x)
        of_in, of_out = hedge.slope * hedge.temperature, hedge.slope
        columns = np.zeros((2, self._rows.shape[1]), dtype=np.float32)
        np.multiply(hidden, of_in, out=columns[0, :n])
        np.multiply(broad, of_in * hedge.broad_weight, out=columns[0, n:-2])
        np.multiply(broad, of_out * hedge.difference_share, out=columns[1, n:-2])
        columns[0, -2], columns[1, -1] = of_in, of_out
        logits: Floats = columns @ self._rows.T
        shared = hedge.base + hedge.difficulty_share * difficulty
        shared += (hedge.common_share - hedge.difference_share) * common
        logits[0] += hedge.offset + of_in * difficulty
        logits[1] += hedge.offset + of_out * shared
        return logits


class BroadNetwork:
    """The broad network, the mean of what it says of the reference LLMs, and the difficulty of a prompt.

    All read the same inputs: difficulty is one more row of the first layer, the mean one more row of the last.

    Args:
        t: The decoder's tensors, float32.
        spec: What the manifest says of the broad network.

    Attributes:
        widths: Of the blocks of columns that they read.
    """

    def __init__(self, t: Mapping[str, Floats], spec: BroadSpec) -> None:
        self.widths = tuple(stop - start for start, stop in spec.columns)
        self._spans = tuple(slice(*span) for span in spec.columns)
        self._bound = spec.max_deviation
        layers = layers_of(t, "broad_network")
        weight, bias = layers[-1]
        reference, reference_bias = t["reference_embedding"], t["reference_bias"]
        layers[-1] = np.vstack([weight, reference @ weight]), np.append(bias, reference @ bias + reference_bias)
        weight, bias = layers[0]
        self._weight = np.vstack([weight, t["difficulty_weight"]])
        self._bias = np.append(bias, t["difficulty_bias"])
        self._rest = layers[1:]

    def read(self, x: Floats | None) -> tuple[Floats, float, float]:
        """One prompt.

        Args:
            x: Decoder inputs, float32 (d_prompt,); None for a prompt without text.

        Returns:
            g(x), float32 (d_llm,), the mean over the reference LLMs, and the difficulty, in logits.
        """
        first = self._bias
        if x is not None:
            first = self._weight @ self.inputs(x)
            first += self._bias
        out = _forward(self._rest, first[:-1])
        return out[:-1], float(out[-1]), float(first[-1])

    def read_all(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """The same of many prompts, float32 (n, d_prompt): (n, d_llm), (n,) and (n,)."""
        first = self.inputs(x) @ self._weight.T + self._bias
        out = first[:, :-1]
        for weight, bias in self._rest:
            out = np.maximum(out, 0.0) @ weight.T + bias
        return out[:, :-1], out[:, -1], first[:, -1]

    def inputs(self, x: Floats) -> Floats:
        """What networks and difficulty read of decoder inputs, float32 (..., d_prompt): (..., n_columns)."""
        inputs = np.concatenate([x[..., span] for span in self._spans], axis=-1)
        np.maximum(inputs, -self._bound, out=inputs)
        np.minimum(inputs, self._bound, out=inputs)
        return inputs


def usual_embeddings(decoder: Mapping[str, NDArray[np.generic]], n: int) -> Floats:
    """Embeddings such as training prompts have: weights hold no prompts, but the mean and spread of their embeddings.

    They are drawn from a normal distribution with both, always the same ones.

    Args:
        decoder: With `input_mean` and `input_scale`, (d_prompt,) each.
        n: How many.

    Returns:
        float32 (n, d_prompt).
    """
    mean, spread = (decoder[name].astype(np.float32) for name in ("input_mean", "input_scale"))
    return mean + spread * np.random.default_rng(0).standard_normal((n, len(mean)), dtype=np.float32)


def layers_of(tensors: Tensors, network: str) -> list[Layer]:
    """Weight (d_out, d_in) and bias (d_out,) of each layer of a network, float32, from the inputs on."""
    depth = sum(name.startswith(f"{network}.") for name in tensors) // 2
    return [
        (
            tensors[f"{network}.{i}.weight"].astype(np.float32, copy=False),
            tensors[f"{network}.{i}.bias"].astype(np.float32, copy=False),
        )
        for i in range(depth)
    ]


def _forward(layers: list[Layer], x: Floats) -> Floats:
    """The layers after the first, each of the rectified outputs of the one before."""
    for weight, bias in layers:
        x = weight @ np.maximum(x, 0.0) + bias
    return x


def _sigmoid(logits: Floats) -> Floats:
    return np.reciprocal(1.0 + np.exp(-np.minimum(np.maximum(logits, -60.0), 60.0)), dtype=np.float32)
