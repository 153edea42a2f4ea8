"""A sentence transformer as prompt encoder: what it reads, and that another one is refused."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_transformer import MINILM, needs_minilm, transformer_artifact
from typer.testing import CliRunner

from embedllm_router import Router
from embedllm_router.artifact.manifest import TransformerSpec
from embedllm_router.artifact.weights import Artifact, load_artifact
from embedllm_router.cli.main import app
from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.loading import load_encoder
from embedllm_router.prediction.static_encoder import StaticEncoder
from embedllm_router.prediction.text_features import STYLE_FEATURES, style_features
from embedllm_router.prediction.transformer_encoder import (
    Device,
    TransformerEncoder,
    _multiplies_bfloat16,
    resolve_source,
    without_load_report,
)

D_MINILM = 384
pytestmark = needs_minilm
LONG = "The reservoir is filled by two pumps while a third one drains it again. " * 60


IN_FLOAT32 = not _multiplies_bfloat16(torch)
NEAR = 1e-5 if IN_FLOAT32 else 3e-3  # of a number of an embedding of length 1


@pytest.fixture(scope="module")
def encoder() -> TransformerEncoder:
    return TransformerEncoder(MINILM)


def test_what_transformers_reports_of_a_file_is_kept_out_while_a_model_loads() -> None:
    seen, logger = list[str](), logging.getLogger("transformers.modeling_utils")
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        with without_load_report():
            logger.warning("BertModel LOAD REPORT from: somewhere")
            logger.warning("something else")
        logger.warning("BertModel LOAD REPORT from: elsewhere")
    finally:
        logger.removeHandler(handler)
    assert seen == ["something else", "BertModel LOAD REPORT from: elsewhere"]


def test_a_model_is_loaded_from_a_folder_and_known_by_its_name(encoder: TransformerEncoder, tmp_path: Path) -> None:
    found = TransformerEncoder("acme/mini", revision="0123abcd", folder=Path(resolve_source(MINILM)))
    assert (found.spec.source, found.spec.revision) == ("acme/mini", None)
    assert found.spec.weights_sha256 == encoder.spec.weights_sha256
    again = TransformerEncoder.from_spec(found.spec, folder=Path(resolve_source(MINILM)))
    np.testing.assert_array_equal(again.encode(LONG).prompt_embedding, found.encode(LONG).prompt_embedding)
    with pytest.raises(ArtifactError, match=r"'acme/mini'.*encoder\.folder"):
        TransformerEncoder.from_spec(found.spec)
    with pytest.raises(ArtifactError, match=r"from .*nowhere.*no such folder"):
        TransformerEncoder.from_spec(found.spec, folder=tmp_path / "nowhere")


def spoiled(kind: str, folder: Path) -> Path:
    """A copy of the model's folder of which one file is cut short, empty or missing; or no such folder at all."""
    if kind == "file":
        folder.write_text("")
        return folder
    shutil.copytree(resolve_source(MINILM), folder)
    name = {"cut": "model.safetensors", "empty": "tokenizer.json", "missing": "config.json"}[kind]
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if kind != "missing":
        (folder / name).write_bytes(content[:1000] if kind == "cut" else b"")
    return folder


