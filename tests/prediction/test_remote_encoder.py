"""Embeddings of an endpoint: those of the transformer the weights were trained with, or an error that says why not."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from embedding_server import MODEL, EmbeddingServer, by_words, embedding_server, spec_of_words
from planted_transformer import MINILM, needs_minilm, transformer_artifact
from starlette.responses import Response, StreamingResponse

from embedllm_router.artifact.manifest import PROBE, TransformerSpec
from embedllm_router.artifact.weights import load_artifact
from embedllm_router.errors import ArtifactError, EncoderError
from embedllm_router.prediction import remote_encoder
from embedllm_router.prediction.loading import load_encoder
from embedllm_router.prediction.remote_encoder import Endpoint, Form, RemoteEncoder, TextCutter
from embedllm_router.prediction.text_features import style_features
from embedllm_router.prediction.transformer_encoder import TransformerEncoder

LONG = "The reservoir is filled by two pumps while a third one drains it again. " * 60
SOON_S = 20.0
FORMS: tuple[Form, ...] = ("openai", "tei")


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        yield running


def remote(server: EmbeddingServer, spec: TransformerSpec | None = None, **options: Any) -> RemoteEncoder:
    spec = spec or spec_of_words()
    endpoint = replace(Endpoint(url=server.url, timeout_s=SOON_S), **options)
    return RemoteEncoder(spec, TextCutter(None, spec.max_tokens), endpoint)


@pytest.mark.parametrize("form", FORMS)
def test_texts_are_embedded_in_their_order_with_their_style(server: EmbeddingServer, form: Form) -> None:
    texts = ["hello", "an integral of a function", "a statute"]
    found = remote(server, form=form, api_key="sk-secret").encode_all(texts)
    for text, one, expected in zip(texts, found, by_words(texts), strict=True):
        np.testing.assert_allclose(one.prompt_embedding[:5], expected, atol=1e-6)
        np.testing.assert_array_equal(one.prompt_embedding[5:], style_features(text))
    (call,) = server.calls
    assert server.keys == ["Bearer sk-secret"]
    assert (call["inputs"] if form == "tei" else call["input"]) == [PROBE, *texts]
    assert call.get("model") == (None if form == "tei" else MODEL)


def test_the_probe_is_sent_once_and_again_after_a_failure(server: EmbeddingServer) -> None:
    encoder = remote(server, model="another name")
    encoder.encode("hello")
    encoder.encode("hello")
    server.spoil = lambda _: Response(status_code=503)
    with pytest.raises(EncoderError, match="answered 503"):
        encoder.encode("hello")
    server.spoil = None
    encoder.encode("hello")
    assert [len(call["input"]) for call in server.calls] == [2, 1, 1, 2]
    assert {call["model"] for call in server.calls} == {"another name"}


def test_answers_are_placed_by_their_index(server: EmbeddingServer) -> None:
    texts = ["hello", "a statute"]
    expected = [one.prompt_embedding for one in remote(server).encode_all(texts)]
    server.spoil = lambda right: Response(orjson.dumps({"data": right["data"][::-1]}))
    found = [one.prompt_embedding for one in remote(server).encode_all(texts)]
    np.testing.assert_array_equal(found, expected)


def test_long_texts_are_sent_in_chunks_and_few_at_a_time(server: EmbeddingServer) -> None:
    encoder = remote(server, spec_of_words(max_tokens=10), max_batch=3)
    text = "integral  " * 5 + "hello"
    vectors = np.array(by_words(["integral", "hello"]))
    expected = vectors[0] * 50 + vectors[1] * 5
    found = encoder.encode(text).prompt_embedding[:5]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)
    assert [len(call["input"]) for call in server.calls] == [3, 3, 1]
    assert encoder.encode("").n_tokens == 0


def change(what: Callable[[list[Any]], Any]) -> Callable[[Any], Response]:
    """An answer whose rows are changed."""

    def spoiled(right: dict[str, Any]) -> Response:
        what(right["data"])
        return Response(json.dumps(right))

    return spoiled


def slow(_: Any) -> Response:
    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b" "
            time.sleep(0.05)

    return StreamingResponse(parts())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda _: Response(status_code=500), "answered 500"),
        (lambda _: Response(status_code=401), r"answered 401: check encoder\.api_key"),
        (lambda _: Response(status_code=307, headers={"location": "/v1/embed"}), "redirects are not followed"),
        (lambda _: Response("<html>hello</html>"), "not JSON"),
        (lambda _: Response(b" " * 10_000_000), "bytes, so that is no embedding"),
        (lambda _: Response("[1, 2]"), "not the form that encoder.form names"),
        (lambda _: Response('{"data": [1, 2]}'), "not the form that encoder.form names"),
        (change(lambda rows: rows.pop()), "1 embeddings for 2 texts"),
        (change(lambda rows: rows[0].update(index=1)), "index are not 0, 1, 2"),
        (change(lambda rows: rows[1]["embedding"].pop()), "embeddings of 4, 5 numbers"),
        (change(lambda rows: [row["embedding"].append(0.5) for row in rows]), "embeddings of 6 numbers, expected 5"),
        (change(lambda rows: rows[0]["embedding"].__setitem__(2, float("nan"))), "not JSON"),
        (change(lambda rows: rows[0]["embedding"].__setitem__(2, 1e300)), "not finite"),
        (change(lambda rows: rows[0]["embedding"].__setitem__(2, None)), "not made of numbers"),
        (change(lambda rows: rows[0]["embedding"].__setitem__(2, "1.5")), "not made of numbers"),
        (change(lambda rows: rows[0].update(embedding=[0.0] * 5)), "all zero"),
        (change(lambda rows: rows[0].update(embedding="AAAA")), "embeddings of 0, 5 numbers"),
        (slow, "gave no answer within 300 ms"),
    ],
)
def test_an_answer_that_is_no_embedding_is_an_error_that_says_why(
    server: EmbeddingServer, spoil: Callable[[Any], Response], says: str
) -> None:
    encoder = remote(server, timeout_s=SOON_S if spoil is not slow else 0.3, api_key="sk-secret")
    encoder.encode_all(["hello", "a statute"])
    server.spoil = spoil
    with pytest.raises(EncoderError, match=says) as caught:
        encoder.encode_all(["hello", "a statute"])
    assert "sk-secret" not in str(caught.value)
    assert "statute" not in str(caught.value)
    server.spoil = None
    encoder.encode_all(["hello", "a statute"])


def test_an_endpoint_that_hangs_or_is_not_there_is_an_error_in_time(server: EmbeddingServer) -> None:
    server.open.clear()
    started = time.monotonic()
    with pytest.raises(EncoderError, match="no answer within 200 ms"):
        remote(server, timeout_s=0.2).encode("hello")
    assert time.monotonic() - started < SOON_S / 2
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(EncoderError, match=r"cannot be reached \(ConnectError\)"):
            remote(server, url=url).encode("hello")


@pytest.mark.parametrize(
    "begins", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;"]
)
def test_an_endpoint_that_sends_a_byte_now_and_then_is_an_error_in_time(server: EmbeddingServer, begins: bytes) -> None:
    """Each byte comes within the time limit; the answer never does."""
    over = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):  # the other side hangs up
            connection.sendall(begins)
            while not over.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as thread:
        dripping = thread.submit(drip, listening)
        failsafe = threading.Timer(SOON_S, over.set)
        failsafe.start()
        try:
            with pytest.raises(EncoderError, match="no answer within 200 ms"):
                remote(server, url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_s=0.2).encode("hello")
            assert not over.is_set()
        finally:
            over.set()
            failsafe.cancel()
        dripping.result(SOON_S)


def test_an_endpoint_that_keeps_failing_is_left_alone_for_a_while(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = remote(server)
    server.spoil = lambda _: Response(status_code=503)
    monkeypatch.setattr(remote_encoder, "_REST_S", 1000.0)
    for _ in range(3):
        with pytest.raises(EncoderError, match="answered 503"):
            encoder.encode("hello")
    for _ in range(2):
        with pytest.raises(EncoderError, match=r"failed 3 times in a row and rests; it is asked again in 30\.0 s"):
            encoder.encode("hello")
    assert len(server.calls) == 3
    encoder._rest._until = 0.0
    server.spoil = None
    encoder.encode("hello")
    server.spoil = lambda _: Response(status_code=503)
    with pytest.raises(EncoderError, match="answered 503"):
        encoder.encode("hello")
    with pytest.raises(EncoderError, match="answered 503"):
        encoder.encode("hello")


@pytest.mark.parametrize("host", ["xn--", "..", f"{'a' * 70}.b", "a" * 300, "a%20b"])
def test_a_host_that_no_dns_has_is_an_error_that_names_it(server: EmbeddingServer, host: str) -> None:
    with pytest.raises(EncoderError, match="cannot be reached"):
        remote(server, url=f"http://{host}/v1").encode("hello")


def test_texts_that_an_endpoint_refuses_do_not_have_it_rest_for_others(server: EmbeddingServer) -> None:
    encoder = remote(server)
    server.spoil = lambda _: Response(status_code=413)
    for _ in range(4):
        with pytest.raises(EncoderError, match="answered 413"):
            encoder.encode("hello")
    server.spoil = None
    encoder.encode("hello")


def test_another_transformer_is_refused_by_the_probe(server: EmbeddingServer) -> None:
    encoder = remote(server)
    server.embed = lambda texts: [row[::-1] for row in by_words(texts)]
    with pytest.raises(ArtifactError, match=r"embeds otherwise than 'acme/words'.*cosine 0\.000"):
        encoder.encode("hello")
    server.embed = lambda texts: [row + row for row in by_words(texts)]
    with pytest.raises(ArtifactError, match="answers embeddings of 10 numbers, expected 5"):
        encoder.encode("hello")
    server.embed = lambda texts: [[x + 0.01 for x in row] for row in by_words(texts)]
    assert encoder.encode("hello").n_tokens == 5, "other arithmetic of the same transformer"


def test_an_endpoint_is_described_by_what_it_answers_for_the_probe(server: EmbeddingServer) -> None:
    endpoint = Endpoint(url=server.url, model=MODEL, timeout_s=SOON_S)
    encoder = RemoteEncoder.described(endpoint, max_tokens=8192)
    assert encoder.spec == spec_of_words()
    assert encoder.encode("hello").n_tokens == 5


def test_weights_of_an_endpoint_load_no_transformer(tmp_path: Path) -> None:
    artifact = transformer_artifact(tmp_path, spec_of_words())
    with pytest.raises(ArtifactError, match=r"trained with what an endpoint answers.*encoder\.endpoint"):
        load_encoder(artifact)


def test_weights_without_a_tokenizer_are_refused(tmp_path: Path, server: EmbeddingServer) -> None:
    spec = spec_of_words().model_copy(update={"kind": "sentence-transformers", "source": str(tmp_path)})
    artifact = transformer_artifact(tmp_path, spec)
    with pytest.raises(ArtifactError, match="hold no tokenizer"):
        RemoteEncoder.from_artifact(artifact, Endpoint(url=server.url))


@needs_minilm
def test_a_transformer_at_an_endpoint_embeds_as_it_does_here(tmp_path: Path) -> None:
    local = TransformerEncoder(MINILM, device="cpu", threads=1)
    saved = transformer_artifact(tmp_path, local.spec, tokenizer_json=local.tokenizer_json)
    artifact = load_artifact(tmp_path / "artifact")
    assert artifact.tokenizer_json == saved.tokenizer_json == local.tokenizer_json
    texts = ["What is 6 times 7?", LONG, "日本語の質問", "\ud800", "x" * 17_000, ""]
    expected = local.encode_all(texts)
    with embedding_server(lambda texts: local._model.encode(list(texts)).tolist()) as server:
        for form in FORMS:
            endpoint = Endpoint(url=server.url, form=form, timeout_s=60)
            found = RemoteEncoder.from_artifact(artifact, endpoint).encode_all(texts)
            for one, other in zip(found, expected, strict=True):
                cosine = np.dot(one.prompt_embedding[:384], other.prompt_embedding[:384])
                assert cosine > 0.999, "chunks are cut at the same tokens"
                np.testing.assert_array_equal(one.prompt_embedding[384:], other.prompt_embedding[384:])
                assert one.n_tokens == other.n_tokens
