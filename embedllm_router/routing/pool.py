"""Who may answer: candidates, what they cost and lack, the reasons that exclude them, and how they do on average."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NO_RULES",
    "PARAMETERS",
    "TOPIC_SD",
    "Average",
    "Candidate",
    "CandidateAverage",
    "CandidatePool",
    "Capability",
    "Codes",
    "Exclusion",
    "Floats",
    "PriceTier",
    "Rules",
    "ServicePrices",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Average:
    """What weights predict on average over prompts such as they learned from; one entry per learned LLM.

    Attributes:
        p_correct: (n_llms,), mean probability of a correct answer, in [0, 1].
        output_tokens: (n_llms,), mean expected output tokens.
        n_labels: (n_llms,), answers each was learned from.
        logit_sd: (n_llms,), standard deviation of each one's ability, in log-odds.
    """

    p_correct: Floats
    output_tokens: Floats
    n_labels: Floats
    logit_sd: Floats


@dataclass(frozen=True, slots=True)
class CandidateAverage:
    """The same for the candidates of a pool; NaN where no learned LLM stands behind a candidate.

    Attributes:
        p_correct: (n_candidates,), mean probability of a correct answer.
        cost_usd: (n_candidates,), expected cost of a typical request; NaN also where a price is unknown.
        n_labels: (n_candidates,), answers its LLM was learned from.
        logit_sd: (n_candidates,), standard deviation of its LLM's ability, in log-odds; None when it is not known.
    """

    p_correct: Floats
    cost_usd: Floats
    n_labels: Floats
    logit_sd: Floats | None = None


TOPIC_SD: Final = 0.5
"""How far an LLM's answers to one kind of prompt lie from what is predicted of it, beyond what its ability leaves open:
a standard deviation, in log-odds. Found on one half of twenty LLMs left out in turn, and holds on the other half."""
_Z: Final = 1.96
_LEAST_P: Final = 1e-6


def _moved(p_correct: Floats, by: Floats) -> Floats:
    """Probabilities whose log-odds are moved by so much; NaN stays."""
    inside = np.clip(p_correct, _LEAST_P, 1 - _LEAST_P)
    moved: Floats = 1 / (1 + (1 - inside) / inside * np.exp(-by))
    return moved


Codes = NDArray[np.int8]
Mask = NDArray[np.bool_]


class Capability(StrEnum):
    """What a request may need an LLM to take or do, besides text; from `REASONING_EFFORT` on, its parameters' names."""

    VISION = "vision"
    AUDIO = "audio"
    PDF = "pdf"
    TOOLS = "tools"
    JSON_SCHEMA = "json_schema"
    REASONING_EFFORT = "reasoning_effort"
    THINKING = "thinking"
    N = "n"
    LOGPROBS = "logprobs"
    TOP_LOGPROBS = "top_logprobs"
    SEED = "seed"
    LOGIT_BIAS = "logit_bias"
    PREDICTION = "prediction"
    SERVICE_TIER = "service_tier"
    MODALITIES = "modalities"
    WEB_SEARCH_OPTIONS = "web_search_options"
    VERBOSITY = "verbosity"
    STOP = "stop"
    TOP_P = "top_p"
    PRESENCE_PENALTY = "presence_penalty"
    FREQUENCY_PENALTY = "frequency_penalty"
    PARALLEL_TOOL_CALLS = "parallel_tool_calls"


PARAMETERS = frozenset(list(Capability)[list(Capability).index(Capability.REASONING_EFFORT) :])
"""Parameters of a request that some LLMs refuse."""


