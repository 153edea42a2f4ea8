"""The weights folder: what a router learned, on disk.

    DIR/
      manifest.json         what the folder holds, and the SHA-256 of every other file
      encoder.safetensors   token and n-gram vectors of a static encoder; absent where the manifest names a transformer
      tokenizer.json        the encoder's tokenizer (Hugging Face `tokenizers` format); absent where it is not known
      decoder.safetensors   prompt networks, LLM embeddings and biases
      landmarks.safetensors mean prompts by category, and points among prompts where the manifest has a hedge; absent
                            where it lists no landmarks
      README.md             the model card

Training writes it, serving reads it, and they meet nowhere else. Loading checks everything: hashes, tensor names,
dtypes, shapes and finiteness.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from embedllm_router._files import draft_beside, put_in_place, why_no_place
from embedllm_router.artifact.manifest import FORMAT_VERSION, METRICS_OF, BroadSpec, EncoderSpec, FileRecord, Manifest
from embedllm_router.errors import ArtifactError, ConfigError

__all__ = [
    "ENCODER",
    "MANIFEST",
    "Artifact",
    "Tensors",
    "artifact_id",
    "check_beside",
    "check_place",
    "default_artifact_path",
    "load_artifact",
    "read_card",
    "save_artifact",
    "shipped_path",
    "weights_place",
    "write_derived",
]


def encoder_shapes(spec: EncoderSpec) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every tensor of encoder.safetensors."""
    tables = [("token", spec.vocab_size, spec.d_embedding)]
    tables += [(table.name, table.n_rows, table.n_columns) for table in spec.ngrams]
    shapes: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, n_rows, n_columns in tables:
        shapes[f"{name}_embeddings"] = ((n_rows, n_columns), "int8")
        shapes[f"{name}_scales"] = ((n_rows,), "float32")
    return shapes


def decoder_shapes(manifest: Manifest) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every tensor of decoder.safetensors."""
    d_prompt, n_llms, spec = manifest.encoder.d_prompt, len(manifest.llms), manifest.decoder
    shapes: dict[str, tuple[int, ...]] = {
        "input_mean": (d_prompt,),
        "input_scale": (d_prompt,),
        **_network_shapes("prompt_network", (d_prompt, *spec.hidden, spec.d_llm)),
        **_network_shapes("length_network", (d_prompt, *spec.length_hidden, spec.d_length)),
        "llm_embeddings": (n_llms, spec.d_llm),
        "llm_bias": (n_llms,),
        "length_embeddings": (n_llms, spec.d_length),
        "length_bias": (n_llms,),
    }
    if spec.broad is not None:
        shapes |= _broad_shapes(spec.broad, n_llms)
    if manifest.kin is not None and spec.broad is not None:
        n_features = len(manifest.kin.features)
        shapes |= {
            "kin_embeddings": (n_features, spec.d_llm),
            "kin_broad_embeddings": (n_features, spec.broad.d_llm),
        }
    return {name: (shape, "float32") for name, shape in shapes.items()}


def _network_shapes(network: str, widths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (d_in, d_out) in enumerate(pairwise(widths)):
        shapes[f"{network}.{layer}.weight"] = (d_out, d_in)
        shapes[f"{network}.{layer}.bias"] = (d_out,)
    return shapes


def _broad_shapes(broad: BroadSpec, n_llms: int) -> dict[str, tuple[int, ...]]:
    return {
        **_network_shapes("broad_network", (broad.n_columns, *broad.hidden, broad.d_llm)),
        "broad_embeddings": (n_llms, broad.d_llm),
        "broad_bias": (n_llms,),
        "difficulty_weight": (broad.n_columns,),
        "difficulty_bias": (1,),
        "reference_embedding": (broad.d_llm,),
        "reference_bias": (1,),
        "ability": (n_llms,),
        "ability_sd": (n_llms,),
    }


def landmark_shapes(manifest: Manifest) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every tensor of landmarks.safetensors."""
    d_prompt, hedge = manifest.encoder.d_prompt, manifest.hedge
    shapes = {
        "projection": (manifest.d_landmark, d_prompt),
        "landmarks": (len(manifest.landmarks), manifest.d_landmark),
    }
    if hedge is not None:
        shapes["points"] = (hedge.n_points, manifest.d_landmark)
    return {name: (shape, "float16") for name, shape in shapes.items()}


