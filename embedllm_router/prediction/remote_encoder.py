"""Prompt text → prompt embedding by an endpoint that runs the sentence transformer elsewhere: no torch here.

Two forms are spoken: OpenAI's `POST …/embeddings` and `POST …/embed` of Hugging Face's Text Embeddings Inference (TEI).
Long prompts are read in chunks as `transformer_encoder` reads them, which the tokenizer in the weights folder makes.
Before its first answer counts, and again after each failure, the endpoint embeds a text whose embedding the weights
hold.
"""

import asyncio
import hashlib
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from embedllm_router.artifact.manifest import PROBE, TransformerSpec
from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import ArtifactError, EncoderError
from embedllm_router.prediction.kept_embeddings import Embedded, KeptEmbeddings
from embedllm_router.prediction.static_encoder import EncodedPrompt, readable
from embedllm_router.prediction.text_features import STYLE_FEATURES
from embedllm_router.prediction.transformer_encoder import (
    embeddings_id,
    joined,
    probe_of,
    resolve_source,
    with_style,
)

__all__ = ["MIN_COSINE", "Endpoint", "Form", "RemoteEncoder", "TextCutter"]

Form = Literal["openai", "tei"]
"""How an endpoint is spoken to."""

MIN_COSINE: Final = 0.98
"""Least cosine of an endpoint's embedding of the probe and the one that the weights hold: other numbers of the same
transformer, such as bfloat16 or int8, reach it, another transformer does not."""

_PATHS: Final[dict[Form, str]] = {"openai": "embeddings", "tei": "embed"}
_BYTES_PER_NUMBER, _BYTES_PER_ANSWER = 40, 65_536
_OK: Final = 200
_TOO_MUCH: Final = frozenset({400, 413, 422})
_PAUSE_S: Final = 0.25
_FAILURES: Final = 3
_REST_S: Final = 1.0
_MAX_REST_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What embeds prompts, and how it is asked.

    Attributes:
        url: `http(s)://…`, without the last part of the path: `…/v1` for OpenAI's form.
        form: How it is spoken to.
        model: What it is asked for; None takes the name that the weights have. TEI has one and is asked for none.
        api_key: Sent as a bearer token; None sends none.
        timeout_s: Within which a batch is embedded.
        max_batch: Most prompts in a batch, and most texts in one call.
        attempts: How often a batch is tried, with growing pauses, before it is an error.
    """

    url: str
    form: Form = "openai"
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 1.0
    max_batch: int = 32
    attempts: int = 1

    def patient(self) -> "Endpoint":
        """The same for work that may wait: a minute for a batch, five attempts."""
        return replace(self, timeout_s=max(self.timeout_s, 60.0), attempts=5)


@dataclass(frozen=True, slots=True)
class _Chunk:
    text: str
    n_tokens: int
    owner: int


class TextCutter:
    """Cuts a text in chunks that a transformer reads whole.

    Args:
        tokenizer: Its tokenizer; None cuts after `max_tokens` characters, which seldom are more tokens than characters.
        max_tokens: Longest chunk.
    """

    def __init__(self, tokenizer: Tokenizer | None, max_tokens: int) -> None:
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        if tokenizer is not None:
            tokenizer.no_padding()
            tokenizer.enable_truncation(max_tokens)

    @classmethod
    def of(cls, artifact: Artifact, spec: TransformerSpec) -> "TextCutter":
        """That of weights, whose folder holds the tokenizer, or that of the transformer's own folder.

        Raises:
            ArtifactError: There is none, or it cannot be read.
        """
        if spec.kind == "endpoint":
            return cls(None, spec.max_tokens)
        file = Path(resolve_source(spec.source)) / "tokenizer.json"
        try:
            if artifact.tokenizer_json:
                return cls(Tokenizer.from_str(artifact.tokenizer_json), spec.max_tokens)
            return cls(Tokenizer.from_file(str(file)), spec.max_tokens)
        except Exception as error:  # the library raises nothing more precise
            raise ArtifactError(
                f"the weights hold no tokenizer of {spec.source!r}, and {file} is none: prompts cannot be cut for "
                "encoder.endpoint. Train again with this version, or put the transformer's files there."
            ) from error

    def cut(self, texts: Sequence[str]) -> Iterator[_Chunk]:
        """The chunks of several texts, in order; at least one of each."""
        if self._tokenizer is None:
            for i, text in enumerate(texts):
                for start in range(0, max(len(text), 1), self._max_tokens):
                    part = text[start : start + self._max_tokens]
                    yield _Chunk(part, len(part), i)
            return
        for i, (text, encoding) in enumerate(zip(texts, self._tokenizer.encode_batch(list(texts)), strict=True)):
            parts = [encoding, *encoding.overflowing]
            for part in parts:
                yield _Chunk(text if len(parts) == 1 else _read_by(part, text), len(part.ids), i)


def _read_by(part: Encoding, text: str) -> str:
    """The characters from which a chunk's tokens were made."""
    spans = [span for span, special in zip(part.offsets, part.special_tokens_mask, strict=True) if not special]
    return text[spans[0][0] : spans[-1][1]] if spans else ""


