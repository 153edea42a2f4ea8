"""The decoder with gradients, and the values that training is given and gives back.

`logit[llm] = e_llm · f(x) + b_llm`, after EmbedLLM (arXiv 2410.02223), where f is linear (the paper's form) or a small
ReLU network. A second head of the same shape predicts the natural logarithm of output tokens. `prediction.scorer` must
compute the same in numpy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedllm_router.data.split import Split
from embedllm_router.prediction.ood_score import MAX_DEVIATION

__all__ = ["Decoder", "EpochRecord", "Head", "KinHead", "LearningData", "PairModel", "Progress", "Trained", "fold"]

_SMALL: Final = 0.1  # standard deviation of fresh LLM embeddings: predictions start near the LLM means


@dataclass(frozen=True, slots=True)
class DecoderOutput:
    """Predictions for a batch of prompts and every LLM.

    Attributes:
        logits: Of a correct answer, float32 (batch, n_llms).
        log_tokens: Natural logarithm of expected output tokens, float32 (batch, n_llms).
    """

    logits: Tensor
    log_tokens: Tensor


class Head(nn.Module):
    """`e_llm · f(x) + b_llm` for every LLM.

    Args:
        d_prompt: Length of x.
        hidden: Widths of f's hidden layers; none makes f linear.
        d_llm: Length of an LLM embedding.
        n_llms: Number of LLMs.
        dropout: Share of hidden values silenced in training.
    """

    def __init__(self, d_prompt: int, hidden: Sequence[int], d_llm: int, n_llms: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        widths = (d_prompt, *hidden, d_llm)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.llm_embeddings = nn.Parameter(_SMALL * torch.randn(n_llms, d_llm))
        self.llm_bias = nn.Parameter(torch.zeros(n_llms))

    def linear_layers(self) -> list[nn.Linear]:
        """The layers of f, in order."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """Predicts for a batch.

        Args:
            x: Standardised prompt embeddings, float32 (batch, d_prompt).

        Returns:
            float32 (batch, n_llms).
        """
        out: Tensor = self.of_prompt(x) @ self.llm_embeddings.T + self.llm_bias
        return out

    def of_prompt(self, x: Tensor) -> Tensor:
        """f(x) of a batch, float32 (batch, d_llm)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.dropout(torch.relu(layer(x)))
        out: Tensor = last(x)
        return out


class KinHead(nn.Module):
    """A head whose LLM embeddings are expected from what is known of an LLM: `e = z · M + trust · own`.

    An LLM of few answers gets the row of its kind, one of many its own. The bias is trusted as much as the own row.

    Args:
        head: Its embeddings and biases are what LLMs have of their own.
        features: z, float32 (n_llms, n_features).
        trust: float32 (n_llms,), in [0, 1].
        n_sets: Data sets that each have a free intercept for every LLM while it is taught; 0 for none. They take up
            what tells sets apart, so that the network learns what tells prompts of one set apart, and are then left.
    """

    features: Tensor
    trust: Tensor

    def __init__(self, head: Head, features: Tensor, trust: Tensor, *, n_sets: int = 0) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("features", features)
        self.register_buffer("trust", trust)
        d_llm = head.llm_embeddings.shape[1]
        self.kin_embeddings = nn.Parameter(_SMALL * torch.randn(features.shape[1], d_llm))
        self.set_intercepts = nn.Parameter(torch.zeros(n_sets, len(features)))

    def llm_rows(self) -> tuple[Tensor, Tensor]:
        """Embedding and bias of every LLM, float32 (n_llms, d_llm) and (n_llms,)."""
        own = self.trust[:, None] * self.head.llm_embeddings
        return self.features @ self.kin_embeddings + own, self.trust * self.head.llm_bias

    def forward(self, x: Tensor) -> Tensor:
        """Predicts for a batch.

        Args:
            x: Standardised prompt embeddings, float32 (batch, d_prompt).

        Returns:
            float32 (batch, n_llms), without the intercepts of data sets.
        """
        embeddings, bias = self.llm_rows()
        out: Tensor = self.head.of_prompt(x) @ embeddings.T + bias
        return out

    @torch.no_grad()
    def folded(self) -> Head:
        """The head that predicts the same."""
        widths = [layer.out_features for layer in self.head.linear_layers()]
        head = Head(self.head.linear_layers()[0].in_features, widths[:-1], widths[-1], len(self.trust))
        head.to(self.trust.device)
        for mine, theirs in zip(head.linear_layers(), self.head.linear_layers(), strict=True):
            mine.load_state_dict(theirs.state_dict())
        embeddings, bias = self.llm_rows()
        head.llm_embeddings.copy_(embeddings)
        head.llm_bias.copy_(bias)
        return head.eval()


