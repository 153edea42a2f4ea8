"""Tables of n-grams find what training prompts share, and what training fits is what serving computes."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.linalg import svd

from embedllm_router.artifact.manifest import NgramSpec
from embedllm_router.prediction.static_encoder import NgramPools, NgramTable, StaticEncoder, ngram_rows
from embedllm_router.training.fit.distill import TokenTable
from embedllm_router.training.fit.encoding import DEFAULT_NGRAMS, fit_ngrams, prepare_encoder

SPEC = NgramSpec(name="pairs", reads="tokens", n=2, n_rows=2**10, n_columns=2)


def sequences() -> list[np.ndarray]:
    """Two kinds of prompts: some count up, some count down, from anywhere; single tokens do not tell them apart."""
    starts = np.random.default_rng(0).integers(0, 12, 60)
    up = [np.arange(s, s + 8) for s in starts]
    return up + [sequence[::-1] for sequence in up]


def pool(table: NgramTable, sequence: np.ndarray) -> np.ndarray:
    return NgramPools([table]).read(sequence, np.zeros(0, dtype=np.uint8))[0]


def test_prompts_of_the_same_tokens_in_another_order_are_told_apart() -> None:
    table = fit_ngrams(SPEC, sequences())
    pools = np.stack([pool(table, sequence) for sequence in sequences()])
    alike = pools @ pools.T
    same = np.arange(120) < 60
    assert np.abs(alike[np.ix_(same, ~same)]).max() < 0.3
    assert np.median(alike[np.ix_(same, same)]) > 0.5


def naive_projection(prompts: list[np.ndarray], n_columns: int) -> np.ndarray:
    """TF-IDF as dense loops and an exact decomposition: projection of every prompt, each of length 1."""
    n_prompts = len(prompts)
    counts = np.zeros((n_prompts, SPEC.n_rows))
    for i, prompt in enumerate(prompts):
        for start in range(len(prompt) - 1):
            counts[i, int(ngram_rows(prompt[start : start + 2], 2, SPEC.n_rows)[0])] += 1
    found = (counts > 0).sum(axis=0)
    idf = np.where(found >= 2, np.log((1 + n_prompts) / (1 + found)) + 1, 0)
    weighted = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0) * idf
    unit = weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-12)
    projected = weighted @ svd(unit)[2][:n_columns].T
    return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)


def test_pools_are_the_projection_a_dense_decomposition_gives() -> None:
    """Of prompts whose 16 pairs are common and rare, and repeat within a prompt."""
    rng = np.random.default_rng(1)
    prompts = [rng.choice(4, rng.integers(4, 60), p=(0.5, 0.3, 0.15, 0.05)) for _ in range(100)]
    table = fit_ngrams(SPEC.model_copy(update={"n_columns": 6}), prompts)
    pools = np.stack([pool(table, prompt) for prompt in prompts])
    expected = naive_projection(prompts, 6)
    np.testing.assert_allclose(pools @ pools.T, expected @ expected.T, atol=0.02)


def test_an_ngram_of_one_prompt_says_nothing() -> None:
    lonely = np.array([500, 501])
    table = fit_ngrams(SPEC, [*sequences(), lonely])
    row = int(ngram_rows(lonely, 2, SPEC.n_rows)[0])
    shared = {int(r) for one in sequences() for r in ngram_rows(one, 2, SPEC.n_rows)}
    assert row not in shared, "choose other tokens: these collide"
    assert not table.embeddings[row].any()
    assert not pool(table, lonely).any()


def test_few_prompts_make_few_columns() -> None:
    table = fit_ngrams(SPEC.model_copy(update={"n_columns": 128}), sequences()[:7])
    assert table.spec.n_columns == 7
    assert table.embeddings.shape == (SPEC.n_rows, 7)


@pytest.fixture
def token_table() -> TokenTable:
    vocabulary = {"[UNK]": 0, "red": 1, "green": 2, "blue": 3, "seven": 4}
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
    vectors = np.random.default_rng(0).integers(-127, 128, (5, 3)).astype(np.int8)
    return TokenTable("random", vectors, np.full(5, 0.01, np.float32), json.dumps(tokenizer))


def test_a_prepared_encoder_is_its_own_tensors_and_the_same_every_time(token_table: TokenTable) -> None:
    prompts = ["red green blue", "green blue red 77", "Seven (red)\nlines", "blue \ud800 blue"] * 4
    made, again = (prepare_encoder(token_table, prompts, n_columns=2, ngrams=DEFAULT_NGRAMS) for _ in range(2))
    assert isinstance(made.encoder, StaticEncoder)
    assert [one.name for one in made.encoder.spec.ngrams] == ["pairs", "shapes", "kinds"]
    for name, tensor in made.tensors.items():
        np.testing.assert_array_equal(tensor, again.tensors[name])
    for one in made.encoder.spec.ngrams:
        assert made.tensors[f"{one.name}_embeddings"].shape == (one.n_rows, one.n_columns)
    a, b = (made.encoder.encode(text).prompt_embedding for text in ("red green blue", "blue green red"))
    of_tokens = slice(0, made.encoder.spec.d_embedding)
    np.testing.assert_allclose(a[of_tokens], b[of_tokens], atol=1e-6)
    assert not np.allclose(a, b)


def test_without_tables_the_encoder_is_the_old_one(token_table: TokenTable) -> None:
    made = prepare_encoder(token_table, ["red green", "blue"], n_columns=0, ngrams=())
    assert made.tensors.keys() == {"token_embeddings", "token_scales"}
    assert isinstance(made.encoder, StaticEncoder)
    assert made.encoder.spec.ngrams == ()
