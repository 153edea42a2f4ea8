"""The groups of settings under `callback_settings.embedllm_router`: each setting, its default and its meaning.

settings.py reads them; values here are checked, nothing is opened or created.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from embedllm_router.budgets import Budget, Per, Whose
from embedllm_router.candidates import Rules
from embedllm_router.messages import TextFrom
from embedllm_router.overrides import AIMS, FIELDS, PROFILES, Allowed
from embedllm_router.policy import Exploration, Objective

__all__ = [
    "BudgetSettings",
    "CanarySettings",
    "DashboardSettings",
    "ExplorationSettings",
    "LogSettings",
    "MetricsSettings",
    "PlaceSettings",
    "ReloadSettings",
    "RequestSettings",
    "ShadowSettings",
    "StateSettings",
    "StoreSettings",
    "TracingSettings",
    "VirtualModelSettings",
]

CostWeight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def _percent(value: object) -> object:
    """Reads "5%" as 0.05; leaves everything else to the type."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip().removesuffix("%")) / 100
    return value


def _known_field(name: str) -> str:
    if name not in FIELDS:
        raise ValueError(f"expected one of {', '.join(FIELDS)}")
    return name


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ObjectiveSettings(_Group):
    """What the best candidate is; at most one aim, and a limit on cost."""

    cost_weight: CostWeight | None = None
    """λ in utility = p_correct - λ * cost_usd: the accuracy you give up per US dollar of one request. None is 0."""
    profile: Literal["quality", "balanced", "cheap"] | None = None
    """A cost weight by name: quality 0, balanced 20, cheap 500."""
    min_p_correct: Share | None = None
    """τ: take the cheapest LLM whose p_correct reaches it; if none does, the likeliest to be correct."""
    within: Share | None = None
    """Take the cheapest LLM whose p_correct is at most this far below the best one's."""
    max_cost_usd: Usd | None = None
    """Exclude LLMs whose expected cost of the request is higher."""
    latency_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Accuracy you give up per second of waiting, by the latencies seen while serving."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> "ObjectiveSettings":
        said = [name for name in AIMS if getattr(self, name) is not None]
        if len(said) > 1:
            raise ValueError(f"{' and '.join(said)} exclude each other; keep one")
        return self

    @property
    def says_something(self) -> bool:
        """Whether any of its settings is set."""
        return self.latency_weight > 0 or any(getattr(self, name) is not None for name in (*AIMS, "max_cost_usd"))

    @property
    def objective(self) -> Objective:
        """What the best candidate is."""
        weight = PROFILES[self.profile] if self.profile else self.cost_weight or 0.0
        return Objective(weight, self.min_p_correct, self.within, self.max_cost_usd, self.latency_weight)


class PlaceSettings(_Group):
    """Where requests may go."""

    allow: tuple[str, ...] | None = None
    """Only these; None allows all."""
    deny: tuple[str, ...] = ()
    """None of these."""


class ExplorationSettings(_Group):
    """Trying another candidate now and then, so that its answers can be learned from."""

    epsilon: Share = 0.0
    """Share of requests that try one."""
    max_loss: Share = 0.1
    """What it may lose in p_correct against the best one."""
    max_extra_usd: Usd = 0.01
    """What it may cost more than the best one."""

    @property
    def exploration(self) -> Exploration:
        """The same as the policy's own value."""
        return Exploration(self.epsilon, self.max_loss, self.max_extra_usd)


class BudgetSettings(_Group):
    """A spend target that the cost weight adapts to."""

    usd: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """What may be spent in each period."""
    per: Per = Per.DAY
    """The period, `day` or `month`, in UTC."""
    scope: Whose = Whose.VIRTUAL_MODEL
    """Who shares it: `virtual_model` everybody who asks for the name, `key` or `team` each of them for itself."""

    @property
    def budget(self) -> Budget:
        """The same as the ledger's own value."""
        return Budget(self.usd, self.per, self.scope)


class RequestSettings(_Group):
    """What a request may set for itself, in its header or body."""

    may_set: tuple[Annotated[str, AfterValidator(_known_field)], ...] = FIELDS
    """Names of the fields; every one by default."""
    min_cost_weight: CostWeight | None = None
    """Least cost weight a request may ask for."""
    max_cost_usd: Usd | None = None
    """Highest limit on its expected cost that a request may ask for."""

    @property
    def allowed(self) -> Allowed:
        """The same as the value that wishes are checked against."""
        return Allowed(self.may_set, self.min_cost_weight, self.max_cost_usd)


class ShadowSettings(ObjectiveSettings):
    """Weights or an objective that decide beside the live ones; their decision is recorded, never served."""

    artifact: Path | None = None
    """Weights folder; None takes the live one."""

    @model_validator(mode="after")
    def _differs(self) -> "ShadowSettings":
        if self.artifact is None and not self.says_something:
            raise ValueError("set artifact, an objective such as cost_weight, or both: else it would change nothing")
        return self


