"""Builds everything the plugin is made of from its settings."""

import atexit
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from structlog.typing import FilteringBoundLogger

from embedllm_router import __version__
from embedllm_router.config.process import RedisAddress, StateSettings
from embedllm_router.config.settings import RouterSettings, read_litellm_redis
from embedllm_router.errors import EmbedLLMRouterError
from embedllm_router.proxy.adapting import Adapting
from embedllm_router.proxy.judging.run import Judging
from embedllm_router.proxy.request_context import key_id_of
from embedllm_router.proxy.shadow import ShadowRunner
from embedllm_router.records.owners import Giver, Owners, key_hash_of
from embedllm_router.records.reader.source import LateSource, Limits
from embedllm_router.records.schema import FeedbackRecord
from embedllm_router.records.writer.store import RecordStore, open_store
from embedllm_router.routing.budget import Scope, Whose
from embedllm_router.serving.arms import Arms
from embedllm_router.serving.availability import Availability
from embedllm_router.serving.budget_enforcer import BudgetEnforcer, BudgetStatus, DearShares, Ledger
from embedllm_router.serving.caller_drift import CallerDrift
from embedllm_router.serving.sessions import Sessions
from embedllm_router.serving.snapshot import LiveSnapshot, Snapshot
from embedllm_router.serving.state.opening import open_state
from embedllm_router.serving.state.shared import SharedState
from embedllm_router.telemetry.log import configure_logging
from embedllm_router.telemetry.metrics import Metrics, open_metrics
from embedllm_router.telemetry.status import BudgetState, Status, VirtualModelStatus
from embedllm_router.telemetry.tracing import Tracer
from embedllm_router.telemetry.tracker import Keep, RequestTracker, Sink

__all__ = ["Container", "assemble"]

_FOR_PAGES = Limits(threads=1, memory="512MB")  # requests come first: pages and owners get one thread


@dataclass(frozen=True, slots=True)
class Container:
    """What the plugin is made of.

    Attributes:
        log: Where events go.
        live: What decides.
        tracker: What follows requests to their outcome.
        store: Where records go.
        metrics: What counts.
        state: What this proxy and others share.
        availability: What is left alone at the moment.
        budget_enforcer: What keeps decisions within budgets.
        sessions: What keeps sessions on their LLM.
        shadows: What decides in the shadow.
        records: What was recorded, for pages and owners.
        owners: Whose requests feedback is on; None where no records are kept.
        adapting: What has weights learn by themselves.
        judging: What evaluates live traffic.
        started_at: When they were built, UTC.
    """

    log: FilteringBoundLogger
    live: LiveSnapshot
    tracker: RequestTracker
    store: RecordStore
    metrics: Metrics
    state: SharedState
    availability: Availability
    budget_enforcer: BudgetEnforcer
    sessions: Sessions
    shadows: ShadowRunner
    records: LateSource
    owners: Owners | None
    adapting: Adapting
    judging: Judging
    started_at: datetime

    def status(self) -> Status:
        """How the plugin is doing now."""
        return _status(
            self.live, self.tracker, self.store, self.adapting, self.judging, self.availability, self.started_at
        )

    def budgets(self) -> tuple[BudgetState, ...]:
        """Every budget now, the one with the least left first; to be called on the event loop, as decisions are."""
        shared = tuple(
            Scope(one.budget, name)
            for name, model in self.live.snapshot.settings.virtual_models.items()
            for one in model.budgets
            if one.scope is Whose.VIRTUAL_MODEL
        )
        found = [_budget_state(one) for one in self.budget_enforcer.status(shared)]
        return tuple(sorted(found, key=lambda one: (-one.spent_usd / one.usd, one.virtual_model)))

    def reload(self) -> Snapshot:
        """Takes up changed configuration and weights.

        Raises:
            ConfigError: The configuration is not valid; the old one stays.
            ArtifactError: Weights cannot be loaded; the old ones stay.
        """
        try:
            snapshot = self.live.reload()
        except EmbedLLMRouterError:
            self.metrics.reloaded(ok=False)
            raise
        self.metrics.reloaded(ok=True)
        return snapshot

    def giver(self, key: object, *, admin: bool) -> Giver:
        """Who gives feedback with an API key.

        Args:
            key: LiteLLM's key object.
            admin: Whether it is an administrator's.
        """
        key_id, alias = key_id_of(key), getattr(key, "key_alias", None)
        return Giver(key_hash_of(key_id), alias if isinstance(alias, str) else None, admin)

    def take(self, feedback: FeedbackRecord) -> None:
        """Keeps what somebody thought of an answer."""
        self.store.put(feedback)
        self.metrics.feedback(feedback)

    def close(self) -> None:
        """Records what is in flight and flushes the store, says what could not be written; safe to call twice."""
        self.adapting.close()
        self.judging.close()
        self.tracker.close()
        self.shadows.close()
        before = self.store.health()
        self.store.close()
        now = self.store.health()
        lost = now.dropped - before.dropped + now.queued
        if lost:
            self.log.error("store.records_lost", lost=lost, error=now.last_error, store=now.location)
        self.state.save()
        self.records.close()


