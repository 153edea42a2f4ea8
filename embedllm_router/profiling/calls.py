"""Requests carried out: within the budget, at the pace that providers allow, each written down before and after.

What a request can cost at most is set aside before it is sent and exchanged for its bill when it has ended, so bills
and requests under way together never exceed the budget. A refusal is tried again after a while, a bounded number of
times.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from embedllm_router.profiling.journal import CallKey, Ended, Journal, Sent
from embedllm_router.proxy.call import Failure, Message, Outcome, Reply

__all__ = ["USED_UP", "Asks", "Budget", "Call", "Caller", "Pace"]

_BACKOFF_S: Final = 0.5
_MOST_BACKOFF_S: Final = 30.0
_IDLE_S: Final = 0.02

_AGAIN: Final[Mapping[Outcome, int]] = {
    "rate_limited": 10,
    "server_error": 4,
    "connection": 3,
    "timeout": 2,
    "empty": 2,
}
"""How often a request is sent at most, by how it ended; all others once."""
_OF_THE_PROMPT: Final = frozenset({"empty", "truncated", "content_filtered", "bad_request"})
"""Failures that say nothing of the next prompt."""
_HOPELESS: Final = 5
"""Requests of one LLM that failed in a row, all attempts used up, after which it is not asked any more."""


USED_UP: Final = "the budget is used up"


class Budget:
    """An amount that bills and requests under way never exceed together.

    Args:
        limit_usd: The amount.
        counted_usd: What earlier runs of the same journal have used of it.
    """

    def __init__(self, limit_usd: float, counted_usd: float = 0.0) -> None:
        self.limit_usd, self.counted_usd, self.in_flight_usd = limit_usd, counted_usd, 0.0

    def reserve(self, bound: float) -> bool:
        """Sets an amount aside; False where it does not fit."""
        if self.counted_usd + self.in_flight_usd + bound > self.limit_usd:
            return False
        self.in_flight_usd += bound
        return True

    def fits_later(self, bound: float) -> bool:
        """Whether an amount would fit if all that is under way cost nothing."""
        return self.counted_usd + bound <= self.limit_usd

    def settle(self, bound: float, counted: float) -> None:
        """Exchanges an amount that was set aside for what counts in its place."""
        self.in_flight_usd = max(self.in_flight_usd - bound, 0.0)
        self.counted_usd += counted


@dataclass(frozen=True, slots=True)
class Call:
    """A request to be carried out.

    Attributes:
        key: Which.
        messages: What is sent.
        bound_usd: The most it can cost.
        max_tokens: Most tokens of the answer.
        group: Model group that is asked; empty where the key names it.
        effort: Reasoning effort that the request sets; None sets none.
    """

    key: CallKey
    messages: tuple[Message, ...]
    bound_usd: float
    max_tokens: int
    group: str = ""
    effort: str | None = None


class Asks(Protocol):
    """What sends requests: `proxy.asking.Asker`."""

    async def ask(self, group: str, messages: Sequence[Message], max_tokens: int, effort: str | None) -> Reply:
        """Sends one request."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How requests are sent.

    Attributes:
        concurrency: Most of them at once.
        keeps_answers: Whether the journal keeps the answers' text.
    """

    concurrency: int = 16
    keeps_answers: bool = True


Price = Callable[[Call, Reply], float | None]
Mark = Callable[[Call, Reply], Awaitable[tuple[float | None, str]]]


@dataclass(slots=True)
class _Line:
    """The requests to one LLM that wait."""

    calls: deque[tuple[Call, int]] = field(default_factory=deque)
    not_before: float = 0.0
    n_sent: int = 0
    failed_in_a_row: int = 0


class Caller:
    """Carries out requests.

    Args:
        asks: What sends them.
        budget: What they may cost.
        journal: Where they are written down.
        pace: How they are sent.
        price: What an answer costs where LiteLLM has no price of it.
        mark: Grades an answer as it comes: its score and why; no score where that takes more.
        on_ended: Called after each request; with whether it will not be sent again.

    Attributes:
        given_up: LLMs that are not asked any more, and why.
        lacking_usd: What the dearest request can cost that the budget left no room for; 0 where all fitted.
        stopping: Whether no more requests shall be sent.
    """

    def __init__(  # noqa: PLR0913 - a request's way has so many stations
        self,
        asks: Asks,
        budget: Budget,
        journal: Journal,
        pace: Pace,
        *,
        price: Price,
        mark: Mark,
        on_ended: Callable[[Ended, bool], None] = lambda *_: None,
    ) -> None:
        self._asks, self.budget, self._journal, self._pace = asks, budget, journal, pace
        self._price, self._mark, self._on_ended = price, mark, on_ended
        self._lines: dict[str, _Line] = {}
        self._n_under_way, self._has_news = 0, True
        self.given_up: dict[str, str] = {}
        self.lacking_usd = 0.0
        self.stopping = False

    async def carry_out(self, more: Callable[[], Iterable[Call]]) -> None:
        """Carries out requests, those of each LLM in their order; those that the journal settles are left out.

        It returns when each has ended, does not fit the budget, or is of an LLM that was given up; and early where
        `stopping` is set, when all that was under way has ended.

        Args:
            more: Gives the next requests; called when all before were sent, and again after one has ended.
        """
        workers = [asyncio.create_task(self._work(more)) for _ in range(self._pace.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:  # after an error, a full disk for one, nothing more is sent
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, more: Callable[[], Iterable[Call]]) -> None:
        while not self.stopping:
            if not self._waiting():
                self._line_up(more)
            if not self._waiting() and not self._n_under_way and not self._has_news:
                return
            taken = self._taken()
            if taken is None:
                await asyncio.sleep(_IDLE_S)
            else:
                await self._send(*taken)

    def _waiting(self) -> bool:
        return any(line.calls for line in self._lines.values())

    def _line_up(self, more: Callable[[], Iterable[Call]]) -> None:
        if not self._has_news:
            return
        self._has_news = False
        for call in more():
            if not self._journal.history.is_settled(call.key) and call.key.llm not in self.given_up:
                self._lines.setdefault(call.key.llm, _Line()).calls.append((call, 1))

    def _taken(self) -> tuple[_Line, Call, int] | None:
        """The next request that fits the budget; one that never will is dropped, with what waits behind it."""
        ready = [line for line in self._lines.values() if line.calls and line.not_before <= time.monotonic()]
        for line in sorted(ready, key=lambda line: line.n_sent):
            call, attempt = line.calls[0]
            if self.budget.reserve(call.bound_usd):
                line.calls.popleft()
                line.n_sent += 1
                return line, call, attempt
            if not self.budget.fits_later(call.bound_usd):
                line.calls.clear()
                self.given_up.setdefault(call.key.llm, USED_UP)
                self.lacking_usd = max(self.lacking_usd, call.bound_usd)
        return None

    async def _send(self, line: _Line, call: Call, attempt: int) -> None:
        self._journal.write(Sent(key=call.key, attempt=attempt, bound_usd=call.bound_usd))
        self._n_under_way += 1
        started = time.perf_counter()
        try:
            group = call.group or call.key.llm
            reply = await self._asks.ask(group, call.messages, call.max_tokens, call.effort)
            ended, wait = await self._answered(call, attempt, reply), None
        except Failure as failure:
            latency = time.perf_counter() - started
            cost = 0.0 if failure.billed is False else None
            outcome, wait = failure.outcome, failure.retry_after_s
            ended = Ended(
                key=call.key,
                attempt=attempt,
                outcome=outcome,
                cost_usd=cost,
                bound_usd=call.bound_usd,
                latency_s=latency,
                why=str(failure),
            )
        self._journal.write(ended)
        self.budget.settle(call.bound_usd, ended.counted_usd)
        self._n_under_way, self._has_news = self._n_under_way - 1, True
        self._on_ended(ended, self._go_on(line, call, ended, wait))

    async def _answered(self, call: Call, attempt: int, reply: Reply) -> Ended:
        score, why = await self._mark(call, reply) if reply.outcome == "answered" else (None, "")
        kept = reply.text if self._pace.keeps_answers and reply.text else None
        return Ended(
            key=call.key,
            attempt=attempt,
            outcome=reply.outcome,
            cost_usd=self._price(call, reply),
            bound_usd=call.bound_usd,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            latency_s=reply.latency_s,
            text=kept,
            score=score,
            why=why,
        )

    def _go_on(self, line: _Line, call: Call, ended: Ended, retry_after_s: float | None) -> bool:
        """Puts a request that failed back in line, or gives its LLM up where it fails again and again.

        Returns:
            Whether the request is done with.
        """
        if ended.outcome == "answered":
            line.failed_in_a_row = 0
            return True
        if ended.attempt < _AGAIN.get(ended.outcome, 1) and not self.stopping:
            wait = min(_BACKOFF_S * 2.0 ** (ended.attempt - 1), _MOST_BACKOFF_S)
            if ended.outcome == "rate_limited" or not line.calls:  # a limit is the LLM's, not this request's alone
                line.not_before = max(
                    line.not_before, time.monotonic() + (wait if retry_after_s is None else retry_after_s)
                )
            line.calls.append((call, ended.attempt + 1))
            return False
        line.failed_in_a_row += ended.outcome not in _OF_THE_PROMPT
        if ended.outcome == "not_allowed" or line.failed_in_a_row >= _HOPELESS:
            line.calls.clear()
            self.given_up[call.key.llm] = f"{ended.outcome}: {ended.why}"
        return True
