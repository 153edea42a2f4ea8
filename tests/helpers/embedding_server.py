"""An endpoint of embeddings, in both forms, that embeds by planted words or misbehaves as it is told."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson
from local_server import served
from planted import TOPICS, WORDS
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedllm_router.artifact.manifest import PROBE, TransformerSpec
from embedllm_router.prediction.text_features import STYLE_FEATURES
from embedllm_router.prediction.transformer_encoder import probe_of

__all__ = ["MODEL", "EmbeddingServer", "by_words", "embedding_server", "spec_of_words"]

MODEL = "acme/words"
Vectors = list[list[float]]


def by_words(texts: Sequence[str]) -> Vectors:
    """One number per topic, its words, and one that is never zero; of length 1."""
    rows = []
    for text in texts:
        words = text.lower().split()
        row = np.array([*(sum(WORDS.get(word.strip("?.")) == topic for word in words) for topic in TOPICS), 0.1])
        rows.append((row / np.linalg.norm(row)).tolist())
    return rows


def spec_of_words(*, max_tokens: int = 8192) -> TransformerSpec:
    """What a manifest says of it, as training through the endpoint would find it."""
    probe = probe_of(np.array(by_words([PROBE])[0], dtype=np.float32))
    return TransformerSpec(
        kind="endpoint",
        source=MODEL,
        revision=None,
        weights_sha256=hashlib.sha256(f"{MODEL} {probe}".encode()).hexdigest(),
        vocab_size=0,
        d_embedding=len(probe),
        pooling="other",
        max_tokens=max_tokens,
        style_features=STYLE_FEATURES,
        probe=probe,
    )


class EmbeddingServer:
    """What runs behind the address.

    Args:
        embed: Texts → embeddings.

    Attributes:
        url: Ends with /v1.
        calls: Bodies as they came.
        keys: Their authorization headers.
        spoil: Makes an answer's content and status of the right one; None answers rightly.
        open: While it is not set, every call hangs.
    """

    def __init__(self, embed: Callable[[Sequence[str]], Vectors] = by_words) -> None:
        self.url = ""
        self.embed = embed
        self.calls: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.spoil: Callable[[Any], Response] | None = None
        self.open = threading.Event()
        self.open.set()

    def app(self) -> Starlette:
        """The application."""
        routes = [Route(path, self._answer, methods=["POST"]) for path in ("/v1/embeddings", "/v1/embed")]
        return Starlette(routes=routes)

    async def _answer(self, request: Request) -> Response:
        body = orjson.loads(await request.body())
        return await run_in_threadpool(self._answered, body, request)

    def _answered(self, body: dict[str, Any], request: Request) -> Response:
        self.calls.append(body)
        self.keys.append(request.headers.get("authorization"))
        assert self.open.wait(30)
        if request.url.path.endswith("/embed"):
            right: Any = self.embed(body["inputs"])
        else:
            vectors = self.embed(body["input"])
            data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(vectors)]
            right = {"object": "list", "model": body["model"], "data": data}
        return self.spoil(right) if self.spoil is not None else Response(orjson.dumps(right))


@contextmanager
def embedding_server(embed: Callable[[Sequence[str]], Vectors] = by_words) -> Iterator[EmbeddingServer]:
    """Runs one on a free port of 127.0.0.1."""
    server = EmbeddingServer(embed)
    with served(server.app()) as server.url:
        try:
            yield server
        finally:
            server.open.set()