class _Http:
    """An HTTP client on an event loop in a thread of its own, begun with the first call.

    A call there ends when its time is over, whatever it waits for. A blocking client can limit a single read alone, so
    that an endpoint which sends a byte now and then would hold its caller for hours.

    Args:
        headers: Sent with each call.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._begun: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None
        self._lock = threading.Lock()

    def run(self, work: Callable[[httpx.AsyncClient], Coroutine[object, object, bytes]], within_s: float) -> bytes:
        """Does work there, and waits for it.

        Raises:
            TimeoutError: It took longer.
        """
        with self._lock:
            if self._begun is None:
                self._begun = self._begin()
        loop, http = self._begun

        async def in_time() -> bytes:
            async with asyncio.timeout(within_s):
                return await work(http)

        return asyncio.run_coroutine_threadsafe(in_time(), loop).result()

    def _begin(self) -> tuple[asyncio.AbstractEventLoop, httpx.AsyncClient]:
        loop, http = asyncio.new_event_loop(), httpx.AsyncClient(headers=self._headers, follow_redirects=False)
        threading.Thread(target=_serve, args=(loop, http), name="embedllm-endpoint", daemon=True).start()
        weakref.finalize(self, loop.call_soon_threadsafe, loop.stop)
        return loop, http


def _serve(loop: asyncio.AbstractEventLoop, http: httpx.AsyncClient) -> None:
    loop.run_forever()
    loop.run_until_complete(http.aclose())
    loop.close()


class _Client:
    """Calls of an endpoint.

    Args:
        endpoint: What embeds.
        model: What it is asked for.
    """

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self._endpoint, self._model = endpoint, model
        headers = {"content-type": "application/json"}
        if endpoint.api_key is not None:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        self.url = f"{endpoint.url.rstrip('/')}/{_PATHS[endpoint.form]}"
        self._http = _Http(headers)

    @property
    def deadline(self) -> float:
        """When a batch that begins now must be done, of the monotonic clock."""
        return time.monotonic() + self._endpoint.timeout_s

    def embed(self, texts: Sequence[str], deadline: float, length: int | None) -> NDArray[np.float32]:
        """One call.

        Args:
            texts: What to embed, at least one.
            deadline: Of the monotonic clock.
            length: What an embedding must have; None takes any, equal for all.

        Returns:
            float32 (n_texts, length), finite, none of them zero.

        Raises:
            EncoderError: There is no usable answer in time.
        """
        if self._endpoint.form == "tei":
            body: dict[str, object] = {"inputs": texts, "normalize": True, "truncate": True}
        else:
            body = {"model": self._model, "input": texts, "encoding_format": "float"}
        most = _BYTES_PER_ANSWER + len(texts) * _BYTES_PER_NUMBER * max(length or 0, 8192)
        answer = self._post(orjson.dumps(body), deadline, most)
        try:
            return _vectors(_rows(orjson.loads(answer), self._endpoint.form), len(texts), length)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # orjson's error is a ValueError
            raise EncoderError(
                f"the embedding endpoint {self.url} gave an answer that cannot be used ({_why(error)})."
            ) from error

    def _post(self, body: bytes, deadline: float, most: int) -> bytes:
        async def post(http: httpx.AsyncClient) -> bytes:
            async with http.stream("POST", self.url, content=body, timeout=None) as answer:
                if answer.status_code != _OK:
                    kind = _RefusedError if answer.status_code in _TOO_MUCH else EncoderError
                    raise kind(f"the embedding endpoint {self.url} {_refusal(answer)}")
                return await _whole(answer, most)

        try:
            return self._http.run(post, deadline - time.monotonic())
        except TimeoutError as error:
            raise EncoderError(
                f"the embedding endpoint {self.url} gave no answer within {self._endpoint.timeout_s * 1e3:g} ms "
                "(encoder.timeout_ms)."
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last of names that DNS cannot hold
            raise EncoderError(
                f"the embedding endpoint {self.url} cannot be reached ({type(error).__name__})."
            ) from error


class _RefusedError(EncoderError):
    """The endpoint lives and refuses these texts, because they are too long for it, say."""


class _Rest:
    """Leaves an endpoint alone that keeps failing, so that not every request waits for it in vain.

    Refused texts are no failure of it: else one client could, by sending them, have it rest for all.

    Args:
        url: What it is called in an error.
    """

    def __init__(self, url: str) -> None:
        self._url, self._failures, self._until = url, 0, 0.0

    def after_failures(
        self, embed: Callable[[Sequence[str]], NDArray[np.float32]], texts: Sequence[str]
    ) -> NDArray[np.float32]:
        """Embeds; after three failures in a row only when some time has passed, twice as long after each more.

        Raises:
            EncoderError: As `embed`, or at once during the rest.
        """
        left = self._until - time.monotonic()
        if left > 0:
            raise EncoderError(
                f"the embedding endpoint {self._url} failed {self._failures} times in a row and rests; it is asked "
                f"again in {left:.1f} s."
            )
        try:
            vectors = embed(texts)
        except _RefusedError:
            raise
        except EncoderError:
            self._failures += 1
            if self._failures >= _FAILURES:
                rest_s = min(_REST_S * 2 ** (self._failures - _FAILURES), _MAX_REST_S)
                self._until = time.monotonic() + rest_s
            raise
        self._failures = 0
        return vectors


class RemoteEncoder:
    """Embeds prompts by an endpoint; each call of it may take `timeout_s`, so it belongs behind an `EncoderQueue`.

    Args:
        spec: What a manifest says of the transformer.
        cutter: Cuts texts for it.
        endpoint: What runs it.
        keep_in: Folder where embeddings are kept and found again; None keeps none.

    Attributes:
        spec: As given.
    """

    def __init__(
        self, spec: TransformerSpec, cutter: TextCutter, endpoint: Endpoint, *, keep_in: Path | None = None
    ) -> None:
        self.spec = spec
        self._cutter, self._endpoint, self._trusted = cutter, endpoint, False
        name = f"{embeddings_id(spec)}-endpoint"  # in other arithmetic than here
        self._kept = KeptEmbeddings(keep_in, name, spec.d_embedding) if keep_in else None
        self._client = _Client(endpoint, endpoint.model or spec.source)
        self._rest = _Rest(self._client.url)

    @classmethod
    def from_artifact(cls, artifact: Artifact, endpoint: Endpoint, *, keep_in: Path | None = None) -> "RemoteEncoder":
        """Embeds for weights that name a transformer.

        Args:
            artifact: Loaded weights.
            endpoint: What runs the transformer.
            keep_in: Folder where embeddings are kept and found again; None keeps none.

        Raises:
            ArtifactError: They name none, or nothing can cut long texts for it.
        """
        spec = artifact.manifest.encoder
        if not isinstance(spec, TransformerSpec):
            raise ArtifactError(f"the artifact's encoder is {spec.kind} {spec.source!r}, expected a transformer.")
        return cls(spec, TextCutter.of(artifact, spec), endpoint, keep_in=keep_in)

    @classmethod
    def described(cls, endpoint: Endpoint, *, max_tokens: int, keep_in: Path | None = None) -> "RemoteEncoder":
        """Embeds by an endpoint of which nothing else is known, for training.

        Args:
            endpoint: What embeds; its model must be named.
            max_tokens: Longest text that it reads at once; as no tokenizer is known, pieces have as many characters.
            keep_in: Folder where embeddings are kept and found again; None keeps none.

        Raises:
            EncoderError: It gives no embedding.
        """
        name = endpoint.model or ""
        unknown = TransformerSpec(
            kind="endpoint",
            source=name,
            revision=None,
            weights_sha256="0" * 64,
            vocab_size=0,
            d_embedding=1,
            pooling="other",
            max_tokens=max_tokens,
            style_features=STYLE_FEATURES,
        )
        client = _Client(endpoint, name)
        (vector,) = client.embed([PROBE], client.deadline, None)
        probe = probe_of(vector)
        digest = hashlib.sha256(f"{name} {probe}".encode()).hexdigest()
        update = {"weights_sha256": digest, "d_embedding": len(probe), "probe": probe}
        spec = unknown.model_copy(update=update)
        return cls(spec, TextCutter(None, max_tokens), endpoint, keep_in=keep_in)

    @property
    def tokenizer_json(self) -> str:
        """None: who embeds by an endpoint knows no tokenizer."""
        return ""

    def encode(self, text: str) -> EncodedPrompt:
        """Embeds one text, as `encode_all` does."""
        (encoded,) = self.encode_all([text])
        return encoded

    def encode_all(self, texts: Sequence[str]) -> list[EncodedPrompt]:
        """Embeds texts, in their order.

        Args:
            texts: Any texts; of one over `MAX_CHARS` both ends are read.

        Returns:
            Their embeddings, of length 1 before the style features.

        Raises:
            EncoderError: The endpoint gives no usable answer in time.
            ArtifactError: What it runs is not the transformer that the weights were trained with.
        """
        read = [readable(text) for text in texts]
        embedded = self._embedded(read) if self._kept is None else self._kept.complete(read, self._embedded)
        return with_style(texts, read, embedded)

    def _embedded(self, texts: list[str]) -> list[Embedded]:
        found: list[Embedded] = []
        most = self._endpoint.max_batch
        for start in range(0, len(texts), most):
            chunks = list(self._cutter.cut(texts[start : start + most]))
            vectors = self._embed_patiently([chunk.text for chunk in chunks])
            n_tokens = np.array([chunk.n_tokens for chunk in chunks], dtype=np.float32)
            found += joined(vectors, n_tokens, np.array([chunk.owner for chunk in chunks]))
        return found

    def _embed_patiently(self, texts: Sequence[str]) -> NDArray[np.float32]:
        for attempt in range(1, self._endpoint.attempts):
            with suppress(EncoderError):
                return self._embed(texts)
            time.sleep(_PAUSE_S * 2**attempt)
        return self._rest.after_failures(self._embed, texts)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of texts that are read whole, (n_texts, d_embedding); the probe goes first until it was right."""
        deadline, probing, most = self._client.deadline, not self._trusted, self._endpoint.max_batch
        wanted = [PROBE, *texts] if probing else list(texts)
        self._trusted = False
        batches = [wanted[start : start + most] for start in range(0, len(wanted), most)]
        length = None if probing else self.spec.d_embedding
        vectors = np.concatenate([self._client.embed(batch, deadline, length) for batch in batches])
        if probing:
            self._check(vectors[0])
        self._trusted = True
        return vectors[1:] if probing else vectors

    def _check(self, probe: NDArray[np.float32]) -> None:
        """Makes sure that it is the transformer the weights were trained with.

        Raises:
            ArtifactError: It is another one.
        """
        expected, url = self.spec.d_embedding, self._client.url
        if len(probe) != expected:
            raise ArtifactError(
                f"the endpoint {url} answers embeddings of {len(probe)} numbers, expected {expected}, those of "
                f"{self.spec.source!r}: run that one there, or train again with this one."
            )
        if not self.spec.probe:
            return
        cosine = float(np.dot(probe_of(probe), self.spec.probe) / np.linalg.norm(self.spec.probe))
        if cosine < MIN_COSINE:
            raise ArtifactError(
                f"the endpoint {url} embeds otherwise than {self.spec.source!r}, which the weights were trained with: "
                f"cosine {cosine:.3f} for the same text, expected at least {MIN_COSINE}. Run that one there, or train "
                "again with this one."
            )