@pytest.mark.parametrize("kind", ["cut", "empty", "missing", "file"])
def test_damaged_files_are_refused_in_one_sentence_that_names_the_folder(
    encoder: TransformerEncoder, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled(kind, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=r"cannot load .* from .*encoder\.folder") as refused:
        TransformerEncoder.from_spec(encoder.spec, folder=Path("model"))
    assert str(tmp_path / "model") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_of_another_model_is_refused(encoder: TransformerEncoder) -> None:
    other = encoder.spec.model_copy(update={"source": "acme/mini", "weights_sha256": "0" * 64})
    with pytest.raises(ArtifactError, match=r"in .* is not the one the artifact was trained with: weights_sha256"):
        TransformerEncoder.from_spec(other, folder=Path(resolve_source(MINILM)))


def test_commands_take_the_folder_from_the_environment(
    encoder: TransformerEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = encoder.spec.model_copy(update={"source": "acme/mini", "revision": None})
    transformer_artifact(tmp_path, renamed)
    arguments = ["route", "What is 6 times 7?", f"--artifact={tmp_path / 'artifact'}", "--json"]
    unknown = CliRunner().invoke(app, arguments)
    assert unknown.exit_code == 1
    assert "EMBEDLLM_ROUTER_ENCODER__FOLDER" in unknown.output
    monkeypatch.setenv("EMBEDLLM_ROUTER_ENCODER__FOLDER", resolve_source(MINILM))
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    monkeypatch.setenv("EMBEDLLM_ROUTER_ENCODER__ENDPOINT", "http://127.0.0.1:9/v1")
    both = CliRunner().invoke(app, arguments)
    assert both.exit_code == 2
    assert "endpoint and folder exclude each other" in both.output


@pytest.fixture
def artifact(encoder: TransformerEncoder, tmp_path: Path) -> Artifact:
    return transformer_artifact(tmp_path, encoder.spec)


def test_a_short_text_is_what_sentence_transformers_makes_of_it_and_its_style(encoder: TransformerEncoder) -> None:
    found = encoder.encode("What is 6 times 7?")
    expected = encoder._model.encode("What is 6 times 7?")
    np.testing.assert_allclose(found.prompt_embedding[:D_MINILM], expected, atol=NEAR)
    np.testing.assert_array_equal(found.prompt_embedding[D_MINILM:], style_features("What is 6 times 7?"))
    assert found.n_tokens == 8, "six and the two that mark the ends"


def test_a_long_text_is_read_in_chunks_and_its_end_counts(encoder: TransformerEncoder) -> None:
    long, other = encoder.encode(LONG), encoder.encode(LONG + "Integrate the sine of x over the unit circle. " * 20)
    assert long.n_tokens > 3 * encoder.spec.max_tokens
    assert np.linalg.norm(long.prompt_embedding[:D_MINILM]) == pytest.approx(1, abs=1e-5)
    assert long.prompt_embedding[:D_MINILM] @ other.prompt_embedding[:D_MINILM] < 0.99
    cut = encoder._model.encode(LONG)
    assert long.prompt_embedding[:D_MINILM] @ cut < 0.9999, "sentence_transformers alone would cut it"


def test_a_long_text_is_the_average_of_its_chunks(encoder: TransformerEncoder) -> None:
    tokenizer, size = encoder._model.tokenizer, encoder.spec.max_tokens - 2
    ids = tokenizer(LONG, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    total = np.zeros(D_MINILM)
    for start in range(0, len(ids), size):
        text = tokenizer.decode(ids[start : start + size])
        total += encoder._model.encode(text) * (len(ids[start : start + size]) + 2)
    expected = total / np.linalg.norm(total)
    np.testing.assert_allclose(encoder.encode(LONG).prompt_embedding[:D_MINILM], expected, atol=10 * NEAR)


@pytest.mark.parametrize("text", ["", " ", "\ud800", "日本語", "x" * 40_000])
def test_any_text_is_embedded_finitely(encoder: TransformerEncoder, text: str) -> None:
    assert np.isfinite(encoder.encode(text).prompt_embedding).all()


def test_many_texts_are_embedded_as_each_alone(encoder: TransformerEncoder) -> None:
    texts = ["short", LONG, "a longer question about rivers?", ""]
    for text, found in zip(texts, encoder.encode_all(texts), strict=True):
        alone = encoder.encode(text)
        np.testing.assert_allclose(found.prompt_embedding, alone.prompt_embedding, atol=NEAR)
        assert found.n_tokens == alone.n_tokens


def test_bfloat16_changes_the_direction_of_an_embedding_by_less_than_a_thousandth(encoder: TransformerEncoder) -> None:
    for text in ("What is 6 times 7?", LONG):
        found = encoder.encode(text).prompt_embedding[:D_MINILM]
        encoder._bfloat16, before = False, encoder._bfloat16
        exact = encoder.encode(text).prompt_embedding[:D_MINILM]
        encoder._bfloat16 = before
        assert found @ exact > 0.999
        assert np.array_equal(found, exact) is not before


def test_what_was_kept_is_not_computed_again_and_is_the_same(
    encoder: TransformerEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["short", LONG, "\ud800", "short"]
    keeping = TransformerEncoder(MINILM, keep_in=tmp_path)
    first = keeping.encode_all(texts)
    again = TransformerEncoder(MINILM, keep_in=tmp_path)
    monkeypatch.setattr(again, "_model", None)
    for text, one, other in zip(texts, first, again.encode_all(texts), strict=True):
        np.testing.assert_array_equal(one.prompt_embedding, other.prompt_embedding)
        assert one.n_tokens == other.n_tokens == encoder.encode(text).n_tokens


def test_an_artifact_names_its_transformer_holds_none_of_its_weights_and_routes(artifact: Artifact) -> None:
    assert sorted(artifact.manifest.files) == ["decoder.safetensors"]
    spec = artifact.manifest.encoder
    assert isinstance(spec, TransformerSpec)
    assert (spec.kind, spec.source, spec.pooling, spec.max_tokens) == ("sentence-transformers", MINILM, "mean", 256)
    assert spec.d_prompt == D_MINILM + len(STYLE_FEATURES)
    assert len(Router(artifact).route("hello").decision.assessments()) == 3


@pytest.mark.parametrize(
    ("name", "other"),
    [("weights_sha256", "0" * 64), ("d_embedding", 768), ("pooling", "cls"), ("max_tokens", 128), ("vocab_size", 7)],
)
def test_another_transformer_is_refused_with_expected_and_found(
    encoder: TransformerEncoder, name: str, other: object
) -> None:
    spec = encoder.spec.model_copy(update={name: other})
    with pytest.raises(ArtifactError, match=f"{name} expected {other}, found {getattr(encoder.spec, name)}"):
        TransformerEncoder.from_spec(spec)


def test_a_transformer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot load the sentence transformer"):
        TransformerEncoder(str(tmp_path / "nowhere"))


def test_a_device_that_is_not_there_is_refused_by_name(encoder: TransformerEncoder) -> None:
    absent: Device = "cuda" if encoder.device != "cuda" else "mps"
    with pytest.raises(ArtifactError, match=rf"encoder.device is '{absent}'.*finds: .*cpu.*set the device to auto"):
        TransformerEncoder(MINILM, device=absent)


def test_threads_are_its_own_business(encoder: TransformerEncoder) -> None:
    before = torch.get_num_threads()
    alone = TransformerEncoder(MINILM, device="cpu", threads=1).encode("a question")
    assert torch.get_num_threads() == before
    np.testing.assert_allclose(alone.prompt_embedding, encoder.encode("a question").prompt_embedding, atol=NEAR)


def test_a_static_encoder_is_not_made_of_a_transformers_artifact(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match="expected a static one"):
        StaticEncoder.from_artifact(artifact)


def test_encoding_one_text_leaves_torchs_threads_as_they_were(encoder: TransformerEncoder) -> None:
    import torch  # noqa: PLC0415 - only this file's tests need it

    before = torch.get_num_threads()
    encoder.encode("hello")
    assert torch.get_num_threads() == before


def test_the_shipped_artifact_has_the_static_encoder() -> None:
    assert isinstance(load_encoder(load_artifact(Path(__file__).parents[2] / "weights" / "default")), StaticEncoder)
