"""What others have published of LLMs: release, size, prices, and scores on benchmarks, from two optional files.

llms.parquet      model; where known vendor, family, released ("YYYY-MM" or longer), reasoning, params_b,
                  input_usd_per_mtok, output_usd_per_mtok, price_source
scores.parquet    model, benchmark, score in [0, 1]; where known subset

They lie in a folder published_scores in or beside the first data folder that has one. An LLM's scores on hundreds of
benchmarks become one number, the first factor of their logits by alternating least squares with a ridge; a benchmark
with few LLMs does not count. Nothing needs these files: without them abilities come from graded answers alone.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embedllm_router._stats import logit
from embedllm_router.artifact.kin import (
    LLMKind,
    base_id,
    family_of,
    is_small,
    month_in_name,
    size_in_name,
    thinks_by_name,
)
from embedllm_router.data.folder import find_beside
from embedllm_router.errors import DataError
from embedllm_router.training.fit.facts import Facts, Price

__all__ = ["Listing", "Published", "find_published", "kinds", "read_published", "whole_scores", "with_listed_prices"]

_MIN_LLMS: Final = 10  # a benchmark of fewer says more about who was chosen than about who is good
_ROUNDS: Final = 40
_CLIP: Final = (0.02, 0.98)
_LOADING, _LOADING_WEIGHT = 0.7, 4.0  # what a benchmark's slope is pulled to, and how strongly
_VARIANCE, _VARIANCE_WEIGHT = 0.3, 3.0
Floats = NDArray[np.float64]
_SCORES: Final[Mapping[str, type[pl.DataType]]] = {
    "model": pl.String,
    "benchmark": pl.String,
    "test": pl.String,
    "score": pl.Float64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One row of llms.parquet; None is unknown."""

    vendor: str | None = None
    released: str | None = None
    thinking: bool | None = None
    size_b: float | None = None
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    price_source: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """What was published.

    Attributes:
        listings: By canonical id.
        scores: Columns model, benchmark, test (benchmark and subset) and score; empty without the file.
    """

    listings: Mapping[str, Listing] = field(default_factory=dict)
    scores: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_SCORES))

    def released_since(self, month: str, facts: Facts) -> tuple[str, ...]:
        """Ids of the listed LLMs that answer in text and came out in a month or later.

        Args:
            month: "YYYY-MM".
            facts: Says which are base models, which are left out.

        Raises:
            DataError: It is not a month.
        """
        if not _MONTH.fullmatch(month):
            raise DataError(f"--ungraded-since is {month!r}, expected a month such as 2025-01.")
        return tuple(
            llm
            for llm, one in sorted(self.listings.items())
            if (one.released or "") >= month and one.vendor and _chats(llm) and _may_be_asked(facts, llm)
        )

    def factor(self, *, without: Collection[str] = ()) -> dict[str, float]:
        """The common factor of each LLM's scores, of mean square 1 over all LLMs that have any.

        Args:
            without: Benchmarks that are not read, since their questions are what is predicted.

        Returns:
            By canonical id; empty without scores.
        """
        kept = self.scores.filter(~pl.col("benchmark").is_in(list(without)))
        cells = kept.group_by("model", "test").agg(pl.col("score").median()).sort("model", "test")
        cells = cells.filter(pl.len().over("test") >= _MIN_LLMS)
        if not cells.height:
            return {}
        models, llm = np.unique(cells["model"].to_numpy(), return_inverse=True)
        _, test = np.unique(cells["test"].to_numpy(), return_inverse=True)
        y = logit(np.clip(cells["score"].to_numpy().astype(np.float64), *_CLIP))
        return dict(zip(models.tolist(), _first_factor(llm, test, y).tolist(), strict=True))


def whole_scores(scores: pl.DataFrame) -> pl.DataFrame:
    """The median score of each LLM on each benchmark; scores on parts of a benchmark are not read.

    Args:
        scores: As `Published.scores`.

    Returns:
        Columns model, benchmark and score, in no order.
    """
    whole = scores.filter(pl.col("test") == pl.concat_str("benchmark", pl.lit("|")))
    return whole.group_by("model", "benchmark").agg(pl.col("score").median())


_NO_CHAT: Final = re.compile(
    r"embed|rerank|whisper|tts|speech|audio|image|video|vision-only|-t2v|-i2v|ocr|guard|moderation|realtime|live|transcri"
    r"|veo|imagen|dall|sora|flux|base$"
)


def _chats(llm: str) -> bool:
    """Whether an id says nothing of another use than answering in text."""
    return not _NO_CHAT.search(llm)


def _may_be_asked(facts: Facts, llm: str) -> bool:
    return llm not in facts.llms or facts.llms[llm].chat


def _first_factor(llm: NDArray[np.intp], test: NDArray[np.intp], y: Floats) -> Floats:
    """θ of `y = c[test] + λ[test]·θ[llm] + noise`, float64 (n_llms,)."""
    theta = np.zeros(llm.max() + 1)
    n = np.bincount(test).astype(np.float64)
    centre, loading, variance = np.zeros(len(n)), np.ones(len(n)), np.full(len(n), _VARIANCE)
    for _ in range(_ROUNDS):
        weight = loading[test] / variance[test]
        theta = np.bincount(llm, weight * (y - centre[test])) / (np.bincount(llm, weight * loading[test]) + 1.0)
        theta /= max(float(np.sqrt((theta**2).mean())), 1e-6)
        centre, loading = _lines(test, theta[llm], y, n)
        error = y - centre[test] - loading[test] * theta[llm]
        variance = (np.bincount(test, error**2) + _VARIANCE_WEIGHT * _VARIANCE) / (n + _VARIANCE_WEIGHT)
    return theta


