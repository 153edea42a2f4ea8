import json
import re
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import WORDS, planted_artifact

from embedllm_router.artifact.weights import Artifact, default_artifact_path, load_artifact
from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.static_encoder import MAX_CHARS, StaticEncoder, clip_middle
from embedllm_router.prediction.text_features import STYLE_FEATURES, style_features

TEXTS = st.text(st.characters(), max_size=300)  # every code point there is, lone surrogates too


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return planted_artifact(tmp_path_factory.mktemp("encoder") / "artifact")


@cache
def shipped() -> StaticEncoder:
    return StaticEncoder.from_artifact(load_artifact(default_artifact_path()))


@pytest.fixture(scope="module")
def default() -> Artifact:
    return load_artifact(default_artifact_path())


@given(TEXTS)
def test_any_text_has_a_finite_embedding_of_the_announced_length(text: str) -> None:
    encoded = shipped().encode(text)
    assert encoded.prompt_embedding.shape == (shipped().spec.d_prompt,)
    assert encoded.prompt_embedding.dtype == np.float32
    assert np.isfinite(encoded.prompt_embedding).all()


@given(TEXTS)
def test_style_is_finite_named_and_never_negative(text: str) -> None:
    values = style_features(text)
    assert values.shape == (len(STYLE_FEATURES),)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    shares = [v for name, v in zip(STYLE_FEATURES, values, strict=True) if name.endswith("_share")]
    assert max(shares) <= 1


def style(text: str) -> dict[str, float]:
    return dict(zip(STYLE_FEATURES, style_features(text).tolist(), strict=True))


def test_style_counts_what_its_names_say() -> None:
    found = style("Why 12 + 345?\nA. one\nB. two\nx")
    counts = {"lines": 3, "numbers": 2, "number_digits_max": 3, "number_digits_mean": 2.5, "options": 2}
    counts |= {"words": 6, "single_letters": 3, "capitalised_words": 1, "line_chars_max": 13, "count_+": 1}
    for name, count in counts.items():
        assert found[f"log_{name}"] == pytest.approx(np.log1p(count), abs=1e-5), name
    assert found["question_mark"] == 1
    assert found["code"] == 0
    assert style("```python\nreturn 1```")["code"] == 1


OPTION = re.compile(r"^\s*\(?[A-J][.)]\s", re.MULTILINE)  # naive: quadratic in blank lines


@given(
    st.lists(
        st.sampled_from(["A. ", "(B) ", "C.\n", "stem", "\n", "\n\n", " ", "\t", "\r\n", "\x0b", "\u2003", "x A. "])
    )
)
def test_the_stem_ends_where_blank_lines_above_the_first_option_begin(pieces: list[str]) -> None:
    text = "".join(pieces)
    starts = [match.start() for match in OPTION.finditer(text)]
    stem = starts[0] if starts else len(text)
    found = style(text)
    assert found["log_options"] == pytest.approx(np.log1p(len(starts)), abs=1e-5)
    assert found["log_stem_chars"] == pytest.approx(np.log1p(stem), abs=1e-5)
    assert found["log_options_chars"] == pytest.approx(np.log1p(len(text) - stem), abs=1e-5)


@pytest.mark.parametrize("blank", ["\n", "\r\n", " ", "\t", "\u2003", "\x0b", " \n"])
def test_runs_of_blanks_take_no_longer_than_other_text(blank: str) -> None:
    """A ratio of processor time; where blanks could cross lines it was several hundred at this length."""
    size = 1 << 15
    hostile, plain = (blank * size)[:size], ("some plain words, as people write them.\n" * size)[:size]

    def seconds(text: str) -> float:
        started = time.process_time()
        style_features(text)
        return time.process_time() - started

    assert min(seconds(hostile) for _ in range(3)) < 10 * min(seconds(plain) for _ in range(3))


CODE = re.compile(
    r"```|\bdef \w+\(|\breturn\b|\bimport \w|#include|\bfunction\b|\bclass \w+[:({]|=>|;[ \t]*$",
    re.MULTILINE,
)
PIECES = (
    "```",
    "def f(",
    "def ",
    "return",
    "returns",
    "import os",
    "#include",
    "function",
    "class A:",
    "=",
    ">",
    ";",
    "x",
)


