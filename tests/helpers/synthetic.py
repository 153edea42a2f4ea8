"""Small generated correctness data whose structure is known: topics decide who is right."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from planted import planted_artifact

from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.training.fit.distill import TokenTable

TOPICS: Mapping[str, tuple[str, ...]] = {
    "arithmetic": ("sum", "product", "divide", "seven", "twelve", "number", "remainder"),
    "poetry": ("rhyme", "stanza", "verse", "moon", "sorrow", "line", "meter"),
    "code": ("loop", "pointer", "compile", "stack", "recursion", "bug", "array"),
}
SKILL: Mapping[str, Mapping[str, float]] = {
    "calculator": {"arithmetic": 0.95, "poetry": 0.05, "code": 0.5},
    "poet": {"arithmetic": 0.05, "poetry": 0.95, "code": 0.1},
    "engineer": {"arithmetic": 0.6, "poetry": 0.1, "code": 0.95},
}
LLMS = tuple(sorted(SKILL))


def write_set(folder: Path, *, n: int = 240, seed: int = 0, density: float = 1.0) -> Path:
    """Writes a data set whose LLMs are right with the probability `SKILL` gives for the prompt's topic."""
    rng = np.random.default_rng(seed)
    topics = [list(TOPICS)[i % len(TOPICS)] for i in range(n)]
    prompts = [f"{' '.join(rng.choice(TOPICS[t], 6))} {folder.name} case {i}?" for i, t in enumerate(topics)]
    ids = [f"{folder.name}/{i}" for i in range(n)]
    rows = [
        {
            "item_id": item,
            "model": llm,
            "score": float(rng.random() < SKILL[llm][topic]),
            "output_chars": int(400 * (1 + LLMS.index(llm)) * rng.lognormal(0, 0.2)),
        }
        for item, topic in zip(ids, topics, strict=True)
        for llm in LLMS
        if rng.random() < density
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"item_id": ids, "category": topics, "prompt": prompts}).write_parquet(folder / "items.parquet")
    pl.DataFrame(rows).write_parquet(folder / "results.parquet")
    return folder


def tiny_matrix(correctness: list[list[float]], observed: list[list[bool]] | None = None) -> CorrectnessMatrix:
    """A matrix with made-up prompts around given numbers."""
    values = np.array(correctness, dtype=np.float32)
    n_prompts, n_llms = values.shape
    return CorrectnessMatrix(
        prompts=tuple(f"prompt {i}" for i in range(n_prompts)),
        prompt_ids=tuple(f"p{i}" for i in range(n_prompts)),
        categories=("any",) * n_prompts,
        datasets=("made_up",) * n_prompts,
        llm_ids=tuple(f"llm{i}" for i in range(n_llms)),
        correctness=values,
        observed=np.ones(values.shape, bool) if observed is None else np.array(observed),
        output_tokens=np.full(values.shape, np.nan, dtype=np.float32),
        counted=np.zeros(values.shape, dtype=np.bool_),
        input_tokens=np.full(values.shape[0], np.nan, dtype=np.float32),
    )


def small_table(folder: Path) -> TokenTable:
    """A random token table whose tokens are the words of the generated prompts."""
    tokenizer = json.loads(planted_artifact(folder).tokenizer_json)
    words = sorted({word for topic in TOPICS.values() for word in topic})
    tokenizer["model"]["vocab"] = {word: i for i, word in enumerate(["[UNK]", *words])}
    rng = np.random.default_rng(0)
    vectors = rng.integers(-127, 128, (len(words) + 1, 16)).astype(np.int8)
    return TokenTable("random", vectors, np.full(len(vectors), 0.01, np.float32), json.dumps(tokenizer))


@contextmanager
def small_ngrams() -> Iterator[None]:
    """`train` in this process fits n-gram tables of 256 rows and 16 columns: decomposing full ones takes 10 s."""
    from embedllm_router.training.fit.encoding import DEFAULT_NGRAMS  # noqa: PLC0415 - loads scikit-learn
    from embedllm_router.training.fit.recipe import learn  # noqa: PLC0415 - loads torch

    small = tuple(one.model_copy(update={"n_rows": 2**8, "n_columns": 16}) for one in DEFAULT_NGRAMS)
    defaults = learn.__kwdefaults__
    assert defaults is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(defaults, "ngrams", small)
        patch.setitem(defaults, "prompt_columns", 16)
        yield
