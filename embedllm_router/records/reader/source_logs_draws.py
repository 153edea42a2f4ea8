"""Chance by arithmetic: every request gets a number from its time, the same on every back end and at every call.

The time in microseconds is the state of the minimal standard generator (Park & Miller, 1988), taken one step further:
neighbouring microseconds get unrelated numbers. It knows nothing of what they decide.
"""

from typing import Final

__all__ = ["N_GROUPS", "group", "sampled"]

_MODULUS: Final = 2**31 - 1
_MULTIPLIER: Final = 48271
N_GROUPS: Final = 100
"""Random groups of requests whose sums are resampled instead of single requests."""

_MICROSECONDS: Final = 'CAST(extract(epoch FROM "at") * 1000000 AS BIGINT)'


def _number(seed: int) -> str:
    """SQL of a whole number in [0, 2³¹ - 1)."""
    return f"((({_MICROSECONDS} + {seed}) % {_MODULUS}) * {_MULTIPLIER} % {_MODULUS})"


def group(seed: int) -> str:
    """SQL of a request's group, 0 to N_GROUPS - 1, at random."""
    return f"({_number(seed)} % {N_GROUPS})"


def sampled(seed: int, share: float) -> str:
    """SQL that is true of a share of all requests, at random; TRUE for a share of 1 or more."""
    return "TRUE" if share >= 1 else f"{_number(seed)} < {int(share * _MODULUS)}"