class CanarySettings(ShadowSettings):
    """Weights or an objective that decide for a share of the callers; each caller stays on its side."""

    share: Annotated[float, BeforeValidator(_percent), Field(gt=0, le=1)] = 0.05
    """Share of callers, 0.05 or "5%"."""


class VirtualModelSettings(ObjectiveSettings):
    """A name clients ask for, and how the LLM behind it is chosen."""

    default: str = Field(min_length=1)
    """Model group that answers when routing cannot: the promise behind fail-open."""
    candidates: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Model groups to choose from; None takes every group of `model_list`."""
    max_fallbacks: int = Field(default=2, ge=0, le=10)
    """How many of the next best LLMs LiteLLM tries when the chosen one fails."""
    text_from: TextFrom = TextFrom.LAST_USER
    """Which text is embedded: `last_user`, `conversation` or `all` (with the system prompt)."""
    access: Literal["inherit", "enforce"] = "inherit"
    """Whether a key for this name reaches every candidate, or only those it may call itself."""
    providers: PlaceSettings = PlaceSettings()
    """Providers that may answer, by LiteLLM's names such as `openai` or `bedrock`."""
    regions: PlaceSettings = PlaceSettings()
    """Regions that may answer, by `model_info.region` or the deployment's own region setting."""
    labels: tuple[str, ...] = ()
    """Labels that a candidate must have in `model_info.embedllm_labels`, such as `zero-retention`."""
    requests: RequestSettings = RequestSettings()
    """What a request may set for itself."""
    on_no_candidate: Literal["default", "refuse"] = "default"
    """When no candidate can take a request for what it needs: the default answers, or a 400 that lists the reasons."""
    budgets: tuple[BudgetSettings, ...] = ()
    """Spend targets that the cost weight adapts to; when one is exhausted, the cheapest answers."""
    exploration: ExplorationSettings = ExplorationSettings()
    """Trying another candidate now and then."""
    shadow: ShadowSettings | None = None
    """What else decides, for the record only."""
    canary: CanarySettings | None = None
    """What decides instead, for a share of the callers."""

    @property
    def rules(self) -> Rules:
        """Which candidates may answer at all."""
        providers, regions = self.providers, self.regions
        return Rules(
            _names(providers.allow),
            _set(providers.deny),
            _names(regions.allow),
            _set(regions.deny),
            frozenset(self.labels),
        )


def _set(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def _names(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else _set(names)


class LogSettings(_Group):
    """How decisions are logged, on stderr."""

    format: Literal["json", "console"] = "json"
    """One JSON object per line, or coloured text for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is written; decisions are `info`."""
    prompt: bool = False
    """Whether the embedded text itself is logged. Off, no prompt text is ever logged."""


class StoreSettings(_Group):
    """Where records of requests are kept."""

    enabled: bool = True
    """Whether records are kept at all."""
    path: Path | None = None
    """Folder of the record files; None takes `embedllm-router/records` in the user's state folder."""
    url: SecretStr | None = None
    """PostgreSQL instead of files: `postgresql://user:password@host/database`."""
    flush_s: float = Field(default=1.0, gt=0, le=60)
    """Longest time a record waits before it is on disk: what a crash may lose."""
    rotate_mb: float = Field(default=64, gt=0, le=4096)
    """Size at which a file is closed and sealed as Parquet."""
    rotate_s: float = Field(default=3600, gt=0)
    """Age at which a file is closed and sealed, in seconds."""
    retention_days: float | None = Field(default=None, gt=0)
    """Records older than this are deleted; None keeps them."""
    prompt: bool = False
    """Whether the embedded text itself is kept. Off, only a keyed hash of it is."""
    embedding: bool = False
    """Whether the prompt embedding is kept, which lets other weights decide again without the text."""
    hash_key: SecretStr | None = None
    """Key of the prompt hash; None makes one per folder. Give all proxies the same to link equal prompts."""


class StateSettings(_Group):
    """Where budgets and sessions are kept between requests."""

    path: Path | None = None
    """Folder that survives a restart; None takes `embedllm-router/state` in the user's state folder."""
    redis_url: SecretStr | None = None
    """Redis that several proxies share, such as `redis://host:6379`; None takes LiteLLM's own, if it names one."""
    namespace: str = Field(default="embedllm", min_length=1)
    """What every Redis key begins with."""


class DashboardSettings(_Group):
    """The pages under /embedllm/."""

    enabled: bool = True
    """Whether the proxy serves them."""


class MetricsSettings(_Group):
    """Prometheus metrics."""

    enabled: bool = True
    """Whether they are counted and served: at /embedllm/metrics, and on LiteLLM's /metrics when its callback is on."""


class TracingSettings(_Group):
    """OpenTelemetry spans."""

    enabled: bool = True
    """Whether a span is made per decision; without a tracer in the process it costs nothing."""


class ReloadSettings(_Group):
    """Taking up changed configuration and weights while running."""

    watch: bool = True
    """Whether the configuration file and weights folders are watched."""
    every_s: float = Field(default=2.0, gt=0, le=3600)
    """How often they are looked at, in seconds."""