class _PairDots(torch.autograd.Function):
    """x[i] · directions[llms[i]]; its gradient sums the rows of x by LLM instead of spreading them out first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, directions: Tensor, llms: Tensor) -> Tensor:
        ctx.save_for_backward(x, llms)
        ctx.n_llms = len(directions)
        return directions.index_select(0, llms).mul_(x).sum(dim=1)  # in place: the batch is read once, not twice

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (gradient,) = gradients
        x, llms = ctx.saved_tensors
        order = llms.argsort(stable=True)
        ends = torch.bincount(llms, minlength=ctx.n_llms).cumsum(0)
        starts = nn.functional.pad(ends[:-1], (1, 0))
        sums = nn.functional.embedding_bag(order, x, starts, mode="sum", per_sample_weights=gradient[order])
        return None, sums, None


class PairModel(nn.Module):
    """EmbedLLM's decoder as the paper writes it: `logit = w · (p_llm ∘ (A·x + b)) + c`, one pair at a time.

    Its weights start as torch starts an embedding and two linear layers, which is what the reference code does. It is
    computed as `(Aᵀ(w ∘ p_llm)) · x + …`: the same function and gradients for a tenth of the products, as a batch has
    many more prompts than there are LLMs.

    Args:
        d_prompt: Length of x.
        d_llm: Length of an LLM embedding, 232 in the paper.
        n_llms: Number of LLMs.
    """

    def __init__(self, d_prompt: int, d_llm: int, n_llms: int) -> None:
        super().__init__()
        self.llm_embeddings = nn.Embedding(n_llms, d_llm)
        self.projection = nn.Linear(d_prompt, d_llm)
        self.output = nn.Linear(d_llm, 1)

    def forward(self, x: Tensor, llms: Tensor) -> Tensor:
        """Predicts for pairs.

        Args:
            x: Prompt embeddings, float32 (batch, d_prompt).
            llms: Row of each pair's LLM, int64 (batch,).

        Returns:
            Logits, float32 (batch,).
        """
        weighted = self.llm_embeddings.weight * self.output.weight
        directions = (weighted @ self.projection.weight).to(x.dtype)
        offsets = weighted @ self.projection.bias + self.output.bias
        dots: Tensor = _PairDots.apply(x, directions, llms)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return dots + offsets[llms]

    @torch.no_grad()
    def folded(self) -> Head:
        """The head that predicts the same for every LLM at once: w moves into the LLM embeddings, c into the biases."""
        n_llms, d_llm = self.llm_embeddings.weight.shape
        head = Head(self.projection.in_features, (), d_llm, n_llms).to(self.output.weight.device)
        (layer,) = head.linear_layers()
        layer.load_state_dict(self.projection.state_dict())
        head.llm_embeddings.copy_(self.llm_embeddings.weight * self.output.weight)
        head.llm_bias.copy_(self.output.bias.expand(n_llms))
        return head.eval()


class Decoder(nn.Module):
    """Both heads behind one standardisation of the prompt embedding.

    Args:
        input_mean: float32 (d_prompt,), subtracted from a prompt embedding.
        input_scale: float32 (d_prompt,), positive; divides the rest.
        correctness: Head whose output is a logit.
        length: Head whose output is the logarithm of output tokens.
        max_deviation: What standardised inputs are clipped to.
    """

    input_mean: Tensor
    input_scale: Tensor

    def __init__(
        self,
        input_mean: Tensor,
        input_scale: Tensor,
        correctness: Head,
        length: Head,
        *,
        max_deviation: float = MAX_DEVIATION,
    ) -> None:
        super().__init__()
        self.max_deviation = max_deviation
        self.register_buffer("input_mean", input_mean)
        self.register_buffer("input_scale", input_scale)
        self.correctness = correctness
        self.length = length

    def standardise(self, prompt_embeddings: Tensor) -> Tensor:
        """Prompt embeddings in training's units, float32 (batch, d_prompt), clipped to `max_deviation`."""
        x = (prompt_embeddings - self.input_mean) / self.input_scale
        return x.clamp(-self.max_deviation, self.max_deviation)

    def forward(self, prompt_embeddings: Tensor) -> DecoderOutput:
        """Predicts correctness and length.

        Args:
            prompt_embeddings: As the encoder makes them, float32 (batch, d_prompt).

        Returns:
            Predictions of both heads.
        """
        x = self.standardise(prompt_embeddings)
        return DecoderOutput(logits=self.correctness(x), log_tokens=self.length(x))

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The tensors of decoder.safetensors, as `artifact.decoder_shapes` lists them."""
        out = {"input_mean": self.input_mean, "input_scale": self.input_scale}
        for head, network, embeddings, bias in (
            (self.correctness, "prompt_network", "llm_embeddings", "llm_bias"),
            (self.length, "length_network", "length_embeddings", "length_bias"),
        ):
            out |= {f"{network}.{name}": tensor for name, tensor in head.layers.state_dict().items()}
            out |= {embeddings: head.llm_embeddings, bias: head.llm_bias}
        return {name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in out.items()}


@torch.no_grad()
def fold(heads: Sequence[Head]) -> Head:
    """One wider head that predicts the average of several of equal shape.

    Hidden layers stand side by side, LLM embeddings are concatenated: an ensemble costs no new code to serve.

    Args:
        heads: At least one, all of the same widths.

    Returns:
        A head whose output is the mean of theirs, without dropout.
    """
    n = len(heads)
    columns = list(zip(*(head.linear_layers() for head in heads), strict=True))
    widths = [n * column[0].out_features for column in columns]
    wide = Head(columns[0][0].in_features, widths[:-1], widths[-1], heads[0].llm_bias.shape[0])
    for depth, (layer, column) in enumerate(zip(wide.linear_layers(), columns, strict=True)):
        weights = [part.weight for part in column]
        layer.weight.copy_(torch.cat(weights) if depth == 0 else torch.block_diag(*weights))  # type: ignore[no-untyped-call]  # torch leaves it untyped
        layer.bias.copy_(torch.cat([part.bias for part in column]))
    wide.llm_embeddings.copy_(torch.cat([head.llm_embeddings / n for head in heads], dim=1))
    wide.llm_bias.copy_(torch.stack([head.llm_bias for head in heads]).mean(dim=0))
    return wide


Progress = Callable[[str, int, int, float], None]
"""Called after each epoch with the head's name, epochs done, epochs planned, validation loss.

