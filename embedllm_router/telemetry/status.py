"""What the running plugin says of itself, for health checks, metrics and the dashboard. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from embedllm_router.artifact.versions import Attempt
from embedllm_router.records.writer.queue import StoreHealth

__all__ = ["AdaptationStatus", "BudgetState", "JudgingStatus", "ReloadStatus", "Status", "VirtualModelStatus"]


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """The latest attempt to take up changed configuration or weights.

    Attributes:
        at: When, UTC.
        error: Why it was rolled back; None when it succeeded.
    """

    at: datetime
    error: str | None = None


@dataclass(frozen=True, slots=True)
class VirtualModelStatus:
    """One virtual model.

    Attributes:
        name: What clients ask for.
        default: Model group that answers when routing cannot.
        objective: Its objective, only what is set, such as {"cost_weight": 20.0}.
        candidates: Names of its candidates.
        excluded: Candidates that can never be chosen, and why.
        shadow: Whether something decides in the shadow.
        canary_share: Share of callers that a canary decides for; 0 without one.
    """

    name: str
    default: str
    objective: dict[str, float]
    candidates: tuple[str, ...]
    excluded: dict[str, str]
    shadow: bool
    canary_share: float

    @property
    def can_route(self) -> bool:
        """Whether it has a candidate that can be chosen; without one the default answers every request."""
        return any(name not in self.excluded for name in self.candidates)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationStatus:
    """Learning from feedback by itself.

    Attributes:
        every: New verdicts that it waits for.
        n_new: New verdicts that there are; None when they could not be counted yet.
        folder: Where learned weights are kept.
        learning: Whether this process has it learn now.
        attempts: What came of the latest attempts, newest first.
        error: Why it cannot learn at the moment; None when it can.
    """

    every: int
    n_new: int | None
    folder: str
    learning: bool
    attempts: tuple[Attempt, ...]
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingStatus:
    """Judged evaluation of a virtual model's traffic.

    Attributes:
        virtual_model: Its name.
        share: Share of its requests that is drawn.
        usd_per_day: The most that this may cost per day.
        spent_usd: What it cost today (UTC), by all proxies together, with what is under way at its upper bound.
        n_waiting: Requests that wait or are being judged in this process, of all virtual models.
        n_judged: Requests that this process has had judged.
        n_verdicts: Verdicts that came of them.
        left_out: Why requests that were drawn were not judged → how many.
    """

    virtual_model: str
    share: float
    usd_per_day: float
    spent_usd: float
    n_waiting: int
    n_judged: int
    n_verdicts: int
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """One budget in its current period.

    Attributes:
        virtual_model: Whose requests it counts.
        scope: Who shares it: "virtual_model", "key" or "team".
        holder: Hash of the key's or team's id, as records have it; None where everybody shares it.
        usd: What may be spent.
        per: In which time: "day", "week" or "month".
        period: Such as "2026-01-31", "2026-W05" or "2026-01".
        ends_at: When the period ends, UTC.
        spent_usd: Spent, with what requests in flight are expected to cost.
        cost_weight: λ it asks for now; None before the first request of the period.
        exhausted: Whether nothing is left, so that the cheapest candidate answers.
        forecast_usd: Expected spend at the end of the period; None while too little is known.
    """

    virtual_model: str
    scope: str
    holder: str | None
    usd: float
    per: str
    period: str
    ends_at: datetime
    spent_usd: float
    cost_weight: float | None
    exhausted: bool
    forecast_usd: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """The plugin at one moment.

    Attributes:
        version: Of this package.
        started_at: When the plugin was loaded, UTC.
        generation: How often configuration and weights were loaded; 1 after start.
        loaded_at: When the current generation was, UTC.
        artifact: Id of the live weights; None when none could be loaded and the defaults answer.
        artifact_created: Day they were made; None likewise.
        artifact_path: Their folder; None likewise.
        n_llms: How many LLMs they know.
        config_path: The configuration file; None when unknown.
        last_reload: The latest reload; None when there was none.
        virtual_models: In the order of the configuration; empty until LiteLLM has read its deployments.
        decided: Requests routed since the start.
        failed_open: Requests the default answered because routing failed.
        rejected: Requests refused because what the client set was wrong or left no candidate.
        pending: Requests whose outcome is awaited.
        store: The record store.
        adaptation: Learning by itself; None where it is off.
        judging: Judged evaluation, of the virtual models that have it on.
        left_alone: Model groups that no request is sent to at the moment, and why.
    """

    version: str
    started_at: datetime
    generation: int
    loaded_at: datetime
    artifact: str | None
    artifact_created: str | None
    artifact_path: str | None
    n_llms: int
    config_path: str | None
    last_reload: ReloadStatus | None
    virtual_models: tuple[VirtualModelStatus, ...]
    decided: int
    failed_open: int
    rejected: int
    pending: int
    store: StoreHealth
    adaptation: AdaptationStatus | None = None
    judging: tuple[JudgingStatus, ...] = ()
    left_alone: Mapping[str, str] = field(default_factory=dict)

    @property
    def not_ready(self) -> str | None:
        """Why routing is not at work; None when it is."""
        if self.artifact is None:
            return "no weights could be loaded"
        if not self.virtual_models:
            return "the deployments are not known yet"
        idle = [one.name for one in self.virtual_models if not one.can_route]
        return f"no candidate of {', '.join(idle)} can be chosen" if idle else None
