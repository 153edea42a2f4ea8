"""Weights trained on what an endpoint embeds: learned, measured and asked through it, whatever fails in between."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_server import EmbeddingServer, embedding_server
from starlette.responses import Response
from synthetic import SKILL, TOPICS, write_set

from embedllm_router.artifact.manifest import PROBE, TransformerSpec
from embedllm_router.artifact.weights import load_artifact
from embedllm_router.prediction import remote_encoder

ENDPOINT = "EMBEDLLM_ROUTER_ENCODER__ENDPOINT"


def by_topics(texts: Sequence[str]) -> list[list[float]]:
    """A number for each topic, its words, and one that is never zero; of length 1."""
    rows = np.array([[*(sum(w in words for w in text.split()) for words in TOPICS.values()), 0.1] for text in texts])
    found: list[list[float]] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).tolist()
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddingServer]:
    with embedding_server(by_topics) as running:
        yield running


@pytest.fixture
def train(server: EmbeddingServer, tmp_path: Path, run_command: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Trains through the endpoint, in a second."""
    write_set(tmp_path / "set", n=300, seed=1)
    data = [f"--data={tmp_path / 'set'}", "--min-labels=100", "--threads=1"]
    small = ["--decoder=plain", "--members=1", "--max-epochs=40", f"--encoder-endpoint={server.url}"]

    def run(*more: str) -> dict[str, Any]:
        whole = ["train", *data, *small, f"--out={tmp_path / 'out'}", "--encoder-model=acme/topics", *more, "--json"]
        found: dict[str, Any] = json.loads(run_command(*whole))
        return found

    return run


def test_weights_are_trained_measured_and_asked_through_an_endpoint(
    train: Callable[..., dict[str, Any]],
    server: EmbeddingServer,
    tmp_path: Path,
    run_command: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = f"--embeddings={tmp_path / 'kept'}"
    trained = train(kept)
    assert trained["metrics"]["auc"] > 0.8
    spec = load_artifact(tmp_path / "out").manifest.encoder
    assert isinstance(spec, TransformerSpec)
    assert (spec.kind, spec.source, len(spec.probe)) == ("endpoint", "acme/topics", spec.d_embedding)
    server.calls.clear()
    assert train(kept)["metrics"] == trained["metrics"]
    assert [call["input"] for call in server.calls] == [[PROBE]], "no prompt is embedded twice"

    topic, words = next(iter(TOPICS.items()))
    route = ["route", " ".join(words[:6]), f"--artifact={tmp_path / 'out'}"]
    measure = ["evaluate", f"--artifact={tmp_path / 'out'}", f"--data={tmp_path / 'set'}", "--json"]
    monkeypatch.setenv(ENDPOINT, server.url)
    best = max(SKILL, key=lambda llm: SKILL[llm][topic])
    candidates = json.loads(run_command(*route, "--json"))["candidates"]
    assert max(candidates, key=lambda one: one["p_correct"])["llm"] == best
    assert json.loads(run_command(*measure))


def test_training_outlasts_an_endpoint_that_fails_now_and_then(
    train: Callable[..., dict[str, Any]], server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_encoder, "_PAUSE_S", 0.001)
    answers = iter(range(10_000))

    def failing_often(right: Any) -> Response:
        return Response(status_code=503) if next(answers) % 3 == 1 else Response(json.dumps(right))

    monkeypatch.setattr(server, "spoil", failing_often)
    assert train()["metrics"]["auc"] > 0.8


def test_an_endpoint_needs_its_model_s_name_and_an_address(tmp_path: Path, run_command: Callable[..., str]) -> None:
    write_set(tmp_path / "set", n=60, seed=1)
    wanted = ["train", f"--data={tmp_path / 'set'}", f"--out={tmp_path / 'out'}", "--min-labels=10"]
    said = run_command(*wanted, "--encoder-endpoint=http://127.0.0.1:1/v1", code=2)
    assert "add --encoder-model" in " ".join(said.split())
    said = run_command(*wanted, "--encoder-endpoint=127.0.0.1:1", "--encoder-model=m", code=2)
    assert "begins with http" in " ".join(said.split())