class Exclusion(StrEnum):
    """Why a candidate could not be chosen."""

    LLM_UNKNOWN = "llm_unknown"
    PRICE_UNKNOWN = "price_unknown"
    NOT_REQUESTED = "not_requested"
    KEY_ACCESS = "key_access"
    PROVIDER = "provider"
    REGION = "region"
    LABEL = "label"
    CONTEXT_WINDOW = "context_window"
    TOO_EXPENSIVE = "too_expensive"
    COOLED_DOWN = "cooled_down"
    NO_VISION = "no_vision"
    NO_AUDIO = "no_audio"
    NO_PDF = "no_pdf"
    NO_TOOLS = "no_tools"
    NO_JSON_SCHEMA = "no_json_schema"
    NO_REASONING_EFFORT = "no_reasoning_effort"
    NO_THINKING = "no_thinking"
    NO_N = "no_n"
    NO_LOGPROBS = "no_logprobs"
    NO_TOP_LOGPROBS = "no_top_logprobs"
    NO_SEED = "no_seed"
    NO_LOGIT_BIAS = "no_logit_bias"
    NO_PREDICTION = "no_prediction"
    NO_SERVICE_TIER = "no_service_tier"
    NO_MODALITIES = "no_modalities"
    NO_WEB_SEARCH_OPTIONS = "no_web_search_options"
    NO_VERBOSITY = "no_verbosity"
    NO_STOP = "no_stop"
    NO_TOP_P = "no_top_p"
    NO_PRESENCE_PENALTY = "no_presence_penalty"
    NO_FREQUENCY_PENALTY = "no_frequency_penalty"
    NO_PARALLEL_TOOL_CALLS = "no_parallel_tool_calls"
    BLOCKED = "blocked"
    MODE = "mode"
    WILDCARD = "wildcard"
    TEAM = "team"
    TAG = "tag"
    NOT_GRADED = "not_graded"
    EFFORT = "effort"
    OVER_BUDGET = "over_budget"
    RESERVED = "reserved"
    RESTING = "resting"
    GUARDED = "guarded"

    @classmethod
    def lacking(cls, capability: Capability) -> "Exclusion":
        """The exclusion of a candidate that lacks a capability."""
        return cls(f"no_{capability}")

    @property
    def code(self) -> int:
        """Its number, from 1; 0 means that nothing excludes."""
        return _CODES[self]

    @property
    def is_a_rule(self) -> bool:
        """Whether somebody decreed it, so that not even the default may answer."""
        return self in {Exclusion.KEY_ACCESS, Exclusion.PROVIDER, Exclusion.REGION, Exclusion.LABEL}

    @staticmethod
    def of_code(code: int) -> "Exclusion | None":
        """The exclusion of a number; None for 0."""
        return _BY_CODE[code]


_BY_CODE: tuple[Exclusion | None, ...] = (None, *Exclusion)
_CODES = {reason: code for code, reason in enumerate(_BY_CODE) if reason is not None}


@dataclass(frozen=True, slots=True)
class Rules:
    """Which candidates may answer at all, by where they run and how they are labelled.

    A candidate that stands for several deployments must keep the rules with each of them. One whose provider or region
    is unknown is on no list of allowed ones.

    Attributes:
        allow_providers: Only these; None allows all.
        deny_providers: None of these.
        allow_regions: Only these; None allows all.
        deny_regions: None of these.
        require_labels: All of these.
    """

    allow_providers: frozenset[str] | None = None
    deny_providers: frozenset[str] = frozenset()
    allow_regions: frozenset[str] | None = None
    deny_regions: frozenset[str] = frozenset()
    require_labels: frozenset[str] = frozenset()

    def and_also(self, other: "Rules") -> "Rules":
        """Both rules at once: a rule is never loosened."""
        return Rules(
            _both(self.allow_providers, other.allow_providers),
            self.deny_providers | other.deny_providers,
            _both(self.allow_regions, other.allow_regions),
            self.deny_regions | other.deny_regions,
            self.require_labels | other.require_labels,
        )


NO_RULES = Rules()
"""Everybody may answer."""


@dataclass(frozen=True, slots=True)
class PriceTier:
    """What a token costs in a request with more input tokens than a threshold.

    Attributes:
        above_tokens: The threshold.
        input_usd_per_token: Price of every input token then.
        output_usd_per_token: Price of every output token then.
    """

    above_tokens: int
    input_usd_per_token: float
    output_usd_per_token: float


