"""Adam (Kingma & Ba, 2015) for lists of numpy arrays. It knows nothing of what they parametrise."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Adam"]

_MEAN_DECAY: Final = 0.9
_SQUARE_DECAY: Final = 0.999
_EPSILON: Final = 1e-8


class Adam:
    """Changes parameters in place.

    Args:
        parameters: float32 arrays of any shapes.
        learning_rate: Step size.
    """

    def __init__(self, parameters: Sequence[NDArray[np.float32]], learning_rate: float) -> None:
        self._parameters = list(parameters)
        self._learning_rate = learning_rate
        self._means = [np.zeros_like(p) for p in parameters]
        self._squares = [np.zeros_like(p) for p in parameters]
        self._steps = 0

    def step(self, gradients: Sequence[NDArray[np.float32]]) -> None:
        """One step against the gradients, given in the parameters' order and shapes."""
        self._steps += 1
        rate = np.float32(
            self._learning_rate * (1 - _SQUARE_DECAY**self._steps) ** 0.5 / (1 - _MEAN_DECAY**self._steps)
        )
        for i, gradient in enumerate(gradients):
            self._means[i] += np.float32(1 - _MEAN_DECAY) * (gradient - self._means[i])
            self._squares[i] += np.float32(1 - _SQUARE_DECAY) * (gradient * gradient - self._squares[i])
            self._parameters[i] -= rate * self._means[i] / (np.sqrt(self._squares[i]) + np.float32(_EPSILON))