class _UnusableError(ValueError):
    """What is wrong with an answer, in words of ours."""


def _why(error: Exception) -> str:
    if isinstance(error, _UnusableError):
        return str(error)
    return "not JSON" if isinstance(error, orjson.JSONDecodeError) else "not the form that encoder.form names"


def _refusal(answer: httpx.Response) -> str:
    """What a status other than 200 means; the body is not read, since it may repeat a prompt."""
    status = answer.status_code
    if answer.is_redirect:
        return f"answered {status}: redirects are not followed. Name the final address in encoder.endpoint."
    if status in {401, 403}:
        return f"answered {status}: check encoder.api_key."
    return f"answered {status}."


async def _whole(answer: httpx.Response, most: int) -> bytes:
    """The body, of bounded length."""
    parts, n_bytes = [], 0
    async for part in answer.aiter_bytes():
        parts.append(part)
        n_bytes += len(part)
        if n_bytes > most:
            raise EncoderError(f"the embedding endpoint answered more than {most:,} bytes, so that is no embedding.")
    return b"".join(parts)


def _rows(answer: Any, form: Form) -> list[object]:
    """The embeddings in the order of the texts."""
    if form == "tei":
        return list(answer)
    data = answer["data"]
    places = [row.get("index", i) for i, row in enumerate(data)]
    if sorted(places) != list(range(len(data))):
        raise _UnusableError("its fields index are not 0, 1, 2 …, each once")
    rows: list[object] = [None] * len(data)
    for place, row in zip(places, data, strict=True):
        rows[place] = row["embedding"]
    return rows


def _vectors(rows: Sequence[object], n: int, length: int | None) -> NDArray[np.float32]:
    if len(rows) != n:
        raise _UnusableError(f"{len(rows)} embeddings for {n} texts")
    lengths = {len(row) if isinstance(row, list) else 0 for row in rows}
    if len(lengths) != 1 or lengths == {0} or (length is not None and lengths != {length}):
        raise _UnusableError(
            f"embeddings of {', '.join(map(str, sorted(lengths)))} numbers, expected {length or 'one'}"
        )
    values = np.asarray(rows)
    if values.dtype.kind not in "fi" or values.ndim != 2:  # noqa: PLR2004 - texts and numbers
        raise _UnusableError("embeddings that are not made of numbers")
    with np.errstate(over="ignore"):
        vectors: NDArray[np.float32] = values.astype(np.float32)
    if not np.isfinite(vectors).all() or not np.abs(vectors).max(axis=1).all():
        raise _UnusableError("embeddings that are not finite, or all zero")
    return vectors