MANIFEST, ENCODER, DECODER, TOKENIZER, LANDMARKS, CARD = (
    "manifest.json",
    "encoder.safetensors",
    "decoder.safetensors",
    "tokenizer.json",
    "landmarks.safetensors",
    "README.md",
)
Tensors = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A loaded, checked weights folder.

    Attributes:
        id: First 12 hex digits of the manifest's SHA-256: it covers every byte of the folder that matters.
        manifest: What the folder says of itself.
        encoder: The tensors of `encoder_shapes`: int8 vectors and float32 scales of tokens and n-grams; empty where the
            manifest names a sentence transformer.
        decoder: The tensors of `decoder_shapes`, float32.
        tokenizer_json: Contents of tokenizer.json, or empty without one.
        landmarks: The tensors of `landmark_shapes`, float16; empty without landmarks.
    """

    id: str
    manifest: Manifest
    encoder: Tensors
    decoder: Tensors
    tokenizer_json: str
    landmarks: Tensors


def default_artifact_path() -> Path:
    """The folder of the artifact that ships with the package."""
    return shipped_path("weights/default")


def shipped_path(name: str) -> Path:
    """Something that ships with the package: inside it when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_shipped" / name
    return installed if installed.exists() else package.parent / name


def weights_place(path: Path) -> Path:
    """Where a weights folder is: at its path, or where nothing is there and such weights ship, in the package."""
    return path if path.exists() or not _ships(path) else shipped_path(path.as_posix())


def _ships(path: Path) -> bool:
    """Whether weights of that name, such as weights/mpnet, ship with the package."""
    is_name = not path.is_absolute() and ".." not in path.parts
    return is_name and (shipped_path(path.as_posix()) / MANIFEST).exists()


def _hides(path: Path) -> bool:
    """Whether a folder stands before weights of its name that ship with the package."""
    return path.exists() and _ships(path) and not path.samefile(shipped_path(path.as_posix()))


def load_artifact(path: Path) -> Artifact:
    """Reads and checks a weights folder.

    Args:
        path: The folder. Weights that ship with the package are found by their names, such as weights/mpnet, from
            everywhere, unless the working directory has a folder of that name.

    Returns:
        The artifact, every tensor of the shape and dtype its manifest announces and finite.

    Raises:
        ArtifactError: Something is missing, damaged, truncated or does not fit.
    """
    path = weights_place(path)
    manifest_bytes = _read(path, MANIFEST)
    manifest = _parse_manifest(path, manifest_bytes)
    static = manifest.encoder if isinstance(manifest.encoder, EncoderSpec) else None
    names = [DECODER, *((ENCODER,) if static else ()), *((LANDMARKS,) if manifest.landmarks else ())]
    names += [TOKENIZER] if static or TOKENIZER in manifest.files else []
    contents = {name: _read_checked(path, name, manifest) for name in names}
    encoder = _tensors(path / ENCODER, contents[ENCODER], encoder_shapes(static)) if static else {}
    decoder = _tensors(path / DECODER, contents[DECODER], decoder_shapes(manifest))
    landmarks: Tensors = {}
    if manifest.landmarks:
        landmarks = _tensors(path / LANDMARKS, contents[LANDMARKS], landmark_shapes(manifest))
    _check_positive(path / DECODER, "input_scale", decoder["input_scale"])
    if manifest.hedge is not None:
        _check_positive(path / DECODER, "ability_sd", decoder["ability_sd"])
    return Artifact(
        id=_id_of(manifest_bytes),
        manifest=manifest,
        encoder=encoder,
        decoder=decoder,
        tokenizer_json=contents.get(TOKENIZER, b"").decode("utf-8"),
        landmarks=landmarks,
    )


