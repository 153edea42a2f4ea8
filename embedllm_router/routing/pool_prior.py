"""What is known of LLMs before any prompt: how they do on typical prompts, and from how many answers they were learned.

Values only; favourites.py computes them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Prior", "Typical"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Typical:
    """What weights predict on average over prompts such as they learned from; one entry per learned LLM.

    Attributes:
        p_correct: (n_llms,), mean probability of a correct answer, in [0, 1].
        output_tokens: (n_llms,), mean expected output tokens.
        n_labels: (n_llms,), answers each was learned from.
    """

    p_correct: Floats
    output_tokens: Floats
    n_labels: Floats


@dataclass(frozen=True, slots=True)
class Prior:
    """The same for the candidates of a pool; NaN where no learned LLM stands behind a candidate.

    Attributes:
        p_correct: (n_candidates,), mean probability of a correct answer.
        cost_usd: (n_candidates,), expected cost of a typical request; NaN also where a price is unknown.
        n_labels: (n_candidates,), answers its LLM was learned from.
    """

    p_correct: Floats
    cost_usd: Floats
    n_labels: Floats
