"""How the decoder is trained: one documented value per choice. Importing it loads no torch."""

import math
from dataclasses import dataclass

from embedllm_router.errors import ConfigError

__all__ = ["TrainingOptions", "paper_options", "plain_options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How the decoder is trained; the defaults are the best recipe of docs/experiments.md."""

    hedged: bool = True
    """Two networks beside ability and difficulty, with a hedge for prompts of new kinds; else one network alone."""
    hidden: tuple[int, ...] = (288,)
    """Widths of the prompt network's hidden layers, per ensemble member; none is the paper's linear form."""
    d_llm: int = 48
    """Length of an LLM embedding, per ensemble member."""
    members: int = 1
    """Networks trained from different seeds and folded into one."""
    broad_hidden: tuple[int, ...] = (192,)
    """Widths of the broad network's hidden layers."""
    broad_d_llm: int = 48
    """Length of an LLM's broad embedding."""
    broad_weight: float = 0.1
    """Share of the broad network in predictions for prompts like those of training; the rest is the other network's."""
    trust_labels: float = 200.0
    """Graded answers at which an LLM's own row counts half, and what is expected of its kind the other half."""
    n_points: int = 512
    """Centres of training prompts that the novelty of a prompt is measured from."""
    dropout: float = 0.4
    """Share of hidden values silenced in training."""
    input_dropout: float = 0.2
    """Share of the standardised prompt embedding's values silenced in training."""
    category_smoothing: float = 0.2
    """Share of each training target that is the LLM's mean on the prompt's category instead of the one answer."""
    input_noise: float = 0.0
    """Standard deviation of Gaussian noise on the standardised prompt embedding (the paper's alpha)."""
    balance: float = 0.0
    """Labels of a data set of n labels weigh n to the power of minus this: 0 counts labels, 1 counts data sets."""
    pairs: bool = False
    """Learn from single pairs of prompt and LLM by Adam at a constant rate, as the paper does, not from whole rows."""
    learning_rate: float = 5e-4
    """Peak of AdamW's one-cycle schedule; with `pairs`, Adam's rate."""
    weight_decay: float = 0.3
    """AdamW's decoupled weight decay; with `pairs` there is none."""
    batch_prompts: int = 256
    """Prompts, that is whole rows of the matrix, per step."""
    batch_pairs: int = 2048
    """Pairs of prompt and LLM per step, with `pairs`."""
    max_epochs: int = 20
    """Epochs the schedule is planned for."""
    patience: int = 4
    """Epochs without a better validation loss after which training stops."""
    perturbed_copies: int = 4
    """Copies of each training prompt with small changes that leave its meaning, learned beside it; 0 for none."""
    consistency: float = 2.0
    """Weight of the mean squared difference between outputs for a prompt and for a copy; it grows over 500 steps."""
    length_hidden: tuple[int, ...] = (64,)
    """Widths of the length network's hidden layers."""
    d_length: int = 16
    """Length of an LLM's output-length embedding."""
    calibration_strength: float = 40.0
    """Pull of an LLM's own calibration towards the common one; see `training.fit_calibration`."""
    seed: int = 0
    """Decides initial weights, batches and noise; the split has a seed of its own."""

    def __post_init__(self) -> None:
        counts = ("d_llm", "members", "broad_d_llm", "n_points", "batch_prompts", "batch_pairs", "max_epochs")
        for name in (*counts, "patience", "d_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training option {name} is {getattr(self, name)}, expected at least 1.")
        for name in ("dropout", "input_dropout", "category_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"training option {name} is {getattr(self, name)}, expected a number in [0, 1).")
        if not self.learning_rate > 0:
            raise ConfigError(f"training option learning_rate is {self.learning_rate}, expected more than 0.")
        if not 0 <= self.broad_weight <= 1:
            raise ConfigError(f"training option broad_weight is {self.broad_weight}, expected a number in [0, 1].")
        for name in ("input_noise", "balance", "weight_decay", "perturbed_copies", "consistency", "trust_labels"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"training option {name} is {getattr(self, name)}, expected 0 or more.")
        self._refuse_mixtures()

    def _refuse_mixtures(self) -> None:
        others = (self.hidden, self.members, self.category_smoothing, self.balance, self.perturbed_copies, self.hedged)
        if self.pairs and others != ((), 1, 0, 0, 0, False):
            raise ConfigError(
                "learning from pairs is the paper's linear form: hidden must be empty, members 1, category_smoothing, "
                f"balance and perturbed_copies 0, hedged False; found {', '.join(map(str, others))}."
            )


def plain_options(*, seed: int = 0) -> TrainingOptions:
    """One network for everything, an ensemble of two: the default of earlier versions, for comparison."""
    return TrainingOptions(hedged=False, members=2, max_epochs=24, seed=seed)


def paper_options(*, seed: int = 0, max_epochs: int = 50) -> TrainingOptions:
    """EmbedLLM's own settings (Zhuang et al., ICLR 2025, arXiv 2410.02223).

    Args:
        seed: Decides initial weights, batches and noise.
        max_epochs: 50 in the paper.

    Returns:
        Linear f, LLM embeddings of 232, alpha 0.05, Adam at 1e-4, batches of 2048 pairs; of all epochs the one with the
        lowest validation loss is kept.
    """
    return TrainingOptions(
        hedged=False,
        hidden=(),
        d_llm=232,
        members=1,
        dropout=0.0,
        input_dropout=0.0,
        category_smoothing=0.0,
        input_noise=0.05,
        pairs=True,
        perturbed_copies=0,
        learning_rate=1e-4,
        weight_decay=0.0,
        batch_pairs=2048,
        max_epochs=max_epochs,
        patience=max_epochs,
        seed=seed,
    )
