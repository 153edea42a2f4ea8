"""The planted artifact's words with a broad network and a hedge: of four topics, `code` is the one nobody trained on.

What an LLM is right at is a row `(llm_embedding, broad_embedding, broad_bias, llm_bias, ability)` of eleven numbers,
given or drawn from a population whose abilities go with their biases.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from planted import TOPICS, WORDS, planted_artifact

from embedllm_router.artifact.manifest import BroadSpec, HedgeSpec, Landmark, LearnedLLM, OodSpec
from embedllm_router.artifact.weights import Artifact, save_artifact

D = len(TOPICS)
WIDTH = 2 * D + 3
NOVEL = "function"
ORDINARY = tuple(word for word in WORDS if word != NOVEL)
HARD = "integral"


def drawn_rows(n: int, seed: int) -> np.ndarray:
    """Rows of n LLMs, float64 (n, 11)."""
    rng = np.random.default_rng(seed)
    ability = rng.normal(0.3, 0.9, n)
    scales = np.repeat([1.2, 0.4, 0.2, 0.3], [D, D, 1, 1])
    rows = rng.normal(size=(n, WIDTH - 1)) * scales
    rows[:, -1] += ability
    return np.column_stack([rows, ability])


def hedged_artifact(folder: Path, rows: np.ndarray, llms: Sequence[str] = ()) -> Artifact:
    """Writes weights of LLMs with these rows, float64 (n_llms, 11), `llms` being their ids."""
    plain = planted_artifact(folder)
    ids = llms or [f"llm-{i}" for i in range(len(rows))]
    decoder, d_prompt = plain.manifest.decoder, plain.manifest.encoder.d_prompt
    broad = BroadSpec(columns=((0, D),), max_deviation=4.0, hidden=(), d_llm=D)
    known = tuple(Landmark(name=f"a/{WORDS[word]}", n_prompts=9, mean_correctness=0.5) for word in ORDINARY)
    places = np.eye(D)[[TOPICS.index(WORDS[word]) for word in ORDINARY]]
    projection = np.eye(D, d_prompt)
    manifest = plain.manifest.model_copy(
        update={
            "decoder": decoder.model_copy(update={"max_deviation": 6.0, "broad": broad}),
            "llms": tuple(
                LearnedLLM(id=one, vendor="planted", thinking=i % 3 == 0, n_labels=1_000, mean_correctness=0.5)
                for i, one in enumerate(ids)
            ),
            "landmarks": known,
            "d_landmark": D,
            "novelty": OodSpec(ranks=(0.0, 0.5, 1.0), shrinkage=1.0, n_prompts=3),
            "hedge": _hedge(),
        }
    )
    landmarks = {"projection": projection, "landmarks": places, "points": places}
    return save_artifact(
        folder,
        manifest,
        encoder=plain.encoder,
        decoder=_decoder(plain, rows),
        tokenizer_json=plain.tokenizer_json,
        model_card="# Hedged\n",
        landmarks={name: one.astype(np.float16) for name, one in landmarks.items()},
    )


def _hedge() -> HedgeSpec:
    """Far from what was learned a prompt about code is 1.4 away, half about it 0.77, and the gate opens at 1.1."""
    return HedgeSpec(
        base=0.3,
        ability_share=0.6,
        difficulty_share=0.8,
        common_share=0.2,
        difference_share=0.65,
        mean_ability=0.3,
        broad_weight=0.5,
        temperature=1.2,
        slope=1.05,
        offset=0.05,
        gate_bias=0.0,
        gate_weight=16.0,
        gate_mean=0.1,
        gate_scale=1.0,
        n_points=len(ORDINARY),
        fitted_on=(),
        left_out=(),
    )


def _decoder(plain: Artifact, rows: np.ndarray) -> dict[str, Any]:
    parts = np.split(rows, np.cumsum([D, D, 1, 1]), axis=1)
    embeddings, broad, broad_bias, bias, ability = (part.astype(np.float32) for part in parts)
    n = len(rows)
    return {
        **plain.decoder,
        "llm_embeddings": embeddings,
        "llm_bias": bias[:, 0],
        "length_embeddings": np.zeros((n, D), dtype=np.float32),
        "length_bias": np.full(n, 5.0, dtype=np.float32),
        "broad_network.0.weight": np.eye(D, dtype=np.float32),
        "broad_network.0.bias": np.zeros(D, dtype=np.float32),
        "broad_embeddings": broad,
        "broad_bias": broad_bias[:, 0],
        "difficulty_weight": -1.5 * np.eye(D, dtype=np.float32)[TOPICS.index(WORDS[HARD])],
        "difficulty_bias": np.array([0.2], dtype=np.float32),
        "reference_embedding": broad.mean(axis=0),
        "reference_bias": broad_bias.mean(axis=0),
        "ability": ability[:, 0],
        "ability_sd": np.full(n, 0.1, dtype=np.float32),
    }