@dataclass(frozen=True, slots=True)
class ServicePrices:
    """What tokens cost in requests for another tier of service than the usual one, such as "flex" or "priority".

    Attributes:
        service_tier: The tier; see `prompt.service_tier_in`.
        input_usd_per_token: Price of one input token in USD; None when unknown.
        output_usd_per_token: Price of one output token in USD; None when unknown.
        cached_usd_per_token: Price of one input token read from the provider's prompt cache; None when it has none.
        tiers: Prices of long requests, in rising order of threshold.
    """

    service_tier: str
    input_usd_per_token: float | None
    output_usd_per_token: float | None
    cached_usd_per_token: float | None
    tiers: tuple[PriceTier, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One LLM that may answer.

    Attributes:
        name: What the caller calls it: a LiteLLM model group, one at an effort such as "gpt-5:high", or a canonical id.
        llm: Canonical id of the learned LLM it stands for; None when none does.
        row: That LLM's row in the artifact; None when none does.
        input_usd_per_token: Price of one input token in USD; None when unknown. 0.0 means free.
        output_usd_per_token: Price of one output token in USD; None when unknown.
        max_input_tokens: Context window in tokens; None when unknown.
        lacks: What it is known not to be able to do; what is unknown excludes nobody.
        cached_usd_per_token: Price of one input token read from the provider's prompt cache; None when it has none.
        caches_marked: Whether its provider caches only what a request marks (`cache_control`).
        usd_per_request: What a request costs besides its tokens.
        tiers: Prices of long requests, in rising order of threshold.
        providers: Of its deployments; empty when unknown.
        regions: Of its deployments; empty when unknown.
        labels: What all of its deployments are labelled with.
        closed: Why it takes no request at all, whatever its LLM and prices; None when it takes some.
        known_by: What its LLM is known by: "labels", "published", "family" or "like"; None when it is not known.
        services: Its prices at other tiers of service, where they differ.
        effort: The reasoning effort it is asked with, one of `names.REASONING_EFFORTS`; None leaves the request's.
        at_effort_of: The model group it is at that effort; None without one, when the name is the model group's.
    """

    name: str
    llm: str | None
    row: int | None
    input_usd_per_token: float | None
    output_usd_per_token: float | None
    max_input_tokens: int | None = None
    lacks: frozenset[Capability] = frozenset()
    cached_usd_per_token: float | None = None
    caches_marked: bool = False
    usd_per_request: float = 0.0
    tiers: tuple[PriceTier, ...] = ()
    providers: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    closed: Exclusion | None = None
    known_by: str | None = None
    services: tuple[ServicePrices, ...] = ()
    effort: str | None = None
    at_effort_of: str | None = None

    @property
    def group(self) -> str:
        """The model group that LiteLLM is asked for."""
        return self.name if self.at_effort_of is None else self.at_effort_of

    @property
    def standing_exclusion(self) -> Exclusion | None:
        """Why this candidate can never be chosen, whatever the request."""
        if self.closed is not None:
            return self.closed
        if self.row is None:  # of an LLM that is known by its kind alone, the settings say so
            return Exclusion.LLM_UNKNOWN if self.known_by is None else Exclusion.NOT_GRADED
        if self.input_usd_per_token is None or self.output_usd_per_token is None:
            return Exclusion.PRICE_UNKNOWN
        return None

    def broken_rule(self, rules: Rules) -> Exclusion | None:
        """The first rule it does not keep; None when it keeps them all."""
        if _outside(self.providers, rules.allow_providers, rules.deny_providers):
            return Exclusion.PROVIDER
        if _outside(self.regions, rules.allow_regions, rules.deny_regions):
            return Exclusion.REGION
        return Exclusion.LABEL if rules.require_labels - self.labels else None

    def at(self, service_tier: str) -> "Candidate":
        """The same at the prices of a tier of service; at the usual ones where it has none of its own."""
        prices = next((one for one in self.services if one.service_tier == service_tier), None)
        if prices is None:
            return self
        return replace(
            self,
            input_usd_per_token=prices.input_usd_per_token,
            output_usd_per_token=prices.output_usd_per_token,
            cached_usd_per_token=prices.cached_usd_per_token,
            tiers=prices.tiers,
        )


class CandidatePool:
    """Candidates laid out as arrays once, so that a request costs a handful of vector operations.

    Args:
        candidates: In the order that breaks ties; names are unique.
        average: How they do on prompts such as the weights learned from; None when it is not known.
        by_lower_bound: Whether decisions are made by the lower ends of the intervals of p_correct, so that an LLM of
            which little is known has to be that much better.
    """

    def __init__(
        self, candidates: Sequence[Candidate], average: CandidateAverage | None = None, *, by_lower_bound: bool = False
    ) -> None:
        self.average, self.by_lower_bound = average, by_lower_bound
        self.candidates = tuple(candidates)
        self.names = tuple(c.name for c in self.candidates)
        self.index = {name: i for i, name in enumerate(self.names)}
        self.groups = tuple(c.group for c in self.candidates)
        self.at_efforts = _by_group(self.candidates)
        """Names of candidates by the model group that they are at some effort; empty where no effort is chosen."""
        self.standing = tuple(c.standing_exclusion for c in self.candidates)
        self.standing_codes = np.array([r.code if r else 0 for r in self.standing], dtype=np.int8)
        self.usable = self.standing_codes == 0
        self.rows = np.array([c.row or 0 for c in self.candidates], dtype=np.intp)
        self.scored = self.mask(c.row is not None for c in self.candidates)
        self.lacking = {need: self.mask(need in c.lacks for c in self.candidates) for need in Capability}
        self.max_input_tokens = _column(c.max_input_tokens for c in self.candidates)
        self.has_limits = bool(np.isfinite(self.max_input_tokens).any())
        tiers = {one.service_tier for c in self.candidates for one in c.services}
        self._cost = _Cost(self.candidates)
        self._cost_at = {tier: _Cost(tuple(c.at(tier) for c in self.candidates)) for tier in tiers}
        self.breaking = lru_cache(64)(self._breaking)

    def mask(self, hits: Iterable[bool]) -> Mask:
        """One truth per candidate as an array (n_candidates,)."""
        return np.fromiter(hits, dtype=bool, count=len(self.candidates))

    def too_small(self, input_tokens: int, output_tokens: int) -> Mask:
        """Candidates whose context window does not hold so many tokens; an unknown one holds any."""
        smaller: Mask = self.max_input_tokens < input_tokens + output_tokens
        return smaller

    def lower_bound(self, p_correct: Floats) -> Floats:
        """What decides of predicted probabilities, (n_candidates,): their lower ends, where that was asked for."""
        if not self.by_lower_bound or self.average is None or self.average.logit_sd is None:
            return p_correct
        return _moved(p_correct, -_Z * self.average.logit_sd)

    def interval(self, p_correct: Floats) -> tuple[Floats, Floats]:
        """95 % intervals of the probabilities: how far off they are if the LLMs' abilities are, or a kind of prompt is.

        Args:
            p_correct: (n_candidates,), in [0, 1] or NaN, as `lower_bound` returns it.

        Returns:
            Lower and upper ends, (n_candidates,) each; NaN where nothing is known of the LLM.
        """
        if self.average is None or self.average.logit_sd is None:
            unknown = np.full(len(self.names), np.nan)
            return unknown, unknown
        of_ability = self.average.logit_sd
        middle, wide = of_ability if self.by_lower_bound else np.zeros(()), np.hypot(of_ability, TOPIC_SD)
        return _moved(p_correct, _Z * (middle - wide)), _moved(p_correct, _Z * (middle + wide))

    def expected_cost(
        self, input_tokens: int, output_tokens: Floats, cached_tokens: Mapping[str, int], service_tier: str = ""
    ) -> Floats:
        """What a request is expected to cost.

        Args:
            input_tokens: Of the whole request.
            output_tokens: (n_candidates,), expected of each answer; NaN where unknown.
            cached_tokens: Input tokens in each provider's prompt cache, by candidate; the others have none.
            service_tier: The tier of service it asks for; empty for the usual one.

        Returns:
            USD, (n_candidates,); NaN where a price or the answer's length is unknown.
        """
        cached = [(self.index[name], n) for name, n in cached_tokens.items() if name in self.index]
        return self._cost_at.get(service_tier, self._cost).of(input_tokens, output_tokens, cached)

    def cost_usd(self, name: str, input_tokens: int, output_tokens: int, service_tier: str = "") -> float | None:
        """What so many tokens cost at a candidate's prices; None when it or its price is unknown."""
        index = self.index.get(name)
        if index is None or self.candidates[index].standing_exclusion is Exclusion.PRICE_UNKNOWN:
            return None
        cost = float(
            self.expected_cost(input_tokens, np.full(len(self.names), float(output_tokens)), {}, service_tier)[index]
        )
        return None if np.isnan(cost) else cost

    def at_other_efforts(self, efforts: frozenset[str]) -> Mask:
        """Candidates at an effort that is none of these; those without an effort of their own are not among them."""
        return self.mask(c.effort is not None and c.effort not in efforts for c in self.candidates)

    def _breaking(self, rules: Rules) -> tuple[tuple[Exclusion, Mask], ...]:
        """The candidates that break a rule, by the rule they break; asked again for every request, so remembered."""
        broken = [c.broken_rule(rules) for c in self.candidates]
        return tuple((reason, self.mask(one is reason for one in broken)) for reason in dict.fromkeys(broken) if reason)


@dataclass(slots=True)
class _Cost:
    """The prices of a pool as arrays."""

    candidates: tuple[Candidate, ...]
    input_price: Floats = field(init=False)
    output_price: Floats = field(init=False)
    per_request: Floats = field(init=False)
    thresholds: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.input_price = _column(c.input_usd_per_token for c in self.candidates)
        self.output_price = _column(c.output_usd_per_token for c in self.candidates)
        self.per_request = _column(c.usd_per_request for c in self.candidates)
        self.thresholds = tuple(sorted({tier.above_tokens for c in self.candidates for tier in c.tiers}))

    def of(self, input_tokens: int, output_tokens: Floats, cached: Sequence[tuple[int, int]]) -> Floats:
        input_price, output_price = self._prices(input_tokens)
        cost: Floats = input_tokens * input_price + output_tokens * output_price + self.per_request
        for index, n in cached:
            price = self.candidates[index].cached_usd_per_token
            if price is not None:
                cost[index] -= min(n, input_tokens) * max(input_price[index] - price, 0.0)
        return cost

    def _prices(self, input_tokens: int) -> tuple[Floats, Floats]:
        if not self.thresholds or input_tokens <= self.thresholds[0]:
            return self.input_price, self.output_price
        input_price, output_price = self.input_price.copy(), self.output_price.copy()
        for index, candidate in enumerate(self.candidates):
            for tier in candidate.tiers:  # in rising order: the highest that is exceeded counts
                if input_tokens > tier.above_tokens:
                    input_price[index], output_price[index] = tier.input_usd_per_token, tier.output_usd_per_token
        return input_price, output_price


def _by_group(candidates: Sequence[Candidate]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for one in candidates:
        if one.effort is not None:
            found[one.group] = (*found.get(one.group, ()), one.name)
    return found


def _outside(places: frozenset[str], allowed: frozenset[str] | None, denied: frozenset[str]) -> bool:
    if places & denied:
        return True
    return allowed is not None and (not places or not places <= allowed)


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _column(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
