"""The pools of n-grams against a second, naive implementation, and the folders that hold their tables."""

import hashlib
import json
import math
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import WORDS, planted_artifact
from pydantic import ValidationError
from safetensors.numpy import save as save_safetensors

from embedllm_router.artifact.manifest import EncoderSpec, NgramSpec
from embedllm_router.artifact.weights import load_artifact, save_artifact
from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.static_encoder import (
    _FACTORS,
    MAX_CHARS,
    NgramTable,
    StaticEncoder,
    clip_middle,
    ngram_rows,
    read_sequence,
    unit_sum,
)
from embedllm_router.prediction.text_features import STYLE_FEATURES, read_surface, style_features
from embedllm_router.routing.router import Router

TEXTS = st.text(st.characters(), max_size=300)  # every code point there is, lone surrogates too
SPECS = (
    NgramSpec(name="pairs", reads="tokens", n=2, n_rows=2**9, n_columns=5),
    NgramSpec(name="shapes", reads="shapes", n=5, n_rows=2**7, n_columns=6),
    NgramSpec(name="kinds", reads="kinds", n=5, n_rows=2**7, n_columns=7),
)
N_NGRAM_COLUMNS = 5 + 6 + 7


def table_of(spec: NgramSpec) -> NgramTable:
    rng = np.random.default_rng(spec.n_columns)
    vectors = rng.integers(-127, 128, (spec.n_rows, spec.n_columns)).astype(np.int8)
    return NgramTable(spec, vectors, rng.uniform(0.01, 1, spec.n_rows).astype(np.float32))


@cache
def plain() -> StaticEncoder:
    from tempfile import TemporaryDirectory  # noqa: PLC0415 - hypothesis has no use for a fixture of one test's folder

    with TemporaryDirectory() as folder:
        return StaticEncoder.from_artifact(planted_artifact(Path(folder) / "artifact"))


@cache
def with_tables() -> StaticEncoder:
    spec = plain().spec.model_copy(update={"ngrams": SPECS})
    tokenizer = plain()._tokenizer.to_str()
    return StaticEncoder(spec, plain()._embeddings, plain()._scales, tokenizer, [table_of(one) for one in SPECS])


def naive_kind(byte: int) -> int:
    character = chr(byte)
    if byte >= 128:
        return 7
    for kind, members in ((4, "\n"), (5, " \t\r"), (6, "#$%&()*+-/<=>@[\\]^_`{|}~")):
        if character in members:
            return kind
    return 1 if character.islower() else 2 if character.isupper() else 3 if character.isdigit() else 0


def naive_pool(table: NgramTable, sequence: list[int]) -> list[float]:
    """Python integers, dictionaries and floats, one n-gram at a time."""
    n, bits = table.spec.n, table.spec.n_rows.bit_length() - 1
    counts: Counter[int] = Counter()
    for start in range(len(sequence) - n + 1):
        code = sum((sequence[start + place] + 1) * int(_FACTORS[place]) for place in range(n)) % 2**64
        counts[code >> (64 - bits)] += 1
    total = [0.0] * table.spec.n_columns
    for row, count in counts.items():
        for column in range(len(total)):
            step = (1 + math.log(count)) * float(table.scales[row])
            total[column] += step * int(table.embeddings[row, column])
    length = math.sqrt(sum(value * value for value in total))
    return [value / length if length else 0.0 for value in total]


def naive_columns(text: str) -> list[float]:
    read = clip_middle(text, MAX_CHARS).encode("utf-8", "replace")
    kinds = [naive_kind(byte) for byte in read]
    merged = [kind for i, kind in enumerate(kinds) if i == 0 or kind != kinds[i - 1]]
    tokens = plain().token_ids(read.decode())
    pools = zip(SPECS, (tokens, merged, kinds), strict=True)
    return [value for spec, sequence in pools for value in naive_pool(table_of(spec), sequence)]


def ngram_columns(text: str) -> np.ndarray:
    d = plain().spec.d_embedding
    return with_tables().encode(text).prompt_embedding[d : d + N_NGRAM_COLUMNS]


@given(TEXTS)
def test_pools_are_those_of_a_naive_implementation(text: str) -> None:
    np.testing.assert_allclose(ngram_columns(text), naive_columns(text), atol=2e-5)


