"""Follows each routed request to its outcome, and tells the log, the store, metrics and traces.

Its state is one bounded map from LiteLLM's call id to the request in flight. It knows nothing of LiteLLM.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import BoundedSemaphore

from structlog.typing import FilteringBoundLogger

from embedllm_router.records.schema import RequestRecord
from embedllm_router.routing.ood_fallback import left_to_default
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.router import Routing
from embedllm_router.routing.tie_breaking import settled
from embedllm_router.serving.arms import Lane, Lanes
from embedllm_router.telemetry.events import Outcome, Routed, billed_usd, decided, served
from embedllm_router.telemetry.metrics import Metrics, NoMetrics
from embedllm_router.telemetry.record_builder import Arrival, Kept, Shadow, to_record
from embedllm_router.telemetry.serving_statistics import Observations
from embedllm_router.telemetry.tracing import Tracer

__all__ = ["Keep", "Observer", "OnEnd", "Sink"]

Sink = Callable[[RequestRecord], None]
"""Takes a record, on any thread; never blocks and never raises."""

OnEnd = Callable[[Outcome, float | None], None]
"""Takes what became of a request, and its bill in USD: 0 when nobody answered it, None when it is unknown."""

_MAX_PENDING = 10_000  # requests in flight whose outcome is awaited; beyond it the oldest is recorded without one
_MAX_AGE_S = 3600.0  # LiteLLM has given up on a request by then
_MAX_SHADOWS = 64  # shadow decisions that may wait; beyond it they are left out
_UNKNOWN = Outcome(served=None, status="unknown")


@dataclass(frozen=True, slots=True)
class Keep:
    """What of a prompt is kept.

    Attributes:
        hash_of: Keyed hash of a text.
        text: Whether the text is.
        embedding: Whether the prompt embedding is.
    """

    hash_of: Callable[[str], str]
    text: bool = False
    embedding: bool = False


@dataclass(frozen=True, slots=True)
class _Pending:
    routed: Routed
    kept: Kept
    since: float
    shadow: "Future[Shadow] | None" = None
    on_end: OnEnd | None = None
    wants_several: bool = False
    recorded: bool = False


class Observer:
    """Reports decisions and outcomes.

    Args:
        log: Where the events go.
        sinks: Where the records go.
        keep: What of a prompt is kept.
        tracer: What makes spans of decisions.
        log_prompt: Whether the log shows the embedded text.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        sinks: Sequence[Sink],
        keep: Keep,
        *,
        tracer: Tracer,
        log_prompt: bool = False,
    ) -> None:
        self._log = log
        self._sinks = tuple(sinks)
        self._keep = keep
        self._log_prompt = log_prompt
        self._tracer = tracer
        self._metrics: Metrics = NoMetrics()
        self.observations = Observations()
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self._shadows: ThreadPoolExecutor | None = None
        self._shadow_places = BoundedSemaphore(_MAX_SHADOWS)
        self._n_pending = 0
        self.n_decided = 0
        self.n_failed_open = 0
        self.n_rejected = 0

    def count_with(self, metrics: Metrics) -> None:
        """Has requests and refusals counted from now on."""
        self._metrics = metrics
        self._sinks = (*self._sinks, metrics.observe)

    @property
    def n_pending(self) -> int:
        """Requests whose outcome is awaited."""
        return self._n_pending

    def find(self, request_id: str) -> Routed | None:
        """A request in flight, or one whose error's headers are still to be written."""
        found = self._pending.get(request_id)
        return found.routed if found else None

    def decided(
        self, routed: Routed, routing: Routing, arrival: Arrival, lanes: Lanes, on_end: OnEnd | None = None
    ) -> None:
        """Reports a decision and awaits its outcome.

        Args:
            routed: Where the request was sent.
            routing: Everything that was weighed.
            arrival: When it came, and from whom.
            lanes: What decided, and what shall decide for the record only.
            on_end: Told the outcome and the bill.
        """
        lane, shadow = lanes.named(routed.arm), lanes.shadow
        self.n_decided += 1
        text, wanted = routing.prompt.text, self._keep
        kept = Kept(
            arrival=arrival,
            artifact=routing.artifact_id,
            encoder=lane.router.encoder_id,
            timing=routing.timing_ms,
            prompt_chars=len(text),
            prompt_hash=wanted.hash_of(text) if text else None,
            prompt=text if wanted.text else None,
            embedding=routing.prompt_embedding if wanted.embedding else None,
            hedge=routing.hedge,
        )
        future = self._decide_in_shadow(shadow, routing, routed.objective_from, arrival.caller) if shadow else None
        several = routing.prompt.wants_several
        self._remember(_Pending(routed, kept, time.monotonic(), future, on_end, wants_several=several))
        self._trace(routed, routing, arrival)
        if self._log.is_enabled_for(logging.INFO):
            self._log.info("routing.decided", **decided(routed, routing, with_prompt=self._log_prompt))

    def failed_open(self, routed: Routed, arrival: Arrival) -> None:
        """Awaits the outcome of a request that the default answers."""
        self.n_failed_open += 1
        if self._pending.pop(arrival.request_id, None) is not None:  # decided, but the decision could not be told
            self._n_pending -= 1
        self._remember(_Pending(routed, Kept(arrival), time.monotonic()))
        self._trace(routed, None, arrival)

    def rejected(self, arrival: Arrival, field: str) -> None:
        """Reports a request that was refused because of what the client wished."""
        self.n_rejected += 1
        self._metrics.rejected(arrival.virtual_model, field)
        self._log.info(
            "routing.rejected", request_id=arrival.request_id, virtual_model=arrival.virtual_model, field=field
        )

    def ended(self, request_id: str, outcome: Outcome, *, headers_follow: bool = False) -> None:
        """Reports and records what became of a request.

        Args:
            request_id: LiteLLM's call id; one that is not awaited is ignored.
            outcome: What became of it.
            headers_follow: Whether `find` shall still know it.
        """
        pending = self._pending.pop(request_id, None)
        if pending is None or pending.recorded:
            return
        if headers_follow:
            self._pending[request_id] = replace(pending, recorded=True)
        self._n_pending -= 1
        self._log.info("routing.served", **served(pending.routed, outcome))
        decision = pending.routed.decision
        if decision is not None and outcome.served is not None:
            n_tokens = None if pending.wants_several else outcome.output_tokens  # of one answer is what is forecast
            self.observations.answered(decision, outcome.served, n_tokens, outcome.latency_ms)
        self._record(pending, outcome)

    def close(self) -> None:
        """Records what is in flight as of unknown outcome."""
        while self._pending:
            self._give_up(self._pending.popitem(last=False)[1])
        if self._shadows is not None:
            self._shadows.shutdown(cancel_futures=True)  # waits for at most one decision

    def _remember(self, pending: _Pending) -> None:
        earlier = self._pending.pop(pending.routed.request_id, None)  # clients may choose the id, and choose it twice
        if earlier is not None:
            self._give_up(earlier)
        self._pending[pending.routed.request_id] = pending
        self._n_pending += 1
        while len(self._pending) > _MAX_PENDING or self._oldest_age_s() > _MAX_AGE_S:
            self._give_up(self._pending.popitem(last=False)[1])

    def _trace(self, routed: Routed, routing: Routing | None, arrival: Arrival) -> None:
        began = round(arrival.at.timestamp() * 1e9)
        ended = began + round(arrival.elapsed_ms * 1e6)
        self._tracer.decided(routed, routing, parent=arrival.parent_span, started_ns=began, ended_ns=ended)

    def _oldest_age_s(self) -> float:
        return time.monotonic() - next(iter(self._pending.values())).since

    def _give_up(self, pending: _Pending) -> None:
        if not pending.recorded:
            self._n_pending -= 1
            self._record(pending, _UNKNOWN)

    def _record(self, pending: _Pending, outcome: Outcome) -> None:
        if pending.on_end is not None:
            pending.on_end(outcome, 0.0 if outcome.status == "failure" else billed_usd(pending.routed, outcome))
        if pending.shadow is None or pending.shadow.done():
            self._write(pending, outcome)
        else:  # the answer was quicker than what decides in the shadow
            pending.shadow.add_done_callback(lambda _: self._write(pending, outcome))

    def _write(self, pending: _Pending, outcome: Outcome) -> None:
        if not self._sinks:
            return
        record = to_record(pending.routed, pending.kept, outcome, shadow=_result(pending.shadow))
        for sink in self._sinks:
            sink(record)

    def _decide_in_shadow(
        self, lane: Lane, routing: Routing, objective_from: str | None, caller: str
    ) -> "Future[Shadow] | None":
        if not self._shadow_places.acquire(blocking=False):
            return None
        if self._shadows is None:
            self._shadows = ThreadPoolExecutor(1, thread_name_prefix="embedllm-shadow")
        asked = routing.decision.request
        objective = lane.objective if objective_from in {"config", "canary"} else asked.objective
        future = self._shadows.submit(_shadow, lane, routing, objective, caller)
        future.add_done_callback(self._shadow_done)
        return future

    def _shadow_done(self, future: "Future[Shadow]") -> None:
        self._shadow_places.release()
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._log.warning("routing.shadow_failed", reason=type(error).__name__)


def _shadow(lane: Lane, routing: Routing, objective: Objective, caller: str) -> Shadow:
    conditions = replace(routing.decision.request.conditions, observed=None)
    there = lane.weigh(routing.prompt, objective, conditions, caller)
    decision = left_to_default(settled(there.decision), there.hedge, lane.virtual_model.settings)
    return Shadow(there.artifact_id, decision.chosen)


def _result(future: "Future[Shadow] | None") -> Shadow | None:
    if future is None or not future.done() or future.cancelled() or future.exception() is not None:
        return None
    return future.result()