def _lines(test: NDArray[np.intp], x: Floats, y: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Intercept and slope of each test's regression of y on x, float64 (n_tests,) each."""
    sum_x, sum_y = np.bincount(test, x), np.bincount(test, y)
    sum_xx = np.bincount(test, x * x) + _LOADING_WEIGHT
    sum_xy = np.bincount(test, x * y) + _LOADING_WEIGHT * _LOADING
    n = n + 1e-3
    slope: Floats = (n * sum_xy - sum_x * sum_y) / (n * sum_xx - sum_x**2)
    return (sum_y - slope * sum_x) / n, slope


def find_published(data: Sequence[Path]) -> Path | None:
    """The folder published_scores in or beside the first data folder that has one, or None."""
    return find_beside(data, "published_scores", Path.is_dir)


def read_published(folder: Path | None) -> Published:
    """Reads both files, each if it is there.

    Args:
        folder: Where they are; None reads nothing.

    Raises:
        DataError: A file is not as described.
    """
    if folder is None:
        return Published()
    listings, scores = folder / "llms.parquet", folder / "scores.parquet"
    return Published(
        _listings(listings) if listings.exists() else {},
        _scores(scores) if scores.exists() else pl.DataFrame(schema=_SCORES),
    )


_LISTED: Final = {
    "vendor": pl.String,
    "released": pl.String,
    "reasoning": pl.Boolean,
    "params_b": pl.Float64,
    "input_usd_per_mtok": pl.Float64,
    "output_usd_per_mtok": pl.Float64,
    "price_source": pl.String,
}


def _listings(file: Path) -> dict[str, Listing]:
    frame = _read(file, {"model": pl.String}, _LISTED)
    return {
        row["model"]: Listing(
            vendor=row["vendor"],
            released=row["released"],
            thinking=row["reasoning"],
            size_b=row["params_b"],
            input_usd_per_mtok=row["input_usd_per_mtok"],
            output_usd_per_mtok=row["output_usd_per_mtok"],
            price_source=row["price_source"],
        )
        for row in frame.iter_rows(named=True)
    }


def _scores(file: Path) -> pl.DataFrame:
    needed = {"model": pl.String, "benchmark": pl.String, "score": pl.Float64}
    frame = _read(file, needed, {"subset": pl.String})
    if not frame["score"].is_between(0, 1).all():
        raise DataError(f"{file}: column score holds values outside [0, 1]; scale the scores first.")
    test = pl.concat_str("benchmark", pl.col("subset").fill_null(""), separator="|").alias("test")
    return frame.select("model", "benchmark", test, "score")


def _read(
    file: Path, needed: Mapping[str, type[pl.DataType]], optional: Mapping[str, type[pl.DataType]]
) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(file)
        missing = [name for name in needed if name not in frame.columns]
        if missing:
            raise DataError(f"{file}: columns {missing} are missing, found {frame.columns}.")
        absent = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in optional.items() if name not in frame]
        frame = frame.with_columns(absent).with_columns(
            pl.col(name).cast(dtype) for name, dtype in {**needed, **optional}.items()
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{file}: cannot be read as described ({error}). Mend or remove the file.") from error
    return frame.drop_nulls(list(needed))


def with_listed_prices(facts: Facts, published: Published, llm_ids: Iterable[str]) -> Facts:
    """The facts, with the list prices that were published of LLMs that have none.

    Args:
        facts: What is known already.
        published: Where else to look; a setting costs what its LLM does.
        llm_ids: Canonical ids.
    """
    prices = dict(facts.prices)
    for llm in llm_ids:
        one = published.listings.get(llm) or published.listings.get(base_id(llm))
        if llm in prices or one is None or not (one.input_usd_per_mtok and one.output_usd_per_mtok):
            continue  # a price of 0 is a free trial
        prices[llm] = Price(
            input_usd_per_mtok=one.input_usd_per_mtok,
            output_usd_per_mtok=one.output_usd_per_mtok,
            source=one.price_source,
        )
    return replace(facts, prices=prices)


def kinds(
    llm_ids: Sequence[str], facts: Facts, published: Published, *, without: Collection[str] = ()
) -> tuple[LLMKind, ...]:
    """What is known of LLMs besides their graded answers.

    Args:
        llm_ids: Canonical ids, possibly with a setting: "gpt-5:high".
        facts: Vendors, settings and prices.
        published: Releases, sizes, prices and scores.
        without: See `Published.factor`.

    Returns:
        One for each LLM.
    """
    factor = published.factor(without=without)
    return tuple(_kind(llm, facts, published, factor) for llm in llm_ids)


_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def _month(date: str | None) -> str | None:
    """The year and month of a date that has both."""
    found = _MONTH.match(date or "")
    return found[0] if found else None


def _kind(llm: str, facts: Facts, published: Published, factor: Mapping[str, float]) -> LLMKind:
    known, base = facts.llms.get(llm), base_id(llm)
    listing = published.listings.get(llm) or published.listings.get(base) or Listing()
    thinking = thinks_by_name(llm) or bool(known and known.thinking)
    usd, price = listing.output_usd_per_mtok, facts.prices.get(llm)
    if usd is None and price is not None:
        usd = price.output_usd_per_mtok
    return LLMKind(
        vendor=(known.vendor if known else listing.vendor) or "unknown",
        family=family_of(llm),
        thinking=thinking,
        small=is_small(llm),
        released=_month(listing.released) or month_in_name(llm),
        size_b=listing.size_b or size_in_name(llm),
        output_usd_per_mtok=usd,
        published=factor.get(llm, factor.get(base)),
        published_other_setting=llm not in factor and base in factor and thinking,
    )
