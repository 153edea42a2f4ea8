"""Ingests in a test's folder and looks at what came out."""

from pathlib import Path

import polars as pl

from embedllm_router.data.ingest import IngestReport, ingest
from embedllm_router.data.ingest_options import BadRowLimit, IngestOptions

ANY_BAD = IngestOptions(max_bad_rows=BadRowLimit(share=1.0))


def scores_of(folder: Path) -> dict[tuple[str, str], float]:
    joined = pl.read_parquet(folder / "results.parquet").join(pl.read_parquet(folder / "items.parquet"), on="item_id")
    return {(row["prompt"], row["model"]): row["score"] for row in joined.iter_rows(named=True)}


def column(folder: Path, name: str) -> list[object]:
    return pl.read_parquet(folder / "results.parquet")[name].to_list()


def read(source: Path, tmp_path: Path, options: IngestOptions | None = None) -> tuple[IngestReport, Path]:
    return ingest([source], tmp_path / "out", options=options), tmp_path / "out"
