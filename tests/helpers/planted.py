"""A tiny artifact whose answers are known by construction.

Four topics, four words, three LLMs. `wizard` is right 95 times in 100 whatever the topic; `sprinter` is as good at
chat and poor at maths; `novice` tosses a coin. Each prompt's topic is its words, nothing else.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from embedllm_router.artifact.manifest import DataSource, DecoderSpec, EncoderSpec, LearnedLLM, Manifest
from embedllm_router.artifact.weights import Artifact, save_artifact
from embedllm_router.prediction.text_features import STYLE_FEATURES

TOPICS = ("chat", "maths", "law", "code")
WORDS = {"hello": "chat", "integral": "maths", "statute": "law", "function": "code"}
WIZARD, SPRINTER, NOVICE = "wizard-2025-01-01", "sprinter-7b-instruct", "novice-1.5b"
LOGIT = 3.0
"""Logit of what an LLM is good at; minus that, of what it is bad at."""
OUTPUT_TOKENS = {WIZARD: 400.0, SPRINTER: 100.0, NOVICE: 50.0}
PRICES: dict[str, tuple[Any, Any]] = {WIZARD: (10.0, 40.0), SPRINTER: (0.2, 0.6), NOVICE: (None, None)}


def planted_artifact(folder: Path) -> Artifact:
    """Writes the planted artifact to a folder and loads it."""
    vocabulary = {"[UNK]": 0, **{word: i for i, word in enumerate(WORDS, start=1)}}
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    return save_artifact(
        folder,
        _manifest(len(vocabulary)),
        encoder=_encoder_tensors(),
        decoder=_decoder_tensors(),
        tokenizer_json=json.dumps(tokenizer),
        model_card="# Planted artifact for tests\n",
    )


def _manifest(vocab_size: int) -> Manifest:
    return Manifest(
        created="2026-01-01",
        encoder=EncoderSpec(
            kind="static",
            source="planted",
            vocab_size=vocab_size,
            d_embedding=len(TOPICS),
            pools=("mean",),
            tail_tokens=8,
            style_features=STYLE_FEATURES,
        ),
        decoder=DecoderSpec(kind="mf", hidden=(), d_llm=len(TOPICS), length_hidden=(), d_length=len(TOPICS)),
        llms=tuple(_llm(name) for name in (WIZARD, SPRINTER, NOVICE)),
        data=(DataSource(name="planted", licence="none", attribution="none", n_prompts=1, n_labels=3),),
        training={"seed": 0},
        metrics={},
    )


def _llm(name: str) -> LearnedLLM:
    price_in, price_out = PRICES[name]
    return LearnedLLM(
        id=name,
        vendor="planted",
        thinking=False,
        n_labels=1000,
        mean_correctness=0.5,
        input_usd_per_mtok=price_in,
        output_usd_per_mtok=price_out,
        price_source="planted" if price_in is not None else None,
    )


def _encoder_tensors() -> dict[str, np.ndarray]:
    table = np.zeros((len(WORDS) + 1, len(TOPICS)), dtype=np.int8)
    for row, topic in enumerate(WORDS.values(), start=1):
        table[row, TOPICS.index(topic)] = 100
    return {"token_embeddings": table, "token_scales": np.full(len(table), 0.01, dtype=np.float32)}


def _decoder_tensors() -> dict[str, np.ndarray]:
    d_topic, d_prompt = len(TOPICS), len(TOPICS) + len(STYLE_FEATURES)
    read_topic = np.eye(d_topic, d_prompt, dtype=np.float32)
    embeddings = np.array([[LOGIT] * d_topic, [LOGIT, -LOGIT, 0.0, 0.0], [0.0] * d_topic], dtype=np.float32)
    return {
        "input_mean": np.zeros(d_prompt, dtype=np.float32),
        "input_scale": np.ones(d_prompt, dtype=np.float32),
        "prompt_network.0.weight": read_topic,
        "prompt_network.0.bias": np.zeros(d_topic, dtype=np.float32),
        "length_network.0.weight": read_topic,
        "length_network.0.bias": np.zeros(d_topic, dtype=np.float32),
        "llm_embeddings": embeddings,
        "llm_bias": np.zeros(3, dtype=np.float32),
        "length_embeddings": np.zeros((3, d_topic), dtype=np.float32),
        "length_bias": np.log(np.array(list(OUTPUT_TOKENS.values()), dtype=np.float32)),
    }
