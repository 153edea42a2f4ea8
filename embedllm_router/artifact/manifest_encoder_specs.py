"""What an artifact says of its prompt encoder, static or a sentence transformer. It knows no files and no tensors."""

from collections import Counter
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["EncoderSpec", "NgramSpec", "Record", "TransformerSpec"]


class Record(BaseModel):
    """Frozen, finite, and without fields nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NgramSpec(Record):
    """A table of n-gram vectors; see ngrams.py.

    Attributes:
        name: What its tensors and columns are called after.
        reads: Of what the n-grams are: token ids, the kind of every byte, or those kinds with equal neighbours merged.
        n: Neighbours that make one n-gram.
        n_rows: Rows that n-grams are hashed to, a power of two of at most 2^16.
        n_columns: Length of a vector.
    """

    name: str = Field(pattern="^[a-z][a-z_]*$")
    reads: Literal["tokens", "kinds", "shapes"]
    n: int = Field(ge=1, le=8)
    n_rows: int = Field(ge=2, le=2**16)
    n_columns: int = Field(gt=0)

    @field_validator("n_rows")
    @classmethod
    def _is_a_power_of_two(cls, n_rows: int) -> int:
        if n_rows & (n_rows - 1):
            raise ValueError(f"expected a power of two, found {n_rows}")
        return n_rows


class EncoderSpec(Record):
    """The static prompt encoder.

    Attributes:
        kind: Always "static": token vectors looked up and averaged.
        source: What it was distilled from, and how.
        vocab_size: Rows of the token table.
        d_embedding: Columns of the token table.
        pools: Averages taken, in order; "mean" over all tokens, "tail" over the last `tail_tokens`.
        tail_tokens: Length of the "tail" window, in tokens.
        ngrams: Tables whose pools follow, in order; none in folders written before there were any.
        style_features: Names of the text statistics appended after all pools, in order.
    """

    kind: Literal["static"]
    source: str
    vocab_size: int = Field(gt=0)
    d_embedding: int = Field(gt=0)
    pools: tuple[Literal["mean", "tail"], ...] = Field(min_length=1)
    tail_tokens: int = Field(gt=0)
    ngrams: tuple[NgramSpec, ...] = ()
    style_features: tuple[str, ...]

    @property
    def d_prompt(self) -> int:
        """Length of a prompt embedding: every pool, those of n-grams last, then the style features."""
        of_ngrams = sum(table.n_columns for table in self.ngrams)
        return len(self.pools) * self.d_embedding + of_ngrams + len(self.style_features)

    @model_validator(mode="after")
    def _ngrams_are_told_apart(self) -> "EncoderSpec":
        names = [table.name for table in self.ngrams]
        repeated = sorted(name for name, n in Counter(["token", *names]).items() if n > 1)
        if repeated:
            raise ValueError(f"ngrams repeat {repeated}; every table needs a name of its own, none is 'token'")
        return self


class TransformerSpec(Record):
    """A sentence transformer as prompt encoder; its weights are found by name and must be these.

    Attributes:
        kind: Always "sentence-transformers".
        source: Hub name or folder, as given.
        revision: Commit of a hub name; None for a folder or package.
        weights_sha256: Of its tensors; see transformer_encoder.py.
        vocab_size: Tokens of its tokenizer.
        d_embedding: Length of its embedding.
        pooling: How it makes one vector of its tokens' vectors.
        max_tokens: Longest text it reads at once; longer ones are read in chunks and averaged.
        style_features: Names of the text statistics appended, in order.
    """

    kind: Literal["sentence-transformers"]
    source: str
    revision: str | None
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    vocab_size: int = Field(gt=0)
    d_embedding: int = Field(gt=0)
    pooling: Literal["mean", "cls", "lasttoken", "other"]
    max_tokens: int = Field(gt=0)
    style_features: tuple[str, ...]

    @property
    def pools(self) -> tuple[str, ...]:
        """Averages taken, in order: one, over the chunks of a text."""
        return (self.pooling,)

    @property
    def ngrams(self) -> tuple[NgramSpec, ...]:
        """Tables of n-grams: none."""
        return ()

    @property
    def d_prompt(self) -> int:
        """Length of a prompt embedding: the model's, then the style features."""
        return self.d_embedding + len(self.style_features)
