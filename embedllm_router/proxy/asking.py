"""Asks the deployments of a configuration through LiteLLM's own Router, so that keys and endpoints are the user's.

The only file here that imports litellm. One call is one request: neither LiteLLM nor the provider's client tries again
by itself, since each try may be billed. What goes wrong becomes a `Failure` with a kind of its own.
"""

import asyncio
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from secrets import token_hex
from types import MappingProxyType
from typing import Any, Final

import httpx
import openai

from embedllm_router.errors import ConfigError
from embedllm_router.proxy.call import Failure, Message, Outcome, Reply, encodable
from embedllm_router.routing.deployments import PriceMap, Row

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # nothing is fetched
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of LiteLLM's own imports
    import litellm
    from litellm.exceptions import ContentPolicyViolationError
    from litellm.router import Router

__all__ = ["Asker", "price_map"]

_REFERENCE: Final = "os.environ/"
_MOST_WAIT_S: Final = 3_600.0
_SHOWN: Final = 200
_ENDS: Final[Mapping[str, Outcome]] = {"length": "truncated", "content_filter": "content_filtered"}


def price_map() -> PriceMap:
    """A copy of LiteLLM's price map; its Router later writes into the map what deployments state."""
    return {name: dict(entry) for name, entry in litellm.model_cost.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps warnings to itself that LiteLLM's later imports raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Asker:
    """The deployments of a configuration.

    Args:
        rows: Its `model_list`; references to the environment are resolved by LiteLLM, as the proxy does.
        timeout_s: Seconds after which a request is given up.
        in_proxy: Whether the proxy's own Router is in this process. Then nothing that is asked here touches it: no
            deployment rests after a failure here, and LiteLLM's log stays as it is.

    Raises:
        ConfigError: An environment variable is not set that a deployment refers to, or that holds the key of a model
            which is known by its name alone; or LiteLLM refuses the list.
    """

    def __init__(self, rows: Sequence[Row], *, timeout_s: float, in_proxy: bool = False) -> None:
        _check_references(rows)
        self._timeout_s = timeout_s
        if not in_proxy:
            _check_keys(rows)
            logging.getLogger("LiteLLM Router").setLevel(logging.CRITICAL)  # every failure is in the report
            logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
            litellm.suppress_debug_info = True
        listed = [_once(_apart(row) if in_proxy else row) for row in rows]
        try:
            with _quiet():
                self._router = Router(model_list=listed, num_retries=0, disable_cooldowns=True, set_verbose=False)
        except (ValueError, openai.OpenAIError) as error:
            raise ConfigError(f"LiteLLM cannot use the model_list: {str(error)[:_SHOWN]}.") from error
        if in_proxy:
            drop: Callable[[], None] = self._router.discard
            drop()  # its callbacks, which would count the users' requests

    async def warm_up(self, group: str) -> None:
        """Has LiteLLM load what it loads at its first call, in seconds; nothing is sent."""
        with _quiet():
            await self._router.acompletion(model=group, messages=[{"role": "user", "content": "-"}], mock_response="-")

    async def ask(
        self,
        group: str,
        messages: Sequence[Message],
        max_tokens: int,
        effort: str | None = None,
        parameters: Mapping[str, object] = MappingProxyType({}),
    ) -> Reply:
        """Sends one request.

        Args:
            group: Model group.
            messages: What is asked.
            max_tokens: Most tokens of the answer, hidden reasoning included.
            effort: Reasoning effort to set; None sets none. LiteLLM refuses the request where the LLM takes none, since
                one that is left out would have the LLM graded for another effort.
            parameters: More of its parameters, by OpenAI's names; what a provider does not take is left out.

        Raises:
            Failure: No answer came.
        """
        listed: list[Any] = [{"role": one.role, "content": one.content} for one in messages]
        told: dict[str, Any] = {"drop_params": True} if effort is None else {"reasoning_effort": effort}
        sent: dict[str, Any] = {**parameters, **told, "max_tokens": max_tokens, "timeout": self._timeout_s}
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._router.acompletion(model=group, messages=listed, **sent)
        except TimeoutError:
            raise Failure("timeout", f"no answer within {self._timeout_s:g} s", billed=None) from None
        except (openai.OpenAIError, ValueError) as error:
            raise _failure(error) from None
        return _reply(response, time.perf_counter() - started)


def _check_references(rows: Sequence[Row]) -> None:
    for row in rows:
        params = row.get("litellm_params")
        for name, value in params.items() if isinstance(params, Mapping) else ():
            variable = (
                value.removeprefix(_REFERENCE) if isinstance(value, str) and value.startswith(_REFERENCE) else None
            )
            if variable is not None and variable not in os.environ:
                raise ConfigError(
                    f"model group {row.get('model_name')!r}: its {name} refers to the environment variable {variable}, "
                    "which is not set. Set it as for the proxy."
                )


def _check_keys(rows: Sequence[Row]) -> None:
    """A judge that is no model group has its key in the variable that LiteLLM reads for its provider."""
    for row in rows:
        name = str(row.get("model_name"))
        if row.get("litellm_params") != {"model": name}:
            continue
        missing = [one for one in litellm.validate_environment(name)["missing_keys"] if one.endswith("_API_KEY")]
        if missing:
            raise ConfigError(
                f"{name} is no model group, so LiteLLM reads its key from the environment variable {missing[0]}, which "
                "is not set. Set it, or name a model group of the configuration."
            )


def _apart(row: Row) -> Row:
    """A deployment under an id that the proxy's Router does not know, so that it takes no note of what is asked."""
    info = row.get("model_info")
    known = info if isinstance(info, Mapping) else {}
    return {**row, "model_info": {**known, "id": f"embedllm-judging-{known.get('id') or token_hex(8)}"}}


def _once(row: Row) -> dict[str, Any]:
    """A deployment whose client does not try again, nor hands over to another one."""
    params = row.get("litellm_params")
    sent = {**(params if isinstance(params, Mapping) else {}), "max_retries": 0, "num_retries": 0}
    for name in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
        sent.pop(name, None)
    return {**row, "litellm_params": sent}


# Answers


def _reply(response: Any, latency_s: float) -> Reply:
    choices = getattr(response, "choices", None) or []
    choice = choices[0] if choices else None
    text = encodable(str(getattr(getattr(choice, "message", None), "content", None) or ""))
    usage = getattr(response, "usage", None)
    counts = [_count(getattr(usage, name, None)) for name in ("prompt_tokens", "completion_tokens")]
    if counts == [0, 0]:  # no answer has no tokens at all: the provider does not say
        counts = [None, None]
    outcome = _ENDS.get(str(getattr(choice, "finish_reason", None)), "answered" if text.strip() else "empty")
    cost = (getattr(response, "_hidden_params", None) or {}).get("response_cost")
    billed = float(cost) if isinstance(cost, int | float) and 0 <= cost < math.inf else None
    return Reply(outcome, text, counts[0], counts[1], billed, latency_s)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


# Failures

_KINDS: Final[Sequence[tuple[tuple[type[Exception], ...], Outcome, bool | None]]] = (
    ((ContentPolicyViolationError,), "content_filtered", False),
    ((openai.RateLimitError,), "rate_limited", False),
    ((openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError), "not_allowed", False),
    ((openai.APITimeoutError,), "timeout", None),
    ((openai.BadRequestError, openai.UnprocessableEntityError), "bad_request", False),
)
_SERVER_ERROR: Final = 500


def _failure(error: Exception) -> Failure:
    """The kind of an error; an error status means that nothing is billed, a broken connection that nobody knows."""
    message = f"{type(error).__name__}, HTTP {status}" if (status := _status(error)) else type(error).__name__
    for classes, outcome, billed in _KINDS:
        if isinstance(error, classes):
            return Failure(outcome, message, billed=billed, retry_after_s=_retry_after(error))
    broken = _in_chain(error, httpx.TransportError) or _in_chain(error, openai.APIConnectionError)
    if status is not None and status >= _SERVER_ERROR and broken is None:
        return Failure("server_error", message, billed=False, retry_after_s=_retry_after(error))
    never_there = _in_chain(error, httpx.ConnectError) is not None
    return Failure("connection", "the connection broke", billed=False if never_there else None)


def _in_chain(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The error of a kind among those that an error came of: LiteLLM gives broken connections the status 500."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, kind):
        found = found.__cause__ or found.__context__
    return found


def _status(error: Exception) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _headers(error: Exception) -> Mapping[str, str]:
    own = getattr(error, "litellm_response_headers", None)
    of_response = getattr(getattr(error, "response", None), "headers", None)
    return next((one for one in (own, of_response) if one), {})


def _retry_after(error: Exception) -> float | None:
    """Seconds that a provider asks to wait, in either form of the header; bounded."""
    said = _headers(error).get("retry-after")
    if said is None:
        return None
    try:
        wait = float(said)
    except ValueError:
        try:
            wait = parsedate_to_datetime(said).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(wait, 0.0), _MOST_WAIT_S) if math.isfinite(wait) else None