def artifact_id(path: Path) -> str:
    """The id of a weights folder, from its manifest alone: nothing else is read or checked.

    Raises:
        ArtifactError: It has no manifest that can be read.
    """
    return _id_of(_read(weights_place(path), MANIFEST))


def _id_of(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:12]


def save_artifact(  # noqa: PLR0913 - the parts of a folder; a wrapper around them would only rename them
    path: Path,
    manifest: Manifest,
    *,
    encoder: Tensors,
    decoder: Tensors,
    tokenizer_json: str,
    model_card: str,
    landmarks: Tensors | None = None,
) -> Artifact:
    """Writes a weights folder, checks it by loading it, then puts it in place.

    The folder appears whole or not at all: it is written beside `path` and renamed. An older artifact at `path`
    is replaced; any other non-empty folder is refused.

    Args:
        path: Where the folder shall be.
        manifest: Its description; `files` is filled here.
        encoder: Tensors of encoder.safetensors; empty without one.
        decoder: Tensors of decoder.safetensors.
        tokenizer_json: Contents of tokenizer.json; empty without one.
        model_card: Contents of README.md.
        landmarks: Tensors of landmarks.safetensors, where the manifest lists landmarks.

    Returns:
        The artifact as loaded from disk.

    Raises:
        ArtifactError: `path` holds something else, or the parts do not fit each other.
    """
    check_place(path)
    parts = {DECODER: decoder, ENCODER: encoder, LANDMARKS: landmarks}
    contents = {name: _bytes(tensors) for name, tensors in parts.items() if tensors}
    if tokenizer_json or encoder:
        contents[TOKENIZER] = tokenizer_json.encode("utf-8")
    try:
        with draft_beside(path) as draft:
            _write(draft, manifest, contents, model_card)
            artifact = load_artifact(draft)
            put_in_place(draft, path)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error.strerror}). Check the rights and the space there."
        ) from error
    return artifact


def write_derived(  # noqa: PLR0913 - what is the parent's, and what is not
    parent: Artifact,
    out: Path,
    *,
    decoder: Tensors,
    training: Mapping[str, str | int | float | bool | None],
    changes: Mapping[str, object],
    card: str,
) -> Artifact:
    """Writes weights that differ from their parent's in the decoder.

    Args:
        parent: The weights they were made of.
        out: Where the folder shall be; an older artifact there is replaced.
        decoder: Their decoder.
        training: What its manifest says of how they were made, beside the parent's.
        changes: Other fields of its manifest that are not the parent's. Metrics that are handed down are marked as the
            parent's, or as those of the weights that it has them from. Its guarantee is not handed down: what was
            measured of the parent's promises is no promise of these.
        card: Their model card.

    Returns:
        The artifact as loaded from disk.

    Raises:
        ArtifactError: `out` holds something else.
    """
    manifest = parent.manifest.model_copy(
        update={
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "training": {
                **parent.manifest.training,
                "parent_artifact": parent.id,
                METRICS_OF: None if "metrics" in changes else parent.manifest.training.get(METRICS_OF) or parent.id,
                **training,
            },
            "contract": (),
            **changes,
        }
    )
    return save_artifact(
        out,
        manifest,
        encoder=parent.encoder,
        decoder=decoder,
        tokenizer_json=parent.tokenizer_json,
        model_card=card,
        landmarks=parent.landmarks or None,
    )


def check_beside(parent: Path, out: Path) -> None:
    """Makes sure that the parent stays what it is.

    Raises:
        ConfigError: Both are the same folder.
    """
    if out.resolve() in {parent.resolve(), weights_place(parent).resolve()}:
        raise ConfigError(f"--out {out} is the artifact itself: name another folder, so that one can go back.")


