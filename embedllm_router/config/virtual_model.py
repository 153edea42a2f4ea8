"""The settings of a virtual model: each setting, its default and its meaning.

settings.py reads them; values here are checked, nothing is opened or created.
"""

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from embedllm_router.config.paths import Folder
from embedllm_router.routing.budget import UTC, Budget, Guard, Per, Whose
from embedllm_router.routing.decision import Exploration, Objective
from embedllm_router.routing.overrides import FIELDS, PROFILES, Allowed
from embedllm_router.routing.pool import Rules
from embedllm_router.routing.prompt import EmbedText

__all__ = [
    "AIMS",
    "BudgetSettings",
    "CanarySettings",
    "ExplorationSettings",
    "GuardSettings",
    "JudgingSettings",
    "PlaceSettings",
    "RequestSettings",
    "SessionSettings",
    "ShadowSettings",
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

    old_names: ClassVar[Mapping[str, str]] = {}
    """Settings by their names in earlier versions, which are still read."""

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        read = dict(value)
        for old, new in cls.old_names.items():
            if old not in read:
                continue
            if new in read:
                raise ValueError(f"{old} is the old name of {new}; keep {new} alone")
            warnings.warn(f"the setting {old} is deprecated: it is called {new} now", FutureWarning, stacklevel=2)
            read[new] = read.pop(old)
        return read


AIMS = ("cost_weight", "profile", "min_p_correct", "max_accuracy_drop")
"""What says which candidate is best; at most one of them at a time."""


class ObjectiveSettings(_Group):
    """What the best candidate is; at most one aim, and a limit on cost."""

    old_names: ClassVar[Mapping[str, str]] = {"within": "max_accuracy_drop"}

    cost_weight: CostWeight | None = None
    """λ in utility = p_correct - λ * cost_usd: the accuracy you give up per US dollar of one request. None is 0."""
    profile: Literal["quality", "balanced", "cheap"] | None = None
    """A cost weight by name: quality 0, balanced 20, cheap 500."""
    min_p_correct: Share | None = None
    """τ: take the cheapest LLM whose p_correct reaches it; if none does, the one with the highest p_correct."""
    max_accuracy_drop: Share | None = None
    """Take the cheapest LLM whose p_correct is at most this far below the best one's."""
    max_cost_usd: Usd | None = None
    """Exclude LLMs whose expected cost of the request, in USD, is higher."""
    latency_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Accuracy you give up per second of waiting, by the latencies measured while serving; needs a cost weight."""

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
        return Objective(weight, self.min_p_correct, self.max_accuracy_drop, self.max_cost_usd, self.latency_weight)


class PlaceSettings(_Group):
    """Where requests may go."""

    allow: tuple[str, ...] | None = None
    """Names that are allowed; None allows all."""
    deny: tuple[str, ...] = ()
    """Names that are not allowed."""


class ExplorationSettings(_Group):
    """Choosing another candidate now and then. Off unless `epsilon` is above 0 or `method` is `thompson`."""

    method: Literal["epsilon", "thompson"] = "epsilon"
    """`epsilon`: a share `epsilon` of the requests is drawn evenly. `thompson`: also, LLMs learned from few answers are
    tried more often."""
    epsilon: Share = 0.0
    """Share of requests for which one of the candidates within `max_loss` and `max_extra_usd` is drawn evenly."""
    spread: Annotated[float, Field(ge=0, le=100)] = 1.0
    """With `thompson`: factor on the uncertainty of predictions; a higher one explores more."""
    max_loss: Share = 0.1
    """How far the p_correct of another candidate may be below that of the best one."""
    max_extra_usd: Usd = 0.01
    """How much more than the best one another candidate may cost, in USD per request."""

    @property
    def exploration(self) -> Exploration:
        """As the value that the pipeline reads."""
        thompson = self.method == "thompson"
        return Exploration(self.epsilon, self.max_loss, self.max_extra_usd, thompson, self.spread)


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"no time zone {name!r} here: expected an IANA name such as Europe/Berlin or UTC. Where a system has no "
            "table of zones, pip install tzdata"
        ) from None
    return name


def _each_once(budgets: tuple["BudgetSettings", ...]) -> tuple["BudgetSettings", ...]:
    seen = [(one.per, one.scope) for one in budgets]
    for per, scope in seen:
        if seen.count((per, scope)) > 1:
            raise ValueError(f"two budgets per {per} of scope {scope}: they would be one sum; expected one of them")
    return budgets


class BudgetSettings(_Group):
    """An amount to spend per period. The cost weight adapts to it."""

    usd: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Amount to spend in each period, in USD."""
    per: Per = Per.DAY
    """The period: `day`, `week` (from Monday on) or `month`."""
    scope: Whose = Whose.VIRTUAL_MODEL
    """Who shares the amount: `virtual_model`: all requests for the name; `key`, `team`: each key or team has its
    own."""

    timezone: Annotated[str, AfterValidator(_timezone)] = UTC
    """Time zone in which days begin, by its IANA name such as `Europe/Berlin`; requests are forecast by its
    hours."""

    @property
    def budget(self) -> Budget:
        """As the value that the ledger reads."""
        return Budget(self.usd, self.per, self.scope, self.timezone)


class GuardSettings(_Group):
    """A bound on how often one API key's requests go to dear LLMs, against text that makes every request look hard.

    Off unless `share_of_dearest` is set.
    """

    share_of_dearest: Annotated[float, BeforeValidator(_percent), Field(ge=0, le=1)] | None = None
    """Largest share of a key's requests that go to dear LLMs, such as 0.3 or "30%". Beyond it, dear LLMs are excluded
    (`guarded`) until the share has fallen. Requests without a key count together."""
    window_s: float = Field(default=3600, ge=10, le=2_592_000)
    """Over how many seconds requests are counted."""
    min_requests: int = Field(default=50, ge=1)
    """Requests of the key in that time from which on the share is bounded."""
    times_median: float = Field(default=2, ge=1, le=1_000_000)
    """An LLM is dear for a request when it is expected to cost more than so many times the median of the LLMs that
    could answer this request. Of an even number, the lower of the middle two is the median."""

    @property
    def guard(self) -> Guard | None:
        """As the value that decisions read; None when it is off."""
        if self.share_of_dearest is None:
            return None
        return Guard(self.share_of_dearest, self.window_s, self.min_requests, self.times_median)


class SessionSettings(_Group):
    """Conversations stay on their LLM until another is better by a margin."""

    enabled: bool = True
    """Whether conversations stay on their LLM."""
    ttl_s: float = Field(default=3600, gt=0, le=31_536_000)
    """How long after its last request a conversation is remembered, in seconds."""
    margin: Share = 0.02
    """How much better in utility another LLM must be to take over."""
    cost_margin: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """With `min_p_correct` or `max_accuracy_drop`: how much cheaper another LLM must be to take over, as a share of the
    cost."""
    cache_s: float = Field(default=300, ge=0, allow_inf_nan=False)
    """How long a provider keeps a conversation in its prompt cache, in seconds; cached input counts as cheaper."""


class RequestSettings(_Group):
    """What a request may set for itself, in its header or body."""

    old_names: ClassVar[Mapping[str, str]] = {"may_set": "allowed_overrides"}

    allowed_overrides: tuple[Annotated[str, AfterValidator(_known_field)], ...] = FIELDS
    """Names of the fields that a request may set; `[]` allows none."""
    min_cost_weight: CostWeight | None = None
    """Lowest cost weight that a request may ask for."""
    max_cost_usd: Usd | None = None
    """Highest `max_cost_usd` that a request may ask for."""

    @property
    def allowed(self) -> Allowed:
        """As the value that overrides are checked against."""
        return Allowed(self.allowed_overrides, self.min_cost_weight, self.max_cost_usd)


class ShadowSettings(ObjectiveSettings):
    """Other weights or another objective that also decide each request; their decision is recorded, never served."""

    artifact: Folder | None = None
    """Weights folder; None takes the weights of the live arm."""

    @model_validator(mode="after")
    def _differs(self) -> "ShadowSettings":
        if self.artifact is None and not self.says_something:
            raise ValueError("set artifact, an objective such as cost_weight, or both: else it would change nothing")
        return self


class CanarySettings(ShadowSettings):
    """Other weights or another objective that decide for a share of the callers; a caller always gets the same arm."""

    share: Annotated[float, BeforeValidator(_percent), Field(gt=0, le=1)] = 0.05
    """Share of the callers, such as 0.05 or "5%"."""


class JudgingSettings(_Group):
    """A share of the requests is answered by other candidates, too, and a judge scores the answers.

    Off unless `share` is above 0. It begins after the user has the answer. Prompts and answers then go to these LLMs,
    too.
    """

    share: Annotated[float, BeforeValidator(_percent), Field(ge=0, le=1)] = 0.0
    """Share of the requests that is drawn, such as 0.02 or "2%"."""
    usd_per_day: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The most that the other answers and the judges may cost per day (UTC), in USD, all proxies together. It has to be
    set."""
    judges: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Model groups that judge. The first one whose LLM is none of those that are judged is asked; none judges its own
    answer where another one is configured."""
    candidates: int = Field(default=2, ge=1, le=10)
    """How many other candidates answer a request that was drawn; they are drawn evenly from those that could have
    been chosen for it."""
    rubric: str | None = Field(default=None, min_length=1, max_length=10_000)
    """What the judge is told to look for, besides whether an answer is right and complete."""
    doubles: Share = 0.1
    """Share of the drawn requests for which no other candidate is asked: the judge gets the user's answer beside a copy
    of it. How often it tells the two apart is its error."""
    max_output_tokens: int = Field(default=4096, ge=16, le=1_000_000)
    """Most output tokens of another candidate's answer and of the judge's, hidden reasoning included."""
    timeout_s: float = Field(default=120, gt=0, le=3600)
    """Longest time that one of these answers may take, in seconds."""

    @model_validator(mode="after")
    def _can_judge(self) -> "JudgingSettings":
        if self.share > 0 and self.usd_per_day is None:
            raise ValueError("share is above 0, so set usd_per_day, the most that judging may cost per day")
        if self.share > 0 and not self.judges:
            raise ValueError("share is above 0, so name one model group or more in judges")
        return self


class VirtualModelSettings(ObjectiveSettings):
    """A name clients ask for, and how the LLM behind it is chosen."""

    old_names: ClassVar[Mapping[str, str]] = {
        **ObjectiveSettings.old_names,
        "text_from": "embed_text",
        "max_novelty": "max_ood_score",
    }

    default: str = Field(min_length=1)
    """Model group that answers when routing fails, no candidate can take the request, or all that were tried failed.
    It is always a candidate."""
    baseline: str | None = Field(default=None, min_length=1)
    """Model group that you would use without routing, one of the candidates: savings are also counted against it. None
    compares with always the most accurate, always the cheapest and the single best LLM only."""
    candidates: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Model groups to choose from, besides the default; None takes every group of `model_list`."""
    uncertainty: Literal["mean", "lower_bound", "exclude"] = "mean"
    """How LLMs are treated that nobody graded, which are known by their family or by a stand-in: `mean` chooses by
    their expected p_correct, `lower_bound` chooses among all LLMs by the lower ends of 95 % intervals, `exclude`
    never chooses them."""
    max_fallbacks: int = Field(default=2, ge=0, le=10)
    """How many of the next best LLMs LiteLLM tries when the chosen one fails, before it tries the default; 0 tries
    none, not even the default."""
    embed_text: EmbedText = EmbedText.LAST_USER
    """Which text is embedded: `last_user`, `conversation` or `all` (with the system prompt)."""
    access: Literal["inherit", "enforce"] = "inherit"
    """`inherit`: a key for this name reaches every candidate. `enforce`: only those that the caller may call
    directly."""
    providers: PlaceSettings = PlaceSettings()
    """Providers that may answer, by LiteLLM's names such as `openai` or `bedrock`."""
    regions: PlaceSettings = PlaceSettings()
    """Regions that may answer, by `model_info.region` or the deployment's own region setting."""
    labels: tuple[str, ...] = ()
    """Labels that a candidate must have in `model_info.embedllm_labels`, such as `zero-retention`."""
    requests: RequestSettings = RequestSettings()
    """What a request may set for itself."""
    on_no_candidate: Literal["default", "refuse"] = "default"
    """When no candidate has what a request needs, such as vision: `default` sends it to the default, `refuse` answers
    with a 400 that lists the reasons."""
    budgets: Annotated[tuple[BudgetSettings, ...], AfterValidator(_each_once)] = ()
    """Amounts to spend per day, week or month. The cost weight adapts to them; when one is used up, the cheapest LLM
    answers."""
    guard: GuardSettings = GuardSettings()
    """A bound on how often the requests of one API key go to dear LLMs; off by default."""
    sessions: SessionSettings = SessionSettings()
    """Whether and how long conversations stay on their LLM."""
    near_tie_margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.005
    """Candidates at most this far below the highest utility are near ties: of them, the one with the best average
    performance is chosen. 0 turns tie breaking off."""
    max_ood_score: Share | None = None
    """Prompts with a higher out-of-distribution (OOD) score go to the default; None routes all prompts."""
    exploration: ExplorationSettings = ExplorationSettings()
    """Choosing another candidate now and then, to learn from its answers; off by default."""
    shadow: ShadowSettings | None = None
    """Other weights or another objective that also decide, for the record only."""
    canary: CanarySettings | None = None
    """Other weights or another objective that decide for a share of the callers."""
    judging: JudgingSettings = JudgingSettings()
    """Judged evaluation of live traffic: other candidates answer a share of the requests, too, and a judge scores the
    answers; off by default."""

    @model_validator(mode="after")
    def _baseline_is_a_candidate(self) -> "VirtualModelSettings":
        listed = None if self.candidates is None else (*self.candidates, self.default)
        if self.baseline is not None and listed is not None and self.baseline not in listed:
            near = difflib.get_close_matches(self.baseline, listed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"baseline {self.baseline!r} is none of the candidates {', '.join(listed)}{hint}")
        return self

    @property
    def objective(self) -> Objective:
        """What the best candidate is."""
        return self.with_margin(super().objective)

    def with_margin(self, objective: Objective) -> Objective:
        """An objective that breaks near ties by average performance."""
        return replace(objective, near_tie_margin=self.near_tie_margin)

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
