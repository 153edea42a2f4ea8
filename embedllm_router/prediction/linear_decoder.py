"""The decoder as a linear function of an LLM's row: what an LLM is added by, and what feedback changes.

A prompt gives columns, an LLM is a row, and their product is a logit of p_correct or the logarithm of output tokens:

    columns = (f(x), 1)                 row = (e, b)

With a hedge the calibrated logit is linear in a row too, that of both predictions and of all that passes between them.
With the names of `scorer`, and k = slope · (1 - h) · temperature and m = k · broad_weight + slope · h ·
difference_share,

    columns = (k f(x), m g(x), k, slope · h · ability_share, m, shared)
    row     = (llm_embedding, broad_embedding, llm_bias, ability, broad_bias, 1)

where `shared` is what all LLMs have in common on this prompt, so the last entry is 1 for each. As m is a sum of the two
columns before it, whatever the prompt, a broad bias says nothing that bias and ability could not: it stays what it is.
Whoever fits a row to answers therefore fits what is served, on ordinary prompts and on others, and an LLM's ability is
learned with the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import HedgeSpec
from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.ood_score import OodScorer
from embedllm_router.prediction.scorer import BroadNetwork, layers_of

__all__ = ["Everyone", "LinearDecoder"]

_CHUNK: Final = 4096
_OF_LLM: Final = {
    "prompt": ("llm_embeddings", "llm_bias"),
    "length": ("length_embeddings", "length_bias"),
    "hedged": ("llm_embeddings", "broad_embeddings", "llm_bias", "ability", "broad_bias"),
}
"""Tensors that hold the entries of a row, in order."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Everyone:
    """What changes of every LLM's logit beside its free entries.

    Attributes:
        shift: Added to each logit.
        scale: Factor of what all LLMs have in common: of the columns that are not free.
        turn: float64 (n_shared,), whose product with `LinearDecoder.shared` is added to each logit.
    """

    shift: float
    scale: float
    turn: NDArray[np.float64]


