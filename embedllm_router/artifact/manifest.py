"""What an artifact says of itself: the records of manifest.json, validated on the way in.

`weights` checks that files and tensors are as the manifest says.
"""

from collections import Counter
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "FORMAT_VERSION",
    "METRICS_OF",
    "PROBE",
    "BenchmarkSpec",
    "BroadSpec",
    "ContradictedLabels",
    "Covariate",
    "DataSource",
    "DecoderSpec",
    "EncoderSpec",
    "FileRecord",
    "GuaranteeRow",
    "HedgeSpec",
    "KinSpec",
    "Landmark",
    "LearnedLLM",
    "LeftOutSet",
    "Manifest",
    "NgramSpec",
    "OodSpec",
    "PublishedSpec",
    "TransformerSpec",
]


class Record(BaseModel):
    """Frozen, finite, and without fields nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NgramSpec(Record):
    """A table of n-gram vectors; `prediction` says what an n-gram is.

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
        blocks: Widths of groups of neighbouring columns of the token table, in order; each group is pooled to unit
            length by itself. Empty where all columns are one group.
        pools: Averages taken, in order; "mean" over all tokens, "tail" over the last `tail_tokens`.
        tail_tokens: Length of the "tail" window, in tokens.
        ngrams: Tables whose pools follow, in order; none in folders written before there were any.
        style_features: Names of the text statistics appended after all pools, in order.
    """

    kind: Literal["static"]
    source: str
    vocab_size: int = Field(gt=0)
    d_embedding: int = Field(gt=0)
    blocks: tuple[Annotated[int, Field(gt=0)], ...] = ()
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

    @model_validator(mode="after")
    def _blocks_make_up_the_token_table(self) -> "EncoderSpec":
        if self.blocks and sum(self.blocks) != self.d_embedding:
            raise ValueError(f"blocks sum to {sum(self.blocks)}, expected d_embedding, {self.d_embedding}")
        return self


class TransformerSpec(Record):
    """A sentence transformer as prompt encoder; its weights are found by name and must be these.

    Attributes:
        kind: "sentence-transformers", or "endpoint" where training knew it only by what an endpoint answered.
        source: Hub name or folder, as given; of an endpoint the name that it was asked for.
        revision: Commit of a hub name; None for a folder, a package or an endpoint.
        weights_sha256: Of its tensors; see `prediction.transformer_encoder`. Of an endpoint: of its name and `probe`.
        vocab_size: Tokens of its tokenizer; 0 of an endpoint, whose tokenizer is not known.
        d_embedding: Length of its embedding.
        pooling: How it makes one vector of its tokens' vectors.
        max_tokens: Longest text it reads at once; longer ones are read in chunks and averaged.
        style_features: Names of the text statistics appended, in order.
        probe: Its embedding of `PROBE`, of length 1, (d_embedding,): what an endpoint in its place must answer. Empty
            in weights written before there was one.
    """

    kind: Literal["sentence-transformers", "endpoint"]
    source: str
    revision: str | None
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    vocab_size: int = Field(ge=0)
    d_embedding: int = Field(gt=0)
    pooling: Literal["mean", "cls", "lasttoken", "other"]
    max_tokens: int = Field(gt=0)
    style_features: tuple[str, ...]
    probe: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _probe_is_an_embedding(self) -> "TransformerSpec":
        if self.probe and len(self.probe) != self.d_embedding:
            raise ValueError(f"probe has {len(self.probe)} numbers, expected d_embedding, {self.d_embedding}, or none")
        return self

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


PROBE: Final = "The quick brown fox jumps over the lazy dog, and 17 geese watch it from the other bank."
"""The text by whose embedding encoders are told apart."""

FORMAT_VERSION = 1


class BroadSpec(Record):
    """The broad network `f_W` of a decoder; see `prediction.scorer`.

    It was trained beside a free intercept for every LLM on every data set, so it holds only what tells prompts of one
    set apart, which carries over to other sets better. It and the prompt's difficulty read some columns only.

    Attributes:
        columns: Half-open ranges of the prompt embedding that are read, ascending and apart.
        max_deviation: Standardised inputs are clipped to this; at most what the decoder clips to.
        hidden: Widths of the hidden layers.
        d_llm: Length of an LLM's broad embedding.
    """

    columns: tuple[tuple[int, int], ...] = Field(min_length=1)
    max_deviation: float = Field(default=4.0, gt=0)
    hidden: tuple[Annotated[int, Field(gt=0)], ...]
    d_llm: int = Field(gt=0)

    @property
    def n_columns(self) -> int:
        """How many columns are read."""
        return sum(end - start for start, end in self.columns)

    @model_validator(mode="after")
    def _columns_ascend(self) -> "BroadSpec":
        edges = [edge for span in self.columns for edge in span]
        if edges[0] < 0 or any(start >= end for start, end in self.columns) or edges != sorted(edges):
            raise ValueError(f"columns must be ascending half-open ranges that do not overlap, found {self.columns}")
        return self


class DecoderSpec(Record):
    """The decoder `logit[llm] = e_llm · f(x) + b_llm` and its twin for output length.

    Attributes:
        kind: "mf" (f linear, the paper's form) or "network" (f a small ReLU network).
        hidden: Widths of the hidden layers of f; empty for "mf".
        d_llm: Length of an LLM embedding.
        length_hidden: Hidden widths of the network that predicts output length.
        d_length: Length of an LLM's output-length embedding.
        max_deviation: Standardised inputs are clipped to this: a strange prompt extrapolates no further.
        broad: A second network, for prompts unlike those of training; None without one.
    """

    kind: Literal["mf", "network"]
    hidden: tuple[int, ...]
    d_llm: int = Field(gt=0)
    length_hidden: tuple[int, ...]
    d_length: int = Field(gt=0)
    max_deviation: float = Field(default=8.0, gt=0)
    broad: BroadSpec | None = None

    @model_validator(mode="after")
    def _broad_clips_no_later(self) -> "DecoderSpec":
        if self.broad is not None and self.broad.max_deviation > self.max_deviation:
            raise ValueError(
                f"broad.max_deviation is {self.broad.max_deviation}, expected at most max_deviation, "
                f"{self.max_deviation}: its inputs are those of the decoder, clipped further"
            )
        return self


class LearnedLLM(Record):
    """One LLM the decoder knows; its place in the list is its row in every tensor.

    Attributes:
        id: Canonical id, for example "gpt-4o-mini-2024-07-18".
        vendor: Who made it.
        thinking: Whether it reasons before it answers.
        n_labels: How many graded answers it was learned from.
        mean_correctness: Share of those that were correct, in [0, 1]; without any, the mean probability predicted of it
            on prompts such as the weights learned from.
        known_by: What is known of it: graded answers; only published benchmark results; or only what its name, vendor,
            family, price and date say.
        family: The line of LLMs it belongs to, for example "gpt-4o"; None when unknown.
        released: Month of its release, "YYYY-MM"; None when unknown.
        size_b: Billions of parameters; None when unknown.
        input_usd_per_mtok: List price per million input tokens in USD; None when unknown.
        output_usd_per_mtok: List price per million output tokens in USD; None when unknown.
        price_source: Where the price was read; None when unknown.
    """

    id: str = Field(min_length=1)
    vendor: str
    thinking: bool
    n_labels: int = Field(ge=0)
    mean_correctness: float = Field(ge=0, le=1)
    known_by: Literal["labels", "published", "family"] = "labels"
    family: str | None = None
    released: str | None = Field(default=None, pattern=r"^\d{4}-(0[1-9]|1[0-2])$")
    size_b: float | None = Field(default=None, gt=0)
    input_usd_per_mtok: float | None = Field(default=None, ge=0)
    output_usd_per_mtok: float | None = Field(default=None, ge=0)
    price_source: str | None = None

    @model_validator(mode="after")
    def _is_known_by_something(self) -> "LearnedLLM":
        if not self.n_labels and self.known_by == "labels":
            raise ValueError(f"{self.id} is known by labels and has none; known_by must be published or family")
        return self


class Landmark(Record):
    """One category of one data set that prompts are likened to; its place in the list is its row in the tensor.

    Attributes:
        name: Data set and category, for example "mmlu_pro/law".
        n_prompts: Training prompts it is the mean of.
        mean_correctness: Share of right answers among the graded ones to those prompts, in [0, 1].
        spread: Root mean square distance to it of the training prompts that lie nearest to it, positive.
    """

    name: str = Field(min_length=1)
    n_prompts: int = Field(gt=0)
    mean_correctness: float = Field(ge=0, le=1)
    spread: float = Field(default=1.0, gt=0)


class OodSpec(Record):
    """What the out-of-distribution score of a prompt is made of; see `prediction.ood_score`.

    Attributes:
        ranks: Distances of ordinary held-out prompts to their nearest landmark in units of its spread, at equally
            spaced ranks, ascending.
        shrinkage: What predictions of prompts of an unknown kind are multiplied by in log-odds, in (0, 1]; not read
            where the manifest has a hedge.
        n_prompts: Held-out prompts that were measured.
    """

    ranks: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(min_length=1)
    shrinkage: float = Field(gt=0, le=1)
    n_prompts: int = Field(gt=0)

    @model_validator(mode="after")
    def _ascends(self) -> "OodSpec":
        if any(later < earlier for earlier, later in pairwise(self.ranks)):
            raise ValueError("the ranks do not ascend")
        return self


class LeftOutSet(Record):
    """A data set that weights of the same recipe never saw, and how well they predicted it.

    Attributes:
        name: The data set.
        domain: What it asks about.
        n_prompts: Prompts it was measured on.
        n_llms: LLMs that were graded on them.
        n_labels: Graded answers.
        log_loss: Of the predictions, in nats.
        means_log_loss: Of each LLM's mean on the other sets.
        change_low: Lower end of the 95 % interval of log_loss - means_log_loss, paired by prompt.
        change_high: Upper end.
        auc: Of the predictions, in [0, 1]; None where it is undefined. So are the next two.
        means_auc: Of each LLM's mean.
        auc_within: Of the predictions among the answers of one LLM, averaged over the LLMs.
    """

    name: str = Field(min_length=1)
    domain: str
    n_prompts: int = Field(gt=0)
    n_llms: int = Field(gt=0)
    n_labels: int = Field(gt=0)
    log_loss: float = Field(ge=0)
    means_log_loss: float = Field(ge=0)
    change_low: float
    change_high: float
    auc: float | None = Field(default=None, ge=0, le=1)
    means_auc: float | None = Field(default=None, ge=0, le=1)
    auc_within: float | None = Field(default=None, ge=0, le=1)


class HedgeSpec(Record):
    """How predictions pass from what holds on prompts like those of training to what holds elsewhere.

    All of it was fitted so that data sets left out of training are predicted well. The formula is in
    `prediction.scorer`, the novelty of a prompt in `prediction.ood_score`.

    Attributes:
        base: Logit of an average LLM on an average prompt of an unknown kind.
        ability_share: What an LLM's ability counts for there.
        difficulty_share: What the difficulty of the prompt counts for there.
        common_share: What the broad network says of all reference LLMs together counts for there.
        difference_share: What it says of the differences between LLMs counts for there.
        mean_ability: Mean ability of the reference LLMs, those of many labels.
        broad_weight: Weight of the broad network on prompts like those of training.
        temperature: Factor of the logit of prompts like those of training.
        slope: Calibration of the final logit: its factor.
        offset: Calibration of the final logit: what is added.
        gate_bias: Logit of the gate at average novelty.
        gate_weight: Weight of the standardised novelty in it.
        gate_mean: Mean novelty of ordinary prompts.
        gate_scale: Standard deviation of it.
        n_points: Points that novelty is measured from.
        fitted_on: Data sets that were left out in turn to fit it.
        left_out: How well each of these was predicted when nothing of it was known.
    """

    base: float
    ability_share: float = Field(gt=0)
    difficulty_share: float
    common_share: float
    difference_share: float
    mean_ability: float
    broad_weight: float = Field(ge=0, le=1)
    temperature: float = Field(gt=0)
    slope: float = Field(gt=0)
    offset: float
    gate_bias: float
    gate_weight: float
    gate_mean: float
    gate_scale: float = Field(gt=0)
    n_points: int = Field(gt=0)
    fitted_on: tuple[str, ...]
    left_out: tuple[LeftOutSet, ...]


class Covariate(Record):
    """A figure about an LLM that says something of its ability: `weight · (value - mean) / scale` in logits.

    Attributes:
        name: Of the figure.
        mean: Its mean over the learned LLMs.
        scale: Its standard deviation.
        weight: Of the standardised figure.
    """

    name: str = Field(min_length=1)
    mean: float
    scale: float = Field(gt=0)
    weight: float


NotNegative = Annotated[float, Field(ge=0)]


class KinSpec(Record):
    """What is expected of an LLM that nobody graded, from its name, vendor, family, price and date.

    Attributes:
        base_ability: Ability of an LLM of which nothing is known.
        covariates: What figures about it add.
        vendors: By vendor, the posterior mean of what its LLMs add beyond the covariates, and the standard deviation of
            the ability of a new one.
        families: By "vendor|family", likewise; replaces what the vendor says.
        unknown_vendor: Likewise of a vendor nobody knows: nothing is added.
        features: Names of what an LLM's embeddings are expected from; rows of the decoder's `kin_embeddings` and
            `kin_broad_embeddings`.
    """

    base_ability: float
    covariates: tuple[Covariate, ...]
    vendors: dict[str, tuple[float, NotNegative]]
    families: dict[str, tuple[float, NotNegative]]
    unknown_vendor: tuple[float, NotNegative]
    features: tuple[str, ...] = Field(min_length=1)


class BenchmarkSpec(Record):
    """What a published score on one benchmark says: `logit(score) = offset + loading · published ability + noise`.

    Attributes:
        name: Of the benchmark, for example "gpqa_diamond".
        offset: Logit of the score of an LLM of ability 0, as its publishers ask and grade.
        loading: What one logit of ability adds to it.
        sd: Standard deviation of the noise: of questions, protocols and settings.
        n_llms: LLMs with a score and graded answers that it was learned from.
    """

    name: str = Field(min_length=1)
    offset: float
    loading: float
    sd: float = Field(gt=0)
    n_llms: int = Field(gt=0)


class PublishedSpec(Record):
    """What published scores say of abilities; see `artifact.published`.

    Attributes:
        sd: Standard deviation, over LLMs of one age, of the ability that published scores show around that of graded
            answers.
        drift: What a release one year later adds to it: published ability rises faster with the years.
        usual_release: Years since the beginning of 2025 at which it adds nothing, the mean release.
        release_sd: Standard deviation of releases in years.
        benchmarks: Of ten LLMs or more, sorted by name.
    """

    sd: float = Field(ge=0)
    drift: float = 0.0
    usual_release: float = 0.0
    release_sd: float = Field(default=0.0, ge=0)
    benchmarks: tuple[BenchmarkSpec, ...] = Field(min_length=1)


class GuaranteeRow(Record):
    """How often answers were right on held-out prompts where a promise was made of them.

    Attributes:
        promise: "min_p_correct": the cheapest LLM that reaches a floor τ was chosen, where one did. "cost_weight": the
            LLM of the highest utility at λ was chosen. "any_llm": every graded LLM that reaches τ.
        value: τ in [0, 1], or λ.
        data: Data set of the prompts; None for all of them together.
        n_prompts: Prompts for which the promise was made.
        n_labels: Graded answers it was made of; of a choice, one per prompt.
        predicted: Their mean p_correct, in [0, 1].
        correct: Share of them that was right.
        low: Lower end of the 95 % interval of that share.
        high: Upper end.
        at_least: One-sided 95 % lower bound of that share; what one can sign.
    """

    promise: Literal["min_p_correct", "cost_weight", "any_llm"]
    value: float = Field(ge=0)
    data: str | None = None
    n_prompts: int = Field(gt=0)
    n_labels: int = Field(gt=0)
    predicted: float = Field(ge=0, le=1)
    correct: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    at_least: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _is_possible(self) -> "GuaranteeRow":
        if self.promise != "cost_weight" and self.value > 1:
            raise ValueError(f"{self.promise} is a probability, found {self.value}")
        if not self.low <= self.correct <= self.high:
            raise ValueError(f"the share {self.correct} lies outside its interval [{self.low}, {self.high}]")
        return self


class DataSource(Record):
    """A correctness data set the artifact was learned from."""

    name: str
    licence: str
    attribution: str
    n_prompts: int
    n_labels: int


class ContradictedLabels(Record):
    """Labels of one LLM that were left out, since they show a failure of format and not what the LLM can do.

    Attributes:
        dataset: Name of the data set.
        category: A category of it; or what stands before a slash in several; or "*" for all.
        llm: The LLM's id.
        n_labels: How many there are.
        right: Share of them that is right.
        expected: The published score that they contradict, or the share that guessing reaches.
        benchmark: What the score was published for; None where they are compared with guessing.
    """

    dataset: str
    category: str
    llm: str
    n_labels: int = Field(ge=1)
    right: float = Field(ge=0, le=1)
    expected: float = Field(ge=0, le=1)
    benchmark: str | None = None

    @property
    def cell(self) -> tuple[str, str, str]:
        """As `CorrectnessMatrix.without` takes it."""
        return self.dataset, self.category, self.llm


class FileRecord(Record):
    """Size in bytes and SHA-256 of one file of the folder."""

    bytes: int
    sha256: str


METRICS_OF: Final = "metrics_of"
"""Entry of `Manifest.training`: id of the weights whose metrics these are; absent or None where they are its own."""


class Manifest(Record):
    """All there is to know of an artifact besides its tensors.

    Landmarks are optional: a folder without them has an empty list and a `d_landmark` of 0. So are the contract,
    the measured guarantee of τ, and the novelty, the measurements for the OOD score, which needs landmarks. A decoder
    with a broad network has a hedge, which needs landmarks too, and no other decoder has one; kin is for such decoders,
    and what published scores say is for weights with kin.
    """

    format: Literal["embedllm-router artifact"] = "embedllm-router artifact"
    format_version: Literal[1] = 1
    created: str
    encoder: Annotated[EncoderSpec | TransformerSpec, Field(discriminator="kind")]
    decoder: DecoderSpec
    llms: tuple[LearnedLLM, ...] = Field(min_length=1)
    data: tuple[DataSource, ...]
    contradicted: tuple[ContradictedLabels, ...] = ()
    training: dict[str, str | int | float | bool | None]
    metrics: dict[str, float]
    landmarks: tuple[Landmark, ...] = ()
    d_landmark: int = Field(default=0, ge=0)
    novelty: OodSpec | None = None
    hedge: HedgeSpec | None = None
    kin: KinSpec | None = None
    published: PublishedSpec | None = None
    contract: tuple[GuaranteeRow, ...] = ()
    files: dict[str, FileRecord] = Field(default_factory=dict)

    @property
    def measured(self) -> str:
        """What the metrics were measured on, as a sentence."""
        of, n = self.training.get(METRICS_OF), self.training.get("profiled_answers")
        if of:
            learned = f"before {n:,} answers were learned" if n else "before LLMs were added or changed"
            return f"Measured on the weights {of}, {learned}; these weights were not measured again."
        if "feedback.log_loss" in self.metrics:
            held = int(self.metrics.get("feedback.n_held_out", 0))
            return f"Measured on {held:,} answers with feedback that were held out when these weights learned from it."
        return "Measured on benchmark prompts that training set aside."

    @property
    def left_out_labels(self) -> str:
        """How many labels tell of formats and not of LLMs, in words."""
        n, llms = sum(one.n_labels for one in self.contradicted), {one.llm for one in self.contradicted}
        whose = f"{len(llms)} LLM{'' if len(llms) == 1 else 's'}"
        return f"{n:,} labels of {whose}, far below a published score or below guessing; see the model card"

    @model_validator(mode="after")
    def _rows_are_told_apart(self) -> "Manifest":
        for rows, ids in (("llms", [llm.id for llm in self.llms]), ("landmarks", [one.name for one in self.landmarks])):
            repeated = sorted(i for i, n in Counter(ids).items() if n > 1)
            if repeated:
                raise ValueError(f"{rows} repeat {repeated}; every row needs its own id")
        if bool(self.landmarks) != bool(self.d_landmark):
            raise ValueError(f"{len(self.landmarks)} landmarks of length {self.d_landmark}: both or neither must be 0")
        if self.novelty is not None and not self.landmarks:
            raise ValueError("novelty is a distance to landmarks, of which there are none")
        return self

    @model_validator(mode="after")
    def _broad_and_hedge_belong_together(self) -> "Manifest":
        broad = self.decoder.broad
        if (broad is None) != (self.hedge is None):
            has, lacks = ("hedge", "decoder.broad") if broad is None else ("decoder.broad", "hedge")
            raise ValueError(f"{has} is given and {lacks} is not; expected both or neither")
        if broad is not None and broad.columns[-1][1] > self.encoder.d_prompt:
            raise ValueError(
                f"decoder.broad reads columns up to {broad.columns[-1][1]}, the prompt embedding has "
                f"{self.encoder.d_prompt}"
            )
        if self.hedge is not None and not self.landmarks:
            raise ValueError("the hedge measures distances to landmarks, of which there are none")
        if self.published is not None and self.kin is None:
            raise ValueError("published is given and kin is not; scores move what is expected of an LLM")
        if self.kin is not None and broad is None:
            raise ValueError("kin is given and decoder.broad is not; what is expected of an LLM needs both networks")
        return self
