"""Gives existing weights what published scores say of ability, without training.

    python scripts/benchmarks.py WEIGHTS PUBLISHED_SCORES

Encoder, decoder and all else stay as they are; `train` writes the same by itself.
"""

import sys
from pathlib import Path

from embedllm_router.artifact.weights import load_artifact, read_card, save_artifact
from embedllm_router.training.fit.benchmarks import with_benchmarks
from embedllm_router.training.fit.published import read_published


def main(weights: str, published: str) -> None:
    """Writes the weights folder again."""
    folder = Path(weights)
    parent = load_artifact(folder)
    manifest = with_benchmarks(parent.manifest, parent.decoder, read_published(Path(published)).scores)
    if manifest.published is None:
        raise SystemExit(f"{folder} has no kin, or fewer than ten of its LLMs have scores in {published}.")
    card, landmarks = read_card(folder), parent.landmarks or None
    artifact = save_artifact(
        folder,
        manifest,
        encoder=parent.encoder,
        decoder=parent.decoder,
        tokenizer_json=parent.tokenizer_json,
        model_card=card,
        landmarks=landmarks,
    )
    sys.stdout.write(f"{artifact.id}: {len(manifest.published.benchmarks)} benchmarks, sd {manifest.published.sd}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