class LinearDecoder:
    """Columns of prompts and rows of LLMs.

    Args:
        artifact: Loaded weights.
        of: "prompt" for logits of p_correct, "length" for logarithms of output tokens.

    Attributes:
        rows: Of the learned LLMs, float64 (n_llms, width).
        n_free: How many entries of a row are fitted to answers, from the first on.
        n_shared: How many features of a prompt can say the same of every LLM; see `shared`.
        shared_widths: Of the blocks of these.
        constant: The row that adds 1 to every product, float64 (width,).
        factors: float64 (n_features, width). The first entries of a row each meet a feature of the prompt, times
            something; a factor is the row whose product with the columns is that something.
    """

    def __init__(self, artifact: Artifact, of: Literal["prompt", "length"] = "prompt") -> None:
        manifest = artifact.manifest
        t = {name: tensor.astype(np.float32, copy=False) for name, tensor in artifact.decoder.items()}
        self._mean, self._scale = t["input_mean"], 1.0 / t["input_scale"]
        self._bound = manifest.decoder.max_deviation
        self._layers = layers_of(t, f"{of}_network")
        broad, hedge = manifest.decoder.broad, manifest.hedge
        self._blend = None
        if of == "prompt" and broad is not None and hedge is not None:
            self._blend = _BlendedColumns(BroadNetwork(t, broad), OodScorer.from_artifact(artifact), hedge)
        self._names = _OF_LLM[of if self._blend is None else "hedged"]
        parts = [t[name].reshape(len(t[name]), -1).astype(np.float64) for name in self._names]
        widths = [part.shape[1] for part in parts]
        self._edges = np.cumsum(widths)
        if self._blend is None:
            self.rows, self.n_free = np.concatenate(parts, axis=1), sum(widths)
            self.constant = np.eye(self.n_free)[-1]
            self.factors = np.tile(self.constant, (widths[0], 1))
            self.shared_widths: tuple[int, ...] = (widths[0],)
        else:
            self.rows = np.concatenate([*parts, np.ones((len(parts[0]), 1))], axis=1)
            self.n_free = sum(widths[:-1])
            bias, ability = np.eye(self.rows.shape[1])[self.n_free - 2 : self.n_free]
            self.constant = self._blend.constant @ [bias, ability]
            self.factors = np.repeat([bias, self._blend.broad_factor @ [bias, ability]], widths[:2], axis=0)
            self.shared_widths = self._blend.broad.widths
        self.n_shared = sum(self.shared_widths)

    def evened_rows(self) -> NDArray[np.float64]:
        """Rows of the learned LLMs that predict the same and differ in their free entries only, (n_llms, width)."""
        rows = self.rows.copy()
        if self._blend is not None:
            broad_bias = rows[:, self.n_free]
            rows += np.outer(broad_bias - broad_bias.mean(), self.factors[-1])
            rows[:, self.n_free] = broad_bias.mean()
        return rows

    def features(self, prompts: Sequence[Floats | None]) -> Floats:
        """f(x), and with a hedge g(x) beside it.

        Args:
            prompts: float32 (d_prompt,) each; None for a prompt without text, which is the average prompt.

        Returns:
            float32 (n_prompts, n_features).
        """

        def read(some: Sequence[Floats | None]) -> Floats:
            x = self._inputs(some)
            parts = [self._forward(x), *([] if self._blend is None else [self._blend.broad.read_all(x)[0]])]
            return np.concatenate(parts, axis=1)

        return _in_chunks(read, prompts, len(self.factors))

    def columns(self, prompts: Sequence[Floats | None], strength: float | None = None) -> Floats:
        """What a row is multiplied by.

        Args:
            prompts: As for `features`.
            strength: How far the gate is open for each of them, in [0, 1]; None asks the gate. Without a hedge there is
                no gate.

        Returns:
            float32 (n_prompts, width).
        """

        def read(some: Sequence[Floats | None]) -> Floats:
            x = self._inputs(some)
            f = self._forward(x)
            if self._blend is None:
                return np.column_stack([f, np.ones(len(f), dtype=np.float32)])
            given = [None if one is None else row for one, row in zip(some, x, strict=True)]
            h = [self._blend.strength(one) if strength is None else strength for one in given]
            return self._blend.columns(f, x, np.array(h, dtype=np.float32))

        return _in_chunks(read, prompts, self.rows.shape[1])

    def shared(self, prompts: Sequence[Floats | None], columns: Floats) -> Floats:
        """Features of prompts that say the same of every LLM.

        Without a hedge these are f(x). With one they are the inputs of difficulty, times what difficulty counts for: a
        change of `difficulty_weight` is a change of logits by its product with these.

        Args:
            prompts: As for `features`.
            columns: Theirs.

        Returns:
            float32 (n_prompts, n_shared).
        """
        if self._blend is None:
            return columns[:, :-1]
        blend = self._blend
        counts = blend.of_difficulty(columns[:, self.n_free - 2], columns[:, self.n_free - 1])
        inputs = _in_chunks(lambda some: blend.broad.inputs(self._inputs(some)), prompts, self.n_shared)
        return inputs * counts[:, None]

    def moved(self, artifact: Artifact, rows: NDArray[np.float64], everyone: Everyone) -> Artifact:
        """Weights whose logits are those of new rows, with what changes of every LLM.

        Without a hedge both are rows. With one, what the LLMs have in common is scaled by difficulty, by the constants
        of the hedge that no LLM's row meets, and by the broad bias, which has to be the same for all LLMs.

        Args:
            artifact: The weights this was made of.
            rows: float64 (n_llms, width). Entries that are not free are those of `evened_rows`, scaled.
            everyone: What changes beside.
        """
        if self._blend is None:
            rows = rows + everyone.shift * self.constant
            rows[:, :-1] += everyone.turn
            return replace(artifact, decoder={**artifact.decoder, **self.tensors(rows)})
        decoder = {**artifact.decoder, **self.tensors(rows)}
        weight, bias = (artifact.decoder[f"difficulty_{name}"].astype(np.float64) for name in ("weight", "bias"))
        decoder["difficulty_weight"] = (everyone.scale * weight + everyone.turn).astype(np.float32)
        decoder["difficulty_bias"] = (everyone.scale * bias).astype(np.float32)
        hedge = self._blend.scaled(everyone.scale, everyone.shift)
        return replace(artifact, decoder=decoder, manifest=artifact.manifest.model_copy(update={"hedge": hedge}))

    def tensors(self, rows: NDArray[np.float64]) -> dict[str, Floats]:
        """Rows, float64 (n, width), as tensors of the decoder: float32 (n, d) and (n,), by name."""
        parts = np.split(rows[:, : self._edges[-1]].astype(np.float32), self._edges[:-1], axis=1)
        return {
            name: part if name.endswith("embeddings") else part[:, 0]
            for name, part in zip(self._names, parts, strict=True)
        }

    def row_of(self, tensors: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
        """The row of one LLM, float64 (width,); undoes `tensors`.

        Args:
            tensors: One entry of each tensor that has one per LLM, by name.
        """
        parts = [np.ravel(tensors[name]) for name in self._names]
        shared = [] if self._blend is None else [np.ones(1)]
        return np.concatenate([*parts, *shared]).astype(np.float64)

    def _inputs(self, prompts: Sequence[Floats | None]) -> Floats:
        raw = np.stack([self._mean if one is None else one for one in prompts])
        return np.clip((raw - self._mean) * self._scale, -self._bound, self._bound)

    def _forward(self, x: Floats) -> Floats:
        for weight, bias in self._layers[:-1]:
            x = np.maximum(x @ weight.T + bias, 0.0)
        weight, bias = self._layers[-1]
        out: Floats = x @ weight.T + bias
        return out


class _BlendedColumns:
    """Columns of weights with a hedge.

    Args:
        broad: Their broad network.
        ood_scorer: Their gate.
        hedge: Their hedge.
    """

    def __init__(self, broad: BroadNetwork, ood_scorer: OodScorer, hedge: HedgeSpec) -> None:
        self.broad, self._ood_scorer, self._hedge = broad, ood_scorer, hedge
        # A bias counts for slope · temperature · (1 - h), an ability for slope · ability_share · h: together for 1.
        self.constant = 1.0 / (hedge.slope * np.array([hedge.temperature, hedge.ability_share]))
        # What m is made of: broad_weight of the one, difference_share over ability_share of the other.
        self.broad_factor = np.array([hedge.broad_weight, hedge.difference_share / hedge.ability_share])

    def strength(self, x: Floats | None) -> float:
        """How far the gate is open for a prompt; its caller is nobody."""
        return self._ood_scorer.shrinkage(x).strength

    def of_difficulty(self, of_in: Floats, of_ability: Floats) -> Floats:
        """What difficulty is multiplied by in a logit, (n,), of the columns that meet bias and ability."""
        return of_in + of_ability * np.float32(self._hedge.difficulty_share / self._hedge.ability_share)

    def scaled(self, scale: float, shift: float) -> HedgeSpec:
        """The hedge with what no LLM's row meets scaled, but for difficulty itself, and a shift of every logit."""
        hedge = self._hedge
        of_ability = hedge.ability_share * hedge.mean_ability
        return hedge.model_copy(
            update={
                "base": scale * (hedge.base - of_ability) + of_ability,
                "common_share": scale * (hedge.common_share - hedge.difference_share) + hedge.difference_share,
                "offset": scale * hedge.offset + shift,
            }
        )

    def columns(self, f: Floats, x: Floats, h: Floats) -> Floats:
        """Columns, float32 (n, width), of f(x), (n, d_llm), decoder inputs, (n, d_prompt), and gate, (n,)."""
        hedge = self._hedge
        broad, common, difficulty = self.broad.read_all(x)
        of_in, of_out = hedge.slope * hedge.temperature * (1.0 - h), hedge.slope * h
        of_broad = of_in * hedge.broad_weight + of_out * hedge.difference_share
        elsewhere = hedge.base - hedge.ability_share * hedge.mean_ability + hedge.difficulty_share * difficulty
        elsewhere += (hedge.common_share - hedge.difference_share) * common
        shared = hedge.offset + of_in * difficulty + of_out * elsewhere
        scaled = of_in[:, None] * f, of_broad[:, None] * broad
        return np.column_stack([*scaled, of_in, of_out * hedge.ability_share, of_broad, shared])


def _in_chunks(
    read: Callable[[Sequence[Floats | None]], Floats], prompts: Sequence[Floats | None], width: int
) -> Floats:
    chunks = [read(prompts[i : i + _CHUNK]) for i in range(0, len(prompts), _CHUNK)]
    return np.concatenate(chunks) if chunks else np.zeros((0, width), dtype=np.float32)
