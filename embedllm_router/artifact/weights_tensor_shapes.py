"""Shape and dtype of every tensor of a weights folder, as its manifest announces them. It knows nothing of files."""

from itertools import pairwise

from embedllm_router.artifact.manifest import EncoderSpec, Manifest

__all__ = ["decoder_shapes", "encoder_shapes", "landmark_shapes"]


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
    shapes: dict[str, tuple[int, ...]] = {"input_mean": (d_prompt,), "input_scale": (d_prompt,)}
    for network, hidden, d_out in (
        ("prompt_network", spec.hidden, spec.d_llm),
        ("length_network", spec.length_hidden, spec.d_length),
    ):
        widths = (d_prompt, *hidden, d_out)
        for layer, (d_in, d_next) in enumerate(pairwise(widths)):
            shapes[f"{network}.{layer}.weight"] = (d_next, d_in)
            shapes[f"{network}.{layer}.bias"] = (d_next,)
    shapes["llm_embeddings"] = (n_llms, spec.d_llm)
    shapes["llm_bias"] = (n_llms,)
    shapes["length_embeddings"] = (n_llms, spec.d_length)
    shapes["length_bias"] = (n_llms,)
    return {name: (shape, "float32") for name, shape in shapes.items()}


def landmark_shapes(manifest: Manifest) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every tensor of landmarks.safetensors."""
    return {
        "projection": ((manifest.d_landmark, manifest.encoder.d_prompt), "float16"),
        "landmarks": ((len(manifest.landmarks), manifest.d_landmark), "float16"),
    }
