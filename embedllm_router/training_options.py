"""How the decoder is trained: one documented value per choice. It knows nothing of torch."""

from dataclasses import dataclass

from embedllm_router.errors import ConfigError

__all__ = ["TrainingOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How the decoder is trained; the defaults are the best recipe of docs/experiments.md."""

    hidden: tuple[int, ...] = (288, 144)
    """Widths of the prompt network's hidden layers, per ensemble member; none is the paper's linear form."""
    d_llm: int = 48
    """Length of an LLM embedding, per ensemble member."""
    members: int = 2
    """Networks trained from different seeds and folded into one."""
    dropout: float = 0.4
    """Share of hidden values silenced in training."""
    input_dropout: float = 0.2
    """Share of the standardised prompt embedding's values silenced in training."""
    category_smoothing: float = 0.2
    """Share of each training target that is the LLM's mean on the prompt's category instead of the one answer."""
    input_noise: float = 0.0
    """Standard deviation of Gaussian noise on the standardised prompt embedding (the paper's alpha)."""
    learning_rate: float = 5e-4
    """Peak of AdamW's one-cycle schedule."""
    weight_decay: float = 0.3
    """AdamW's decoupled weight decay."""
    batch_prompts: int = 256
    """Prompts, that is whole rows of the matrix, per step."""
    max_epochs: int = 16
    """Epochs the schedule is planned for."""
    patience: int = 4
    """Epochs without a better validation loss after which training stops."""
    length_hidden: tuple[int, ...] = (64,)
    """Widths of the length network's hidden layers."""
    d_length: int = 16
    """Length of an LLM's output-length embedding."""
    calibration_strength: float = 40.0
    """Pull of an LLM's own calibration towards the common one; see calibration.py."""
    seed: int = 0
    """Decides initial weights, batches and noise; the split has a seed of its own."""

    def __post_init__(self) -> None:
        for name in ("d_llm", "members", "batch_prompts", "max_epochs", "patience", "d_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training option {name} is {getattr(self, name)}, expected at least 1.")
        for name in ("dropout", "input_dropout", "category_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"training option {name} is {getattr(self, name)}, expected a number in [0, 1).")
        if not self.learning_rate > 0:
            raise ConfigError(f"training option learning_rate is {self.learning_rate}, expected more than 0.")