@pytest.mark.parametrize(
    "text",
    ["", "a", "abcde", "\ud800\udfff lone", "中文 mixed 12", "a" * 5000, " ".join(list(WORDS) * 20), "\0\0\0\0\0\0"],
)
def test_odd_texts_have_the_pools_of_a_naive_implementation(text: str) -> None:
    np.testing.assert_allclose(ngram_columns(text), naive_columns(text), atol=2e-5)


def test_of_a_megabyte_both_ends_are_pooled() -> None:
    text = "Begin 12! " + "filler 7, " * 100_000 + "(END)\n"
    np.testing.assert_allclose(ngram_columns(text), naive_columns(text), atol=1e-4)
    assert not np.allclose(ngram_columns(text), ngram_columns(text.replace("(END)", "so we")))


def test_a_sum_of_no_vectors_is_zero() -> None:
    """For each width a pool may have, with and without blocks; numpy's einsum was once seen to return NaN."""
    for width in range(1, 65):
        for blocks in ((), (1, width - 1) if width > 1 else (1,)):
            found = unit_sum(np.zeros(0, np.float32), np.zeros((0, width), np.int8), blocks)
            assert found.dtype == np.float32
            assert found.tolist() == [0.0] * width


@given(TEXTS)
def test_every_pool_has_length_one_or_is_zero(text: str) -> None:
    columns = ngram_columns(text)
    for start, end in ((0, 5), (5, 11), (11, 18)):
        length = float(np.linalg.norm(columns[start:end]))
        assert length == pytest.approx(1, abs=1e-5) or length == 0


@given(TEXTS)
def test_the_columns_lie_between_the_token_pools_and_the_style_and_change_neither(text: str) -> None:
    old, new = plain().encode(text).prompt_embedding, with_tables().encode(text).prompt_embedding
    d = plain().spec.d_embedding
    assert len(new) == with_tables().spec.d_prompt == len(old) + N_NGRAM_COLUMNS
    np.testing.assert_array_equal(new[:d], old[:d])
    np.testing.assert_array_equal(new[-len(STYLE_FEATURES) :], old[-len(STYLE_FEATURES) :])


@given(st.lists(st.integers(0, 2**20), max_size=40), st.integers(1, 8), st.sampled_from([2, 64, 2**14]))
def test_rows_lie_in_the_table_and_depend_on_the_ngram_alone(values: list[int], n: int, n_rows: int) -> None:
    sequence = np.array(values, dtype=np.int64)
    rows = ngram_rows(sequence, n, n_rows)
    assert len(rows) == max(len(values) - n + 1, 0)
    assert all(0 <= row < n_rows for row in rows.tolist())
    for start, row in enumerate(rows.tolist()):
        assert ngram_rows(sequence[start : start + n], n, n_rows).tolist() == [row]


def test_ngrams_spread_over_the_table() -> None:
    """Of 2^15 pairs and 2^15 runs of five kinds no row gets many more than its share."""
    every_kind = np.array(np.meshgrid(*[np.arange(8)] * 5, indexing="ij")).reshape(5, -1).T
    kinds = [int(ngram_rows(run, 5, 2**14)[0]) for run in every_kind]
    pairs = ngram_rows(np.random.default_rng(0).integers(0, 30_000, 2**15 + 1), 2, 2**14)
    for rows in (np.array(kinds), pairs.astype(np.int64)):
        assert np.bincount(rows).max() < 16
        assert np.count_nonzero(np.bincount(rows, minlength=2**14)) > 0.75 * 2**14


def test_shapes_merge_equal_neighbours() -> None:
    surface = read_surface("Hello  world 2024!")
    spec = SPECS[1]
    shapes = read_sequence(spec, np.zeros(0, np.int64), surface.kinds)
    assert shapes.tolist() == [2, 1, 5, 1, 5, 3, 0]
    assert read_sequence(spec, np.zeros(0, np.int64), read_surface("").kinds).tolist() == []


def test_the_order_of_words_now_tells() -> None:
    words = list(WORDS)[:6]
    a, b = (ngram_columns(" ".join(w)) for w in (words, words[::-1]))
    assert not np.allclose(a[:5], b[:5])