def assemble(settings: RouterSettings, config: Path | None = None, *, log_to: TextIO | None = None) -> Container:
    """Builds everything.

    Args:
        settings: The plugin's settings.
        config: The configuration file they come from; None when unknown.
        log_to: Where events are written; None takes stderr.

    Returns:
        The container; it is closed when the process ends.

    Raises:
        ConfigError: What the store needs is not installed.
    """
    log = configure_logging(settings.log, log_to)
    store = open_store(settings.store)
    keep = Keep(store.prompt_hash, text=settings.store.prompt, embedding=settings.store.embedding)
    sinks: list[Sink] = [store.put] if settings.store.enabled else []
    tracer = Tracer(enabled=settings.tracing.enabled)
    tracker = RequestTracker(log, sinks, keep, tracer=tracer, log_prompt=settings.log.prompt)
    state = open_state(settings.state, log, redis=_redis_address(settings.state, config))
    live, started_at = LiveSnapshot(settings, log, config, CallerDrift(state)), datetime.now(UTC)
    availability = Availability(lambda: live.snapshot.settings.resting, log)
    records = LateSource(settings.store.place, _FOR_PAGES)
    adapting = Adapting(live, records, log)
    judging = Judging(live, state, log, store.put, lambda: availability.excluded)
    metrics = open_metrics(
        lambda: _status(live, tracker, store, adapting, judging, availability, started_at),
        log,
        enabled=settings.metrics.enabled,
    )
    tracker.count_with(metrics)
    judging.count_with(metrics)
    container = Container(
        log=log,
        live=live,
        tracker=tracker,
        store=store,
        metrics=metrics,
        state=state,
        availability=availability,
        budget_enforcer=BudgetEnforcer(Ledger(state), DearShares(state), state.clock),
        sessions=Sessions(state),
        shadows=ShadowRunner(log),
        records=records,
        owners=Owners(records, settings.store.flush_s) if settings.store.enabled else None,
        adapting=adapting,
        judging=judging,
        started_at=started_at,
    )
    atexit.register(container.close)
    return container


def _redis_address(settings: StateSettings, config: Path | None) -> RedisAddress | None:
    """The Redis that shares state: the one of these settings, else LiteLLM's own; None without either."""
    if settings.redis_url is not None:
        return RedisAddress(url=settings.redis_url.get_secret_value())
    return read_litellm_redis(config) if config else None


def _status(  # noqa: PLR0913, PLR0917 - everything that has something to say
    live: LiveSnapshot,
    tracker: RequestTracker,
    store: RecordStore,
    adapting: Adapting,
    judging: Judging,
    availability: Availability,
    started_at: datetime,
) -> Status:
    snapshot, router = live.snapshot, live.snapshot.router
    return Status(
        version=__version__,
        started_at=started_at,
        generation=snapshot.number,
        loaded_at=snapshot.loaded_at,
        artifact=router.artifact_id if router else None,
        artifact_created=router.artifact.manifest.created if router else None,
        artifact_path=str(snapshot.folder) if router else None,
        n_llms=len(router.artifact.manifest.llms) if router else 0,
        config_path=str(live.config) if live.config else None,
        last_reload=live.last_reload,
        virtual_models=_virtual_models(live),
        decided=tracker.n_decided,
        failed_open=tracker.n_failed_open,
        rejected=tracker.n_rejected,
        pending=tracker.n_pending,
        store=store.health(),
        adaptation=adapting.status(),
        judging=judging.status(),
        left_alone={group: str(reason) for group, reason in availability.excluded.items()},
    )


def _budget_state(one: BudgetStatus) -> BudgetState:
    scope = one.scope
    return BudgetState(
        virtual_model=scope.virtual_model,
        scope=str(scope.budget.scope),
        holder=key_hash_of(scope.holder),
        usd=scope.budget.usd,
        per=str(scope.budget.per),
        period=one.period,
        ends_at=datetime.fromtimestamp(one.ends_at, UTC),
        spent_usd=one.committed_usd,
        cost_weight=one.cost_weight,
        exhausted=one.exhausted,
        forecast_usd=one.forecast_usd,
    )


def _virtual_models(live: LiveSnapshot) -> tuple[VirtualModelStatus, ...]:
    """Every virtual model; without weights what the configuration says of it."""
    served = live.served
    if served is None:
        return ()
    if served.arms:
        return tuple(_virtual_model(one) for one in served.arms.values())
    return tuple(
        VirtualModelStatus(
            name=name,
            default=one.default,
            objective=one.objective.fields,
            candidates=one.candidates or tuple(served.groups),
            excluded={},
            shadow=False,
            canary_share=0.0,
        )
        for name, one in served.snapshot.settings.virtual_models.items()
    )


def _virtual_model(arms: Arms) -> VirtualModelStatus:
    one = arms.live.virtual_model
    return VirtualModelStatus(
        name=one.name,
        default=one.settings.default,
        objective=arms.live.objective.fields,
        candidates=one.pool.names,
        excluded={n: str(r) for n, r in zip(one.pool.names, one.pool.standing, strict=True) if r is not None},
        shadow=arms.shadow is not None,
        canary_share=arms.canary_share if arms.canary else 0.0,
    )
