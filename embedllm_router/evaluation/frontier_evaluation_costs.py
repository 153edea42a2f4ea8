"""What answers cost: list prices times tokens. It knows nothing of choices.

    cost = input tokens · input price + output tokens · output price

Input tokens are the recorded ones where the data know them, otherwise prompt bytes / 4. Output tokens are the recorded
ones, otherwise those estimated from the visible characters, otherwise the artifact's prediction. Visible characters say
nothing of what an LLM that reasons first bills: its prediction, which counts the hidden part, is taken then. Recorded
costs are not used: they are of the prices of their day and provider.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.data.matrix import CorrectnessMatrix

__all__ = ["Costs", "price_answers"]

_BYTES_PER_TOKEN: Final = 4.0
_PER_MTOK: Final = 1e6


@dataclass(frozen=True, slots=True)
class Costs:
    """USD per prompt and LLM.

    Attributes:
        cost: With recorded output tokens where known, float64 (n_prompts, n_llms); NaN without a price.
        expected_cost: With prompt bytes / 4 and predicted output tokens, which is all a router knows; likewise.
        priced: Whether the LLM has a list price, bool (n_llms,).
        recorded: Share of the priced labels whose output tokens were recorded, in [0, 1].
    """

    cost: NDArray[np.float64]
    expected_cost: NDArray[np.float64]
    priced: NDArray[np.bool_]
    recorded: float


def price_answers(
    matrix: CorrectnessMatrix, llms: Sequence[LearnedLLM], predicted_tokens: NDArray[np.float32]
) -> Costs:
    """Prices every pair of prompt and LLM.

    Args:
        matrix: Prompts and recorded tokens; its columns are `llms`.
        llms: With their list prices.
        predicted_tokens: The artifact's, float32 (n_prompts, n_llms).

    Returns:
        The costs.
    """
    input_price = _column([llm.input_usd_per_mtok for llm in llms])
    output_price = _column([llm.output_usd_per_mtok for llm in llms])
    priced = np.isfinite(input_price) & np.isfinite(output_price)
    thinking = np.array([llm.thinking for llm in llms])
    estimate = np.array([len(p.encode("utf-8", errors="replace")) for p in matrix.prompts]) / _BYTES_PER_TOKEN
    prompt_tokens = np.where(np.isfinite(matrix.input_tokens), matrix.input_tokens, estimate)
    predicted = predicted_tokens.astype(np.float64)
    known = np.isfinite(matrix.output_tokens) & (matrix.counted | ~thinking)
    tokens = np.where(known, matrix.output_tokens, predicted)
    of_prompt, guessed = (n[:, None] * input_price / _PER_MTOK for n in (prompt_tokens, estimate))
    counted = matrix.observed & priced
    return Costs(
        cost=of_prompt + tokens * output_price / _PER_MTOK,
        expected_cost=guessed + predicted * output_price / _PER_MTOK,
        priced=priced,
        recorded=float((known & counted).sum() / max(int(counted.sum()), 1)),
    )


def _column(prices: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if price is None else price for price in prices], dtype=np.float64)