Before training, likewise, with "perturbed copies", how many are encoded, how many there shall be, and NaN.
"""


@dataclass(frozen=True, slots=True)
class LearningData:
    """Everything training sees, row for row.

    Attributes:
        x: Prompt embeddings, float32 (n_prompts, d_prompt).
        labels: uint8 or float32 (n_prompts, n_llms), 0 or 1.
        observed: bool (n_prompts, n_llms).
        log_tokens: Natural logarithm of output tokens, float32 (n_prompts, n_llms), NaN where unknown.
        thinking: bool (n_llms,).
        categories: Number of each prompt's category, int64 (n_prompts,), from 0.
        split: Which rows train, which stop training and calibrate.
        datasets: Number of each prompt's data set, int64 (n_prompts,), from 0; None when there is only one.
        copies: Embeddings of perturbed copies of the training part's prompts, float16 (n_copies, n_train, d_prompt), in
            the order of `split.train`; None without.
    """

    x: NDArray[np.float32]
    labels: NDArray[np.float32] | NDArray[np.uint8]
    observed: NDArray[np.bool_]
    log_tokens: NDArray[np.float32]
    thinking: NDArray[np.bool_]
    categories: NDArray[np.int64]
    split: Split
    datasets: NDArray[np.int64] | None = None
    copies: NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One line of the training history."""

    head: str
    epoch: int
    train_loss: float
    validation_loss: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A calibrated decoder and how it came to be."""

    decoder: Decoder
    history: tuple[EpochRecord, ...]
