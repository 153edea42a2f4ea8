"""All baselines by name, ready to fit on the train part and to predict the test part.

It knows nothing of metrics.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.baselines_evaluation_learned_baselines import (
    ItemResponse,
    LogisticPerLLM,
    MatrixFactorisation,
    Told,
)
from embedllm_router.evaluation.baselines_evaluation_local_baselines import (
    Clusters,
    ComplexityTiers,
    LLMMeans,
    NearestNeighbours,
)
from embedllm_router.evaluation.baselines_evaluation_references import BestSingle, DatasetOracle, Oracle, RandomChoice
from embedllm_router.evaluation.inputs_evaluation_parts import Part

__all__ = ["BASELINES", "UNTRAINED", "Baseline", "BaselineOptions", "make_baseline", "parse_names"]


class Baseline(Protocol):
    """Something that learns from one part and scores another.

    Attributes:
        probabilistic: Whether its scores are probabilities; if not, only their order means something.
    """

    probabilistic: ClassVar[bool]

    def fit(self, train: Part) -> None:
        """Learns; called once, before `predict`."""

    def predict(self, test: Part) -> NDArray[np.float32]:
        """Scores every prompt and LLM, float32 (n_prompts, n_llms)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineOptions:
    """What baselines can be told.

    Attributes:
        seed: Decides whatever is random.
        mf_epochs: Epochs of the paper's matrix factorisation; 50 in the paper.
        told: Hears of the slow ones' progress.
    """

    seed: int = 0
    mf_epochs: int = 50
    told: Told = lambda *_: None


_MAKERS: Final[Mapping[str, Callable[[BaselineOptions], Baseline]]] = {
    "random": lambda o: RandomChoice(o.seed),
    "best_single": lambda _: BestSingle(),
    "llm_means": lambda _: LLMMeans(),
    "complexity": lambda _: ComplexityTiers(),
    "clusters": lambda o: Clusters(seed=o.seed),
    "irt": lambda o: ItemResponse(seed=o.seed, told=o.told),
    "logistic": lambda _: LogisticPerLLM(),
    "mf": lambda o: MatrixFactorisation(epochs=o.mf_epochs, seed=o.seed, told=o.told),
    "knn": lambda _: NearestNeighbours(),
    "dataset_oracle": lambda _: DatasetOracle(),
    "oracle": lambda _: Oracle(),
}
BASELINES: Final = tuple(_MAKERS)
"""Names, roughly from weak to strong; the last two know the test labels."""

UNTRAINED: Final = frozenset({"random", "dataset_oracle", "oracle"})
"""Those that need no train part."""


def make_baseline(name: str, options: BaselineOptions) -> Baseline:
    """A fresh baseline by its name in `BASELINES`."""
    return _MAKERS[name](options)


def parse_names(text: str) -> tuple[str, ...]:
    """Names from "all", "none" or a list separated by commas, in the order of `BASELINES`.

    Raises:
        ConfigError: A name is unknown.
    """
    wanted: Sequence[str] = [part.strip() for part in text.split(",") if part.strip()]
    if wanted == ["none"]:
        return ()
    if wanted == ["all"]:
        return BASELINES
    unknown = [name for name in wanted if name not in _MAKERS]
    if unknown or not wanted:
        raise ConfigError(f"--baselines takes all, none or names out of {', '.join(BASELINES)}; found {text!r}.")
    return tuple(name for name in BASELINES if name in wanted)
