"""Decides in the shadow: what other weights or another objective would choose, in a thread, for the record only.

A shadow decides by the same order of events, from the same state as the request it stands beside, and writes none.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import BoundedSemaphore

from structlog.typing import FilteringBoundLogger

from embedllm_router.routing.pipeline import Embedded, RequestState, Routing, decide
from embedllm_router.serving.arms import Arm
from embedllm_router.telemetry.decision_record import ShadowChoice
from embedllm_router.telemetry.tracker import Shadow

__all__ = ["ShadowRunner"]

_MAX_WAITING = 64  # shadow decisions that may wait; beyond it they are left out
_OWN_OBJECTIVE = frozenset({"config", "canary"})


class ShadowRunner:
    """Runs shadow decisions, one after the other.

    Args:
        log: Where a failure is reported.
    """

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._thread: ThreadPoolExecutor | None = None
        self._places = BoundedSemaphore(_MAX_WAITING)

    def decide(  # noqa: PLR0913, PLR0917 - a decision, and all that it was made with
        self, shadow: Arm, live: Arm, routing: Routing, state: RequestState, objective_from: str, key_id: str | None
    ) -> Shadow | None:
        """Has a shadow decide a request that was decided.

        Args:
            shadow: What decides beside it.
            live: What decided it.
            routing: The decision.
            state: What it was decided with.
            objective_from: Who set its objective: a shadow has its own unless the request, its key or its team set one.
            key_id: Id of the API key; None without one.

        Returns:
            What will be decided; None when too many wait already.
        """
        if not self._places.acquire(blocking=False):
            return None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedllm-shadow")
        objective = shadow.objective if objective_from in _OWN_OBJECTIVE else routing.request.objective
        beside = replace(routing, request=replace(routing.request, objective=objective))
        same = shadow.router is live.router
        future = self._thread.submit(_decide, shadow, beside, state, None if same else shadow.caller_key(key_id))
        future.add_done_callback(self._done)
        return future

    def close(self) -> None:
        """Waits for at most one decision."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _done(self, future: Future[ShadowChoice]) -> None:
        self._places.release()
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._log.warning("routing.shadow_failed", reason=type(error).__name__)


def _decide(shadow: Arm, beside: Routing, state: RequestState, own_caller: str | None) -> ShadowChoice:
    """Decides with the state of the request beside; other weights have an account of callers' drift of their own."""
    pace = beside.pace
    state = replace(state, pace=lambda _: pace)
    if own_caller is not None:
        state = replace(state, caller_shrinkage=shadow.drift.shrinkage(own_caller))
    same = shadow.router.encoder_id == beside.encoder_id
    embedded = Embedded(beside.prompt_embedding) if same else None
    routing = decide(shadow.router, beside.prompt, beside.request, shadow.virtual_model.policy, state, embedded)
    if own_caller is not None and routing.shrinkage.ood_score is not None:
        shadow.drift.add(own_caller, routing.shrinkage.ood_score)
    return ShadowChoice(routing.artifact_id, routing.decision.chosen)
