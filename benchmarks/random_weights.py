"""Weights of the form that has a broad network and a hedge, all numbers drawn at random: for speed and for tests.

    python benchmarks/random_weights.py OUT [--llms N] [--base DIR]
    python benchmarks/bench_decision.py --artifact OUT

Tokenizer, n-gram tables and data sources are those of the base weights, by default the shipped ones.
"""

import argparse
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import (
    BroadSpec,
    DecoderSpec,
    EncoderSpec,
    HedgeSpec,
    Landmark,
    LearnedLLM,
    Manifest,
    OodSpec,
)
from embedllm_router.artifact.weights import Artifact, default_artifact_path, load_artifact, save_artifact

Tensor = NDArray[np.generic]
_MAX_DEVIATION, _BROAD_MAX_DEVIATION = 6.0, 4.0
_VENDORS = ("north", "south", "east", "west")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the parts are; the defaults are those of weights for every LLM of the sixteen sets.

    Landmarks lie in the space of the blocks and n-grams that the broad network does not read, points in that of all
    blocks and the style features.
    """

    n_llms: int = 390
    blocks: tuple[int, ...] = (256, 256, 128)
    n_broad_blocks: int = 2
    hidden: tuple[int, ...] = (288,)
    d_llm: int = 48
    length_hidden: int = 64
    d_length: int = 16
    broad_hidden: tuple[int, ...] = (192,)
    d_broad: int = 48
    n_landmarks: int = 350
    d_landmark: int = 128
    n_points: int = 512


SMALL = Sizes(
    n_llms=7,
    blocks=(2, 1, 1),
    hidden=(5,),
    d_llm=3,
    length_hidden=4,
    d_length=2,
    broad_hidden=(4,),
    d_broad=2,
    n_landmarks=6,
    d_landmark=3,
    n_points=9,
)
"""As small as parts can be and still differ from each other; for tests."""


def random_weights(base: Artifact, out: Path, sizes: Sizes | None = None, *, seed: int = 0) -> Artifact:
    """Writes weights with random numbers.

    Args:
        base: Weights with a static encoder whose tokenizer and n-gram tables are taken.
        out: Where the folder shall be.
        sizes: How large the parts are.
        seed: Decides every number.

    Returns:
        The artifact as loaded from disk.
    """
    size, rng = sizes or Sizes(), np.random.default_rng(seed)
    assert isinstance(base.manifest.encoder, EncoderSpec)
    spec = base.manifest.encoder.model_copy(update={"d_embedding": sum(size.blocks), "blocks": size.blocks})
    manifest = base.manifest.model_copy(
        update={
            "encoder": spec,
            "decoder": _decoder_spec(spec, size),
            "llms": tuple(_llm(i, rng) for i in range(size.n_llms)),
            "landmarks": tuple(_landmark(i, rng) for i in range(size.n_landmarks)),
            "d_landmark": size.d_landmark,
            "novelty": OodSpec(ranks=tuple(np.linspace(0.2, 1.8, 199)), n_prompts=1_000, shrinkage=1.0),
            "hedge": _hedge(size),
            "contract": (),
            "kin": None,
            "published": None,
        }
    )
    return save_artifact(
        out,
        manifest,
        encoder=_encoder(base, spec, rng),
        decoder=_decoder(manifest, rng),
        tokenizer_json=base.tokenizer_json,
        model_card="# Random weights\n",
        landmarks=_landmarks(manifest, rng),
    )


def _decoder_spec(spec: EncoderSpec, size: Sizes) -> DecoderSpec:
    style = spec.d_prompt - len(spec.style_features), spec.d_prompt
    return DecoderSpec(
        kind="network",
        hidden=size.hidden,
        d_llm=size.d_llm,
        length_hidden=(size.length_hidden,),
        d_length=size.d_length,
        max_deviation=_MAX_DEVIATION,
        broad=BroadSpec(
            columns=((0, sum(size.blocks[: size.n_broad_blocks])), style),
            max_deviation=_BROAD_MAX_DEVIATION,
            hidden=size.broad_hidden,
            d_llm=size.d_broad,
        ),
    )


def _hedge(size: Sizes) -> HedgeSpec:
    return HedgeSpec(
        base=0.03,
        ability_share=0.6,
        difficulty_share=0.78,
        common_share=0.19,
        difference_share=0.65,
        mean_ability=0.2,
        broad_weight=0.5,
        temperature=1.2,
        slope=1.05,
        offset=0.02,
        gate_bias=-0.19,
        gate_weight=1.3,
        gate_mean=-0.1,
        gate_scale=0.3,
        n_points=size.n_points,
        fitted_on=(),
        left_out=(),
    )


def _llm(i: int, rng: np.random.Generator) -> LearnedLLM:
    price = round(float(np.exp(rng.normal())), 3)
    return LearnedLLM(
        id=f"llm-{i}",
        vendor=_VENDORS[i % len(_VENDORS)],
        thinking=i % 3 == 0,
        n_labels=int(rng.integers(30, 5_000)),
        mean_correctness=round(float(rng.uniform(0.2, 0.9)), 4),
        input_usd_per_mtok=price,
        output_usd_per_mtok=4 * price,
        price_source="drawn at random",
    )


def _landmark(i: int, rng: np.random.Generator) -> Landmark:
    return Landmark(name=f"set/{i}", n_prompts=int(rng.integers(20, 500)), mean_correctness=0.5, spread=1.0)


def _encoder(base: Artifact, spec: EncoderSpec, rng: np.random.Generator) -> dict[str, Tensor]:
    table = rng.integers(-127, 128, (spec.vocab_size, spec.d_embedding)).astype(np.int8)
    scales = rng.uniform(0.005, 0.02, spec.vocab_size).astype(np.float32)
    return {**base.encoder, "token_embeddings": table, "token_scales": scales}


def _decoder(manifest: Manifest, rng: np.random.Generator) -> dict[str, Tensor]:
    d_prompt, n, spec = manifest.encoder.d_prompt, len(manifest.llms), manifest.decoder
    broad = spec.broad
    assert broad is not None

    def drawn(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
        return scale * rng.standard_normal(shape, dtype=np.float32)

    tensors: dict[str, Tensor] = {
        "input_mean": drawn(d_prompt, scale=0.02),
        "input_scale": np.concatenate(
            [np.full(d_prompt - 120, 0.06), np.full(120, 0.8)], dtype=np.float32, casting="same_kind"
        ),
        "llm_embeddings": drawn(n, spec.d_llm, scale=spec.d_llm**-0.5),
        "length_embeddings": drawn(n, spec.d_length, scale=0.3 * spec.d_length**-0.5),
        "length_bias": 5 + drawn(n, scale=0.5),
        "broad_embeddings": drawn(n, broad.d_llm, scale=broad.d_llm**-0.5),
        "broad_bias": drawn(n, scale=0.2),
        "difficulty_weight": drawn(broad.n_columns, scale=broad.n_columns**-0.5),
        "difficulty_bias": drawn(1, scale=0.3),
        "reference_embedding": drawn(broad.d_llm, scale=0.3 * broad.d_llm**-0.5),
        "reference_bias": drawn(1, scale=0.3),
        "ability": drawn(n, scale=0.7),
        "ability_sd": np.abs(drawn(n, scale=0.2)) + np.float32(0.01),
    }
    tensors["llm_bias"] = tensors["ability"].astype(np.float32) + drawn(n, scale=0.2)
    for network, widths in (
        ("prompt_network", (d_prompt, *spec.hidden, spec.d_llm)),
        ("length_network", (d_prompt, *spec.length_hidden, spec.d_length)),
        ("broad_network", (broad.n_columns, *broad.hidden, broad.d_llm)),
    ):
        for layer, (d_in, d_out) in enumerate(pairwise(widths)):
            tensors[f"{network}.{layer}.weight"] = drawn(d_out, d_in, scale=d_in**-0.5)
            tensors[f"{network}.{layer}.bias"] = drawn(d_out, scale=0.2)
    return tensors


def _landmarks(manifest: Manifest, rng: np.random.Generator) -> dict[str, Tensor]:
    d_prompt, hedge = manifest.encoder.d_prompt, manifest.hedge
    assert hedge is not None
    projection = rng.normal(scale=(d_prompt * manifest.d_landmark) ** -0.5, size=(manifest.d_landmark, d_prompt))

    def places(n: int) -> Tensor:
        drawn = np.clip(rng.standard_normal((n, d_prompt)), -_MAX_DEVIATION, _MAX_DEVIATION)
        return (drawn @ projection.T).astype(np.float16)

    landmarks, points = places(len(manifest.landmarks)), places(hedge.n_points)
    return {"projection": projection.astype(np.float16), "landmarks": landmarks, "points": points}


def main() -> None:
    """Writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path, default=default_artifact_path())
    parser.add_argument("--llms", type=int, default=Sizes().n_llms)
    asked = parser.parse_args()
    made = random_weights(load_artifact(asked.base), asked.out, replace(Sizes(), n_llms=asked.llms))
    print(f"{made.id} with {len(made.manifest.llms)} LLMs in {asked.out}")


if __name__ == "__main__":
    main()
