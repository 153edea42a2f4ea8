"""Small generated evaluations whose right answers are known."""

from pathlib import Path

import numpy as np
import polars as pl
from planted import NOVICE, PRICES, SPRINTER, WIZARD, WORDS, planted_artifact

from embedllm_router.artifact.manifest import DataSource
from embedllm_router.artifact.weights import Artifact, save_artifact
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.evaluation.inputs import Part

SETS = ("alpha", "beta")
RIGHT = {WIZARD: 0.95, SPRINTER: 0.7, NOVICE: 0.5}
__all__ = ["PRICES", "RIGHT", "SETS", "matrix", "topic_part", "trained_artifact", "write_data"]


def matrix(
    labels: np.ndarray,
    *,
    observed: np.ndarray | None = None,
    datasets: tuple[str, ...] | None = None,
    prompts: tuple[str, ...] | None = None,
    tokens: np.ndarray | None = None,
) -> CorrectnessMatrix:
    """A matrix around given labels (n_prompts, n_llms)."""
    n_prompts, n_llms = labels.shape
    seen = np.ones(labels.shape, bool) if observed is None else observed
    return CorrectnessMatrix(
        prompts=prompts or tuple(f"prompt number {i} of a made up set" for i in range(n_prompts)),
        prompt_ids=tuple(f"p{i}" for i in range(n_prompts)),
        categories=("any",) * n_prompts,
        datasets=datasets or ("made_up",) * n_prompts,
        llm_ids=tuple(f"llm{i}" for i in range(n_llms)),
        correctness=np.where(seen, labels, 0).astype(np.float32),
        observed=seen,
        output_tokens=np.full(labels.shape, np.nan, np.float32) if tokens is None else tokens.astype(np.float32),
        counted=np.zeros(labels.shape, dtype=np.bool_),
        input_tokens=np.full(labels.shape[0], np.nan, dtype=np.float32),
    )


def topic_part(n: int, seed: int, *, density: float = 1.0, n_llms: int = 3) -> Part:
    """Prompts of three topics; LLM j is right 9 times in 10 on topic j and 1 time in 5 elsewhere."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, 3, n)
    p = np.where(topic[:, None] == np.arange(n_llms) % 3, 0.9, 0.2)
    labels = (rng.random((n, n_llms)) < p).astype(np.float32)
    x = np.eye(6, dtype=np.float32)[topic] + rng.normal(0, 0.1, (n, 6)).astype(np.float32)
    return Part(matrix(labels, observed=rng.random((n, n_llms)) < density), x.astype(np.float32))


def write_data(root: Path, *, n: int = 160, seed: int = 0, stranger: bool = True) -> list[Path]:
    """Two data sets about the planted artifact's words; a stranger LLM and unparsed answers among them."""
    rng = np.random.default_rng(seed)
    folders = []
    for name in SETS:
        words = rng.choice(list(WORDS), n)
        ids = [f"{name}/{i}" for i in range(n)]
        prompts = [f"{word} {name} {word} question {i} of many words here?" for i, word in enumerate(words)]
        llms = [*RIGHT, *(["stranger"] if stranger else [])]
        rows = [
            {
                "item_id": item,
                "model": llm,
                "score": float(rng.random() < RIGHT.get(llm, 0.5)),
                "output_chars": 400,
                "graded": "none" if llm == NOVICE and i == 0 else "auto",
            }
            for i, item in enumerate(ids)
            for llm in llms
        ]
        folder = root / name
        folder.mkdir(parents=True)
        items = {"item_id": ids, "category": [WORDS[w] for w in words], "prompt": prompts}
        pl.DataFrame(items).write_parquet(folder / "items.parquet")
        pl.DataFrame(rows).write_parquet(folder / "results.parquet")
        folders.append(folder)
    return folders


def trained_artifact(folder: Path, *, n: int = 160, sets: tuple[str, ...] = SETS) -> Artifact:
    """The planted artifact, claiming to have been trained on `write_data`'s folders."""
    planted = planted_artifact(folder)
    sources = tuple(DataSource(name=s, licence="none", attribution="none", n_prompts=n, n_labels=3 * n) for s in sets)
    manifest = planted.manifest.model_copy(update={"data": sources, "training": {"split_seed": 0}})
    return save_artifact(
        folder,
        manifest,
        encoder=planted.encoder,
        decoder=planted.decoder,
        tokenizer_json=planted.tokenizer_json,
        model_card="# Planted\n",
    )