@given(st.lists(st.sampled_from((*PIECES, " ", "\t", "\n")), max_size=8).map("".join))
def test_code_is_what_one_pattern_of_all_its_signs_finds(text: str) -> None:
    assert style(text)["code"] == (CODE.search(text) is not None)


@pytest.mark.parametrize("text", ["", " \n\t", "😀👩‍👩‍👧", "\ud800 lone", "中文", "\x00\x7f", "a" * 5000])
def test_odd_texts_are_embedded(default: Artifact, text: str) -> None:
    assert np.isfinite(StaticEncoder.from_artifact(default).encode(text).prompt_embedding).all()


def test_a_text_without_tokens_has_zero_pools(default: Artifact) -> None:
    encoded = StaticEncoder.from_artifact(default).encode("")
    assert encoded.n_tokens == 0
    assert not encoded.prompt_embedding[: -len(STYLE_FEATURES)].any()


def test_a_million_characters_take_bounded_time_and_both_ends_count(default: Artifact) -> None:
    encoder = StaticEncoder.from_artifact(default)
    text = "beginning " + "filler 12, " * 95_000 + " ending"
    encoder.encode(text)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        encoded = encoder.encode(text)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.1
    assert encoded.n_tokens <= MAX_CHARS
    length = STYLE_FEATURES.index("log_chars") - len(STYLE_FEATURES)
    assert encoded.prompt_embedding[length] == pytest.approx(np.log1p(len(text)), rel=1e-5)


@given(TEXTS, st.integers(2, 50))
def test_clipping_keeps_both_ends(text: str, bound: int) -> None:
    clipped = clip_middle(text, bound)
    assert len(clipped) <= max(len(text), bound + 1)
    if len(text) > bound:
        assert clipped.startswith(text[: bound // 2])
        assert clipped.endswith(text[-(bound // 2) :])
    else:
        assert clipped == text


@settings(max_examples=25)
@given(st.lists(st.sampled_from(list(WORDS)), min_size=1, max_size=30))
def test_the_mean_pool_knows_no_order(words: list[str]) -> None:
    d = shipped().spec.d_embedding
    a, b = (shipped().encode(" ".join(w)).prompt_embedding[:d] for w in (words, sorted(words)))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_case_is_ignored_and_ordinary_text_is_known(default: Artifact) -> None:
    tokenizer = json.loads(default.tokenizer_json)
    assert tokenizer["truncation"] is None
    assert tokenizer["padding"] is None
    encoder = StaticEncoder.from_artifact(default)
    d = default.manifest.encoder.d_embedding
    upper, lower = (encoder.encode(t).prompt_embedding[:d] for t in ("Hello World", "hello world"))
    np.testing.assert_array_equal(upper, lower)
    unknown = tokenizer["model"]["vocab"][tokenizer["model"]["unk_token"]]
    ids = encoder._tokenizer.encode("Résumé: 3.14 * 10^6, naïve façade; Übung!", add_special_tokens=False).ids
    assert ids.count(unknown) == 0


def test_a_table_of_other_style_features_is_refused(planted: Artifact) -> None:
    spec = planted.manifest.encoder.model_copy(update={"style_features": ("moon_phase",)})
    other = replace(planted, manifest=planted.manifest.model_copy(update={"encoder": spec}))
    with pytest.raises(ArtifactError, match="moon_phase"):
        StaticEncoder.from_artifact(other)


def test_a_tokenizer_of_another_size_is_refused_with_both_sizes(planted: Artifact) -> None:
    tokenizer = json.loads(planted.tokenizer_json)
    tokenizer["model"]["vocab"]["extra"] = len(WORDS) + 1
    with pytest.raises(ArtifactError, match=f"has {len(WORDS) + 2} tokens, the token table {len(WORDS) + 1}"):
        StaticEncoder.from_artifact(replace(planted, tokenizer_json=json.dumps(tokenizer)))


def test_a_tokenizer_that_does_not_parse_is_refused(planted: Artifact) -> None:
    with pytest.raises(ArtifactError, match="does not parse"):
        StaticEncoder.from_artifact(replace(planted, tokenizer_json="{}"))
