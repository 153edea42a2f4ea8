"""Follows each routed request to its outcome, and reports it to the log, the store, metrics and traces.

Its state is one bounded map from an id of our own to the request in flight: LiteLLM's call id may be a client's choice.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from structlog.typing import FilteringBoundLogger

from embedllm_router.records.owners import user_hash_of
from embedllm_router.records.schema import RequestRecord
from embedllm_router.routing.pipeline import Routing
from embedllm_router.telemetry.decision_record import (
    DecisionRecord,
    Outcome,
    RequestContext,
    ShadowChoice,
    billed_usd,
    to_record,
)
from embedllm_router.telemetry.events import decided, served
from embedllm_router.telemetry.metrics import Metrics, NoMetrics
from embedllm_router.telemetry.serving_statistics import ServingStatistics
from embedllm_router.telemetry.tracing import Tracer

__all__ = ["Keep", "OnEnd", "RequestTracker", "Shadow", "Sink"]

Sink = Callable[[RequestRecord], None]
"""Takes a record, on any thread; never blocks and never raises."""

OnEnd = Callable[[Outcome, float | None], None]
"""Takes what became of a request, and its bill in USD: 0 when nobody answered it, None when it is unknown."""

Shadow = Future[ShadowChoice]
"""What a shadow decides meanwhile."""

_MAX_PENDING = 10_000  # requests in flight whose outcome is awaited; beyond it the oldest is recorded without one
_MOST_ATTEMPTS = 64  # calls of one request that are noted
_MAX_AGE_S = 3600.0  # LiteLLM has given up on a request by then
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
    record: DecisionRecord
    since: float
    shadow: Shadow | None = None
    on_end: OnEnd | None = None
    recorded: bool = False
    failed_attempts: list[str] = field(default_factory=list)


class RequestTracker:
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
        self.statistics = ServingStatistics()
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
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

    def find(self, tracking_id: str) -> DecisionRecord | None:
        """A request in flight, or one whose error's headers are still to be written."""
        found = self._pending.get(tracking_id)
        return found.record if found else None

    def latest(self, request_id: str, key_id: str | None) -> str | None:
        """Tracking id of the latest request under LiteLLM's call id that an API key sent; None when there is none.

        Args:
            request_id: LiteLLM's call id.
            key_id: Id of the API key: a call id may be another tenant's.
        """
        for tracking_id, pending in reversed(self._pending.items()):
            context = pending.record.context
            if context.request_id == request_id and context.key_id == key_id:
                return tracking_id
        return None

    def decided(  # noqa: PLR0913 - what was decided, by which arm and objective, and who else wants to know
        self,
        context: RequestContext,
        routing: Routing,
        *,
        arm: str = "live",
        objective_from: str = "config",
        baseline: str | None = None,
        shadow: Shadow | None = None,
        on_end: OnEnd | None = None,
    ) -> None:
        """Reports a decision and awaits its outcome.

        Args:
            context: The request as it came.
            routing: The decision, which has a choice.
            arm: "live" or "canary".
            objective_from: Who set the objective.
            baseline: The candidate that savings are counted against; None without one.
            shadow: What a shadow decides meanwhile; None without one.
            on_end: Called with the outcome and the bill.
        """
        self.n_decided += 1
        text, keep, may_keep = routing.prompt.text, self._keep, not context.private
        record = DecisionRecord(
            context=context,
            chosen=routing.decision.pool.names[routing.decision.ranking[0]],
            route_ms=(time.perf_counter() - context.started) * 1e3,
            decision=routing.decision,
            arm=arm,
            objective_from=objective_from,
            artifact=routing.artifact_id,
            encoder=routing.encoder_id,
            timing=routing.timing_ms,
            shrinkage=routing.shrinkage,
            baseline=baseline,
            wants_several=routing.prompt.n_answers > 1,
            prompt_chars=len(text),
            prompt_hash=keep.hash_of(text) if text and may_keep else None,
            prompt=text if keep.text and may_keep else None,
            embedding=routing.prompt_embedding if keep.embedding and may_keep else None,
        )
        self._remember(_Pending(record, time.monotonic(), shadow, on_end))
        self._tracer.decided(record)
        if self._log.is_enabled_for(logging.INFO):
            self._log.info("routing.decided", **decided(record, prompt=text if self._log_prompt and may_keep else None))

    def failed_open(self, context: RequestContext, default: str, reason: str) -> None:
        """Awaits the outcome of a request that the default answers.

        Args:
            context: The request as it came.
            default: Model group that answers.
            reason: Why, as one word.
        """
        self.n_failed_open += 1
        if (
            self._pending.pop(context.tracking_id or context.request_id, None) is not None
        ):  # decided, but the decision could not be reported
            self._n_pending -= 1
        record = DecisionRecord(context, default, context.elapsed_ms, failed_open=reason)
        self._remember(_Pending(record, time.monotonic()))
        self._tracer.decided(record)

    def rejected(self, context: RequestContext, field: str) -> None:
        """Reports a request that was refused because of what the client asked for."""
        self.n_rejected += 1
        self._metrics.rejected(context.virtual_model, field)
        self._log.info(
            "routing.rejected", request_id=context.request_id, virtual_model=context.virtual_model, field=field
        )

    def attempt_failed(self, tracking_id: str, group: str | None, error: str) -> None:
        """Notes that a call failed; a retry or a fallback may follow.

        Args:
            tracking_id: The request's; one that is not awaited is ignored.
            group: The model group that was asked; None when unknown.
            error: Class of the error.
        """
        pending = self._pending.get(tracking_id)
        if pending is not None and len(pending.failed_attempts) < _MOST_ATTEMPTS:
            pending.failed_attempts.append(f"{group or 'unknown'}: {error}")

    def ended(
        self, tracking_id: str, outcome: Outcome, *, headers_follow: bool = False, then: Sink | None = None
    ) -> None:
        """Reports and records what became of a request.

        Args:
            tracking_id: The request's; one that is not awaited is ignored.
            outcome: What became of it.
            headers_follow: Whether `find` shall still know it.
            then: Takes its record as well, on any thread.
        """
        pending = self._pending.pop(tracking_id, None)
        if pending is None or pending.recorded:
            return
        if headers_follow:
            self._pending[tracking_id] = replace(pending, recorded=True)
        self._n_pending -= 1
        record = pending.record
        if record.decision is not None:
            outcome = replace(outcome, served=record.decision.answered_by(outcome.served))
        self._log.info("routing.served", **served(record, outcome), failed_attempts=pending.failed_attempts)
        self._learn(record, outcome)
        self._end(pending, outcome, then)

    def close(self) -> None:
        """Records what is in flight as of unknown outcome."""
        while self._pending:
            self._give_up(self._pending.popitem(last=False)[1])

    def _learn(self, record: DecisionRecord, outcome: Outcome) -> None:
        """Takes an LLM's answer into account: its length where the LLM ended it, its latency where it was awaited."""
        if record.decision is None or outcome.served is None or outcome.from_cache:
            return
        says_length = not (record.wants_several or outcome.cut)  # of one whole answer is what is forecast
        n_tokens = outcome.output_tokens if says_length else None
        latency_ms = None if outcome.abandoned else outcome.latency_ms
        self.statistics.answered(record.decision, outcome.served, n_tokens, latency_ms)

    def _remember(self, pending: _Pending) -> None:
        context = pending.record.context
        tracking_id = context.tracking_id or context.request_id
        earlier = self._pending.pop(tracking_id, None)  # a call id, which clients may choose twice
        if earlier is not None:
            self._give_up(earlier)
        self._pending[tracking_id] = pending
        self._n_pending += 1
        while len(self._pending) > _MAX_PENDING or self._oldest_age_s() > _MAX_AGE_S:
            self._give_up(self._pending.popitem(last=False)[1])

    def _oldest_age_s(self) -> float:
        return time.monotonic() - next(iter(self._pending.values())).since

    def _give_up(self, pending: _Pending) -> None:
        if not pending.recorded:
            self._n_pending -= 1
            self._end(pending, _UNKNOWN)

    def _end(self, pending: _Pending, outcome: Outcome, then: Sink | None = None) -> None:
        if pending.on_end is not None:
            pending.on_end(outcome, 0.0 if outcome.status == "failure" else billed_usd(pending.record, outcome))
        if pending.shadow is None or pending.shadow.done():
            self._write(pending, outcome, then)
        else:  # the answer was quicker than what decides in the shadow
            pending.shadow.add_done_callback(lambda _: self._write(pending, outcome, then))

    def _write(self, pending: _Pending, outcome: Outcome, then: Sink | None) -> None:
        sinks = self._sinks if then is None else (*self._sinks, then)
        if not sinks:
            return
        user_hash = user_hash_of(pending.record.context.user_id, self._keep.hash_of)
        attempts, shadow = tuple(pending.failed_attempts), _result(pending.shadow)
        row = to_record(pending.record, outcome, shadow=shadow, user_hash=user_hash, failed_attempts=attempts)
        for sink in sinks:
            sink(row)


def _result(shadow: Shadow | None) -> ShadowChoice | None:
    if shadow is None or not shadow.done() or shadow.cancelled() or shadow.exception() is not None:
        return None
    return shadow.result()
