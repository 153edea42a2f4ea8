"""Fallbacks of one request: the router's next best, the client's own, and those LiteLLM is configured with.

LiteLLM tries them when an LLM fails and knows no rules. So where rules bind a request, every group that may answer
stands in the request itself, and LiteLLM's configured ones are kept out. Pure but for the body it is given.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from embedllm_router.errors import RequestError
from embedllm_router.proxy.request_context import Ruling

__all__ = ["bind_fallbacks", "drop_fallbacks"]

_FALLBACKS = "fallbacks"
_KINDS = (_FALLBACKS, "context_window_fallbacks", "content_policy_fallbacks")
_OF_THE_SDK = "context_window_fallback_dict"  # names LLMs, not model groups
_MAX_DEPTH = 4


def bind_fallbacks(data: dict[str, Any], next_best: Sequence[str] | None, ruling: Ruling) -> None:
    """Writes fallbacks into a request: the client's own where it names any, else the next best.

    Args:
        data: The request's body; changed.
        next_best: Names of model groups, which keep every rule; None where no other could go on with the request.
        ruling: Who may answer at all.

    Raises:
        RequestError: The client names a fallback that may not answer.
    """
    own = {kind: data[kind] for kind in (*_KINDS, _OF_THE_SDK) if data.get(kind)}
    if not ruling.binds and next_best is not None:
        if next_best and data.get(_FALLBACKS) is None:
            data[_FALLBACKS] = list(next_best)
        return
    for kind, value in own.items():
        for name in _named(value, 0):
            reason = ruling.against(name)
            if reason is not None:
                raise RequestError(kind, f"one of them may not answer: {reason}")
    data |= {kind: own.get(kind, []) for kind in _KINDS}
    data[_FALLBACKS] = own.get(_FALLBACKS, list(next_best or ()))


def drop_fallbacks(data: dict[str, Any]) -> None:
    """Leaves a request without any fallback."""
    data |= {kind: [] for kind in _KINDS}
    data.pop(_OF_THE_SDK, None)


def _named(value: object, depth: int) -> Iterator[str]:
    """Every name in fallbacks of any of LiteLLM's shapes: `[name]`, `[{"model": name, …}]`, `[{name: [name]}]`."""
    if isinstance(value, str):
        yield value
    elif depth >= _MAX_DEPTH:
        yield ""  # no group's name: what nobody can read may not answer
    elif isinstance(value, Mapping):
        of_one = [value[name] for name in ("model", *_KINDS, _OF_THE_SDK) if name in value]
        found = of_one if "model" in value else list(value.values())
        for one in found:
            yield from _named(one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            yield from _named(one, depth + 1)
    else:
        yield ""
