"""Puts the parts of the plugin together from its settings: the one place that knows them all. No LiteLLM."""

import atexit
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from structlog.typing import FilteringBoundLogger

from embedllm_router import __version__
from embedllm_router.artifact.weights import default_artifact_path
from embedllm_router.config.process import RedisAddress, StateSettings
from embedllm_router.config.settings import RouterSettings, read_litellm_redis
from embedllm_router.errors import EmbedLLMRouterError
from embedllm_router.records.schema import FeedbackRecord
from embedllm_router.records.writer.store import RecordStore, open_store
from embedllm_router.routing.decision import Decision
from embedllm_router.serving.arms import Lanes
from embedllm_router.serving.budget_enforcer import Ledger, Scopes, Spending
from embedllm_router.serving.caller_drift import Traffic
from embedllm_router.serving.sessions import Conversing, Talk
from embedllm_router.serving.snapshot import Generation, Live
from embedllm_router.serving.state.opening import open_state
from embedllm_router.serving.state.shared import SharedState
from embedllm_router.telemetry.events import Outcome
from embedllm_router.telemetry.log import configure_logging
from embedllm_router.telemetry.metrics import Metrics, open_metrics
from embedllm_router.telemetry.status import Status, VirtualModelStatus
from embedllm_router.telemetry.tracing import Tracer
from embedllm_router.telemetry.tracker import Keep, Observer, OnEnd, Sink

__all__ = ["Parts", "assemble"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the plugin is made of.

    Attributes:
        log: Where events go.
        live: What decides.
        observer: What follows requests to their outcome.
        store: Where records go.
        metrics: What counts.
        state: What this proxy and others know together.
        spending: What keeps decisions within budgets.
        conversing: What keeps conversations on their LLM.
        started_at: When they were put together, UTC.
    """

    log: FilteringBoundLogger
    live: Live
    observer: Observer
    store: RecordStore
    metrics: Metrics
    state: SharedState
    spending: Spending
    conversing: Conversing
    started_at: datetime

    def status(self) -> Status:
        """How the plugin is doing now."""
        return _status(self.live, self.observer, self.store, self.started_at)

    def reload(self) -> Generation:
        """Takes up changed configuration and weights.

        Raises:
            ConfigError: The configuration is not valid; the old one stays.
            ArtifactError: Weights cannot be loaded; the old ones stay.
        """
        try:
            generation = self.live.reload()
        except EmbedLLMRouterError:
            self.metrics.reloaded(ok=False)
            raise
        self.metrics.reloaded(ok=True)
        return generation

    def following(self, talk: Talk | None, scopes: Scopes, decision: Decision) -> OnEnd:
        """Charges what is sent and remembers who is asked.

        Args:
            talk: The conversation it belongs to; None where conversations are not kept.
            scopes: The budgets that count it.
            decision: With a choice.

        Returns:
            What makes good for both when the outcome is known.
        """
        tokens = decision.request.input_tokens
        settle = self.spending.charge(scopes, decision)
        self.conversing.sent(talk, decision.pool.names[decision.ranking[0]], tokens)

        def ended(outcome: Outcome, billed_usd: float | None) -> None:
            settle(billed_usd)
            self.conversing.ended(talk, outcome, tokens)

        return ended

    def take(self, feedback: FeedbackRecord) -> None:
        """Keeps what somebody thought of an answer."""
        self.store.put(feedback)
        self.metrics.feedback(feedback)

    def close(self) -> None:
        """Records what is in flight and flushes the store, says what could not be written; safe to call twice."""
        self.observer.close()
        before = self.store.health()
        self.store.close()
        now = self.store.health()
        lost = now.dropped - before.dropped + now.queued
        if lost:
            self.log.error("store.records_lost", lost=lost, error=now.last_error, store=now.location)
        self.state.save()


def assemble(settings: RouterSettings, config: Path | None = None, *, log_to: TextIO | None = None) -> Parts:
    """Builds every part.

    Args:
        settings: The plugin's settings.
        config: The configuration file they come from; None when unknown.
        log_to: Where events are written; None takes stderr.

    Returns:
        The parts; they are closed when the process ends.

    Raises:
        ConfigError: What the store needs is not installed.
    """
    log = configure_logging(settings.log, log_to)
    store = open_store(settings.store)
    keep = Keep(store.prompt_hash, text=settings.store.prompt, embedding=settings.store.embedding)
    sinks: list[Sink] = [store.put] if settings.store.enabled else []
    tracer = Tracer(enabled=settings.tracing.enabled)
    observer = Observer(log, sinks, keep, tracer=tracer, log_prompt=settings.log.prompt)
    state = open_state(settings.state, log, redis=_redis_address(settings.state, config))
    live, started_at = Live(settings, log, config, Traffic(state)), datetime.now(UTC)
    metrics = open_metrics(lambda: _status(live, observer, store, started_at), log, enabled=settings.metrics.enabled)
    observer.count_with(metrics)
    parts = Parts(log, live, observer, store, metrics, state, Spending(Ledger(state)), Conversing(state), started_at)
    atexit.register(parts.close)
    return parts


def _redis_address(settings: StateSettings, config: Path | None) -> RedisAddress | None:
    """The Redis that shares state: the one of these settings, else LiteLLM's own; None without either."""
    if settings.redis_url is not None:
        return RedisAddress(url=settings.redis_url.get_secret_value())
    return read_litellm_redis(config) if config else None


def _status(live: Live, observer: Observer, store: RecordStore, started_at: datetime) -> Status:
    generation, router = live.generation, live.generation.router
    return Status(
        version=__version__,
        started_at=started_at,
        generation=generation.number,
        loaded_at=generation.loaded_at,
        artifact=router.artifact.id if router else None,
        artifact_created=router.artifact.manifest.created if router else None,
        artifact_path=str(generation.settings.artifact or default_artifact_path()) if router else None,
        n_llms=len(router.artifact.manifest.llms) if router else 0,
        config_path=str(live.config) if live.config else None,
        last_reload=live.last_reload,
        virtual_models=_virtual_models(live),
        decided=observer.n_decided,
        failed_open=observer.n_failed_open,
        rejected=observer.n_rejected,
        pending=observer.n_pending,
        store=store.health(),
    )


def _virtual_models(live: Live) -> tuple[VirtualModelStatus, ...]:
    """Every virtual model; without weights what the configuration says of it."""
    served = live.served
    if served is None:
        return ()
    if served.lanes:
        return tuple(_virtual_model(one) for one in served.lanes.values())
    return tuple(
        VirtualModelStatus(
            name=name,
            default=one.default,
            objective=one.objective.said,
            candidates=one.candidates or tuple(served.groups),
            excluded={},
            shadow=False,
            canary_share=0.0,
        )
        for name, one in served.generation.settings.virtual_models.items()
    )


def _virtual_model(lanes: Lanes) -> VirtualModelStatus:
    one = lanes.live.virtual_model
    return VirtualModelStatus(
        name=one.name,
        default=one.settings.default,
        objective=lanes.live.objective.said,
        candidates=one.pool.names,
        excluded={n: str(r) for n, r in zip(one.pool.names, one.pool.standing, strict=True) if r is not None},
        shadow=lanes.shadow is not None,
        canary_share=lanes.canary_share if lanes.canary else 0.0,
    )
