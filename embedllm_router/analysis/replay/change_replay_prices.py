"""Prices that recorded costs imply: cost = input tokens · price + output tokens · price, solved per candidate.

They serve to say what a recorded request would have cost at another length of answer. It reads no configuration.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedllm_router.records.reader.recorded_replay_recorded import RecordedRequest
from embedllm_router.records.schema import CandidateRecord

__all__ = ["ImpliedPrice", "imply_prices"]

_EXACT: Final = 1e-6
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ImpliedPrice:
    """What a candidate's recorded costs say of its prices.

    Attributes:
        input_usd_per_token: At least 0.
        output_usd_per_token: At least 0.
        n: Requests it was worked out from.
        exact: Whether it reproduces every recorded cost, so the prices did not change within the log.
    """

    input_usd_per_token: float
    output_usd_per_token: float
    n: int
    exact: bool

    def at_length(self, request: RecordedRequest, recorded: CandidateRecord, output_tokens: float) -> float | None:
        """What a recorded request would have cost with an answer of another length.

        The recorded cost is scaled by the ratio of the implied ones, so it stays right where prices changed by a
        common factor.

        Returns:
            USD; None when no cost was recorded.
        """
        before = self._cost(request, recorded.expected_output_tokens)
        if recorded.cost_usd is None or not before:
            return recorded.cost_usd
        return recorded.cost_usd * self._cost(request, output_tokens) / before

    def _cost(self, request: RecordedRequest, output_tokens: float | None) -> float:
        return (request.input_tokens or 0) * self.input_usd_per_token + (output_tokens or 0) * self.output_usd_per_token


def imply_prices(requests: Iterable[RecordedRequest]) -> Mapping[str, ImpliedPrice]:
    """Works out the prices of every candidate with a recorded cost, by name."""
    seen: dict[str, list[tuple[float, float, float]]] = {}
    for request in requests:
        for one in request.candidates:
            if one.cost_usd is not None and one.expected_output_tokens is not None:
                row = (float(request.input_tokens or 0), one.expected_output_tokens, one.cost_usd)
                seen.setdefault(one.name, []).append(row)
    return {name: _solve(np.array(rows)) for name, rows in seen.items()}


def _solve(rows: Floats) -> ImpliedPrice:
    tokens, cost = rows[:, :2], rows[:, 2]
    relative = 1.0 / np.where(cost > 0, cost, 1.0)
    price = _non_negative(tokens * relative[:, None], cost * relative)
    error = float(np.abs(tokens @ price * relative - cost * relative).max())
    return ImpliedPrice(float(price[0]), float(price[1]), len(rows), exact=error <= _EXACT)


def _non_negative(x: Floats, y: Floats) -> Floats:
    """Least squares; where a price comes out negative it is 0 and the other one fits alone."""
    price = np.linalg.lstsq(x, y, rcond=1e-9)[0].astype(np.float64)
    for negative, other in ((0, 1), (1, 0)):
        if price[negative] < 0:
            square = float(x[:, other] @ x[:, other])
            price[negative], price[other] = 0.0, max(float(x[:, other] @ y) / square, 0.0) if square else 0.0
    return price