def test_tables_that_are_not_the_specs_are_refused() -> None:
    spec = plain().spec.model_copy(update={"ngrams": SPECS})
    with pytest.raises(ArtifactError, match="expected the n-gram tables"):
        StaticEncoder(spec, plain()._embeddings, plain()._scales, plain()._tokenizer.to_str())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_rows": 1000}, "power of two, found 1000"),
        ({"n": 9}, "less than or equal to 8"),
        ({"name": "../x"}, "pattern"),
        ({"reads": "minds"}, "tokens"),
    ],
)
def test_a_table_that_cannot_be_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        NgramSpec.model_validate(SPECS[0].model_dump() | change)


@pytest.mark.parametrize("names", [("pairs", "pairs"), ("token", "kinds")])
def test_names_of_tables_do_not_clash(names: tuple[str, str]) -> None:
    tables = [SPECS[0].model_dump() | {"name": name} for name in names]
    with pytest.raises(ValidationError, match=r"ngrams repeat \['(pairs|token)'\]"):
        EncoderSpec.model_validate(plain().spec.model_dump() | {"ngrams": tables})


def folder_with_tables(folder: Path) -> Path:
    """The planted artifact with n-gram tables that its decoder ignores."""
    old = planted_artifact(folder)
    tensors = dict(old.encoder)
    for spec in SPECS:
        tensors |= table_of(spec).tensors()
    encoder = old.manifest.encoder.model_copy(update={"ngrams": SPECS})
    decoder = {
        name: _widened(tensor, old.manifest.encoder.d_prompt, 1.0 if name == "input_scale" else 0.0)
        for name, tensor in old.decoder.items()
    }
    save_artifact(
        folder,
        old.manifest.model_copy(update={"encoder": encoder}),
        encoder=tensors,
        decoder=decoder,
        tokenizer_json=old.tokenizer_json,
        model_card="",
    )
    return folder


def _widened(tensor: np.ndarray, d_prompt: int, fill: float) -> np.ndarray:
    if tensor.shape[-1] != d_prompt:
        return tensor
    d_topic = d_prompt - len(STYLE_FEATURES)
    extra = np.full((*tensor.shape[:-1], N_NGRAM_COLUMNS), fill, np.float32)
    return np.concatenate([tensor[..., :d_topic], extra, tensor[..., d_topic:]], axis=-1)


def test_a_folder_with_tables_is_saved_loaded_and_routes_as_before(tmp_path: Path) -> None:
    planted_artifact(tmp_path / "old")
    new = Router.load(folder_with_tables(tmp_path / "new"))
    text = " ".join(list(WORDS)[:9])
    np.testing.assert_allclose(
        new.encode(text).prompt_embedding, with_tables().encode(text).prompt_embedding, atol=1e-6
    )
    before = Router.load(tmp_path / "old").route(text).decision.assessments()
    after = new.route(text).decision.assessments()
    assert [one.name for one in after] == [one.name for one in before]
    assert [one.p_correct for one in after] == pytest.approx([one.p_correct for one in before], abs=1e-5)


def test_a_folder_written_before_there_were_ngrams_loads(tmp_path: Path) -> None:
    planted_artifact(tmp_path / "old")
    file = tmp_path / "old" / "manifest.json"
    manifest = json.loads(file.read_text())
    assert manifest["encoder"].pop("ngrams") == []
    file.write_text(json.dumps(manifest))
    artifact = load_artifact(tmp_path / "old")
    assert artifact.manifest.encoder.ngrams == ()
    encoded = StaticEncoder.from_artifact(artifact).encode("5 apples")
    np.testing.assert_array_equal(encoded.prompt_embedding[-len(STYLE_FEATURES) :], style_features("5 apples"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("kinds_scales"), r"missing \['kinds_scales'\]"),
        (lambda t: t.update(pairs_embeddings=t["pairs_embeddings"][:-1]), r"pairs_embeddings is int8 \(511, 5\)"),
        (lambda t: t.update(shapes_scales=t["shapes_scales"] * np.float32(np.nan)), "shapes_scales holds NaN"),
        (lambda t: t.update(kinds_embeddings=t["kinds_embeddings"].astype(np.int16)), "kinds_embeddings is int16"),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, change: object, words: str) -> None:
    folder = folder_with_tables(tmp_path / "artifact")
    tensors = dict(load_artifact(folder).encoder)
    change(tensors)  # type: ignore[operator]  # one of the lambdas above
    data = save_safetensors(tensors)
    (folder / "encoder.safetensors").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["encoder.safetensors"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=words):
        load_artifact(folder)