def check_place(path: Path) -> None:
    """Whether an artifact may be written here; asked before hours of training as well.

    Raises:
        ArtifactError: Something else is there, or nothing can be written there.
    """
    reason = why_no_place(path, MANIFEST, "an artifact")
    if reason is not None:
        raise ArtifactError(reason)


def _bytes(tensors: Tensors) -> bytes:
    return save_safetensors({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})


def read_card(folder: Path) -> str:
    """The model card of a weights folder; empty when it has none."""
    try:
        return (weights_place(folder) / CARD).read_text(encoding="utf-8")
    except OSError:
        return ""


def _write(folder: Path, manifest: Manifest, contents: Mapping[str, bytes], model_card: str) -> None:
    files = {
        name: FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in contents.items()
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / CARD).write_text(model_card, encoding="utf-8")
    complete = manifest.model_copy(update={"files": files})
    (folder / MANIFEST).write_text(complete.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as error:
        place = "" if path.is_absolute() else f" in {path.absolute()}"
        hides = "it hides the weights of that name that ship with the package: remove it, or " if _hides(path) else ""
        raise ArtifactError(
            f"artifact {path}: cannot read {name}{place} ({error.strerror}). Expected a weights folder made by "
            f"`embedllm-router train`; {hides}check the path or restore the folder."
        ) from error


def _parse_manifest(path: Path, data: bytes) -> Manifest:
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise ArtifactError(f"artifact {path}: {MANIFEST} is not JSON ({error}). Restore the folder.") from error
    found = raw.get("format_version") if isinstance(raw, dict) else None
    if found != FORMAT_VERSION:
        raise ArtifactError(
            f"artifact {path}: {MANIFEST} has format_version {found!r}, expected {FORMAT_VERSION}. "
            "Retrain it with this version, or install the version that wrote it."
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise ArtifactError(f"artifact {path}: {MANIFEST} is not valid: {problems}. Restore the folder.") from error


def _read_checked(path: Path, name: str, manifest: Manifest) -> bytes:
    record = manifest.files.get(name)
    if record is None:
        raise ArtifactError(f"artifact {path}: {MANIFEST} lists no {name} under files. Restore the folder.")
    data = _read(path, name)
    if len(data) != record.bytes:
        raise ArtifactError(
            f"artifact {path}: {name} has {len(data)} bytes, expected {record.bytes}: truncated or replaced. "
            "Restore the folder."
        )
    found = hashlib.sha256(data).hexdigest()
    if found != record.sha256:
        raise ArtifactError(
            f"artifact {path}: {name} has SHA-256 {found[:12]}…, expected {record.sha256[:12]}…: damaged or "
            "replaced. Restore the folder."
        )
    return data


def _tensors(file: Path, data: bytes, expected: dict[str, tuple[tuple[int, ...], str]]) -> Tensors:
    try:
        tensors = load_safetensors(data)
    except SafetensorError as error:
        raise ArtifactError(f"{file} is not a safetensors file ({error}). Restore the folder.") from error
    if tensors.keys() != expected.keys():
        missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
        raise ArtifactError(f"{file}: tensors do not fit the manifest: missing {missing}, unexpected {extra}.")
    for name, (shape, dtype) in expected.items():
        found = tensors[name]
        if found.shape != shape or found.dtype != np.dtype(dtype):
            raise ArtifactError(
                f"{file}: {name} is {found.dtype} {found.shape}, the manifest says {dtype} {shape}. "
                "Retrain, or restore the folder."
            )
        if not np.isfinite(found).all():
            raise ArtifactError(f"{file}: {name} holds NaN or infinity. Retrain, or restore the folder.")
    return tensors


def _check_positive(file: Path, name: str, tensor: NDArray[np.generic]) -> None:
    smallest = float(np.min(tensor.astype(np.float64)))
    if smallest <= 0:
        raise ArtifactError(f"{file}: {name} must be positive, smallest found {smallest}. Retrain.")
