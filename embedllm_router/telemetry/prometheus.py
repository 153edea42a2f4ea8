"""Counts requests in Prometheus series, and writes the series of this package out for a scrape.

It knows the records, not LiteLLM: LiteLLM's own `/metrics` shows the same series because it serves the same registry.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.routing.overrides import AIMS, BODY_FIELD, COST_WEIGHT_HEADER
from embedllm_router.telemetry.metrics import Exposition
from embedllm_router.telemetry.prometheus_prometheus_series import Series, series_of
from embedllm_router.telemetry.prometheus_prometheus_status import StatusFiles, show_status
from embedllm_router.telemetry.status import Status

__all__ = ["PrometheusMetrics"]

OTHER = "other"
"""Label of a name that the configuration does not hold."""

_PREFIX = "embedllm_"
_FIELDS = frozenset(
    {BODY_FIELD, COST_WEIGHT_HEADER} | {f"{BODY_FIELD}.{name}" for name in (*AIMS, "max_cost_usd", "candidates")}
)
_SOURCES = frozenset({"user", "judge", "import"})
_MAX_WORDS = 30  # reasons and error classes are words of the code, and few; this bounds them all the same
_MAX_REMEMBERED = 20_000  # answered requests that feedback may still come for
_LOOK_AGAIN_S = 5.0

M = TypeVar("M", bound=MetricWrapperBase)


class _Children(dict[tuple[str, ...], M], Generic[M]):
    """The children of a series by their label values, each made once: looking one up is a dict's business."""

    def __init__(self, parent: M) -> None:
        super().__init__()
        self._parent = parent

    def __missing__(self, labels: tuple[str, ...]) -> M:
        child = self[labels] = self._parent.labels(*labels)
        return child


class _Names:
    """Names of the configuration; whatever else comes is "other"."""

    def __init__(self, read: Callable[[], frozenset[str]]) -> None:
        self._read = read
        self._known: frozenset[str] = frozenset()
        self._look_at = 0.0

    def label(self, name: str | None) -> str:
        if name is None:
            return "none"
        return name if name in self._known else self._look_again(name)

    def _look_again(self, name: str) -> str:
        now = time.monotonic()
        if now >= self._look_at:
            self._known, self._look_at = self._read(), now + _LOOK_AGAIN_S
        return name if name in self._known else OTHER


class _Words:
    """The first few words that come; later ones are "other"."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def label(self, word: str) -> str:
        if word not in self._seen:
            if len(self._seen) >= _MAX_WORDS:
                return OTHER
            self._seen.add(word)
        return word


@dataclass(frozen=True, slots=True)
class _Bound:
    """The children that every request of one virtual model and arm adds to."""

    p_correct: Histogram
    expected_usd: Histogram
    billed_usd: Histogram
    regret: Histogram
    latency_s: Histogram
    likeliest_usd: Counter
    cheapest_usd: Counter
    cheapest_correct: Counter
    floor_unmet: Counter


class PrometheusMetrics:
    """Counts into a registry; several of them share the registry's series.

    Args:
        status: What the plugin says of itself; called on scrapes from any thread. Must not raise.
        registry: Where the series are registered. LiteLLM serves the default one.
    """

    def __init__(self, status: Callable[[], Status], registry: CollectorRegistry = REGISTRY) -> None:
        self._series = series_of(registry)
        self._shown = show_status(registry, status)
        self._names = _Names(lambda: self._configured(status()))
        self._words, self._causes = _Words(), _Words()
        self._decisions = _Children(self._series.decisions)
        self._outcomes = _Children(self._series.outcomes)
        self._expected = _Children(self._series.expected_usd)
        self._billed = _Children(self._series.billed_usd)
        self._steps = tuple(self._series.step_s.labels(step) for step in ("encode", "score", "decide"))
        for result in ("ok", "failed"):
            self._series.reloads.labels(result)
        self._bound: dict[tuple[str, str], _Bound] = {}
        self._remembered: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def observe(self, record: RequestRecord) -> None:
        """Counts a request whose outcome is known."""
        model, arm = self._names.label(record.virtual_model), self._words.label(record.arm)
        bound = self._bound.get((model, arm))
        if bound is None:
            bound = self._bound[model, arm] = _bind(self._series, model, arm)
        reason = self._words.label(record.reason)
        self._decisions[model, self._names.label(record.chosen), reason, arm].inc()
        if record.p_correct is not None:
            _observe_choice(record, bound)
        self._observe_times(record, bound)
        self._observe_outcome(record, model, arm, bound)
        if record.failed_open is not None or record.fallback or record.shadow_chosen is not None:
            self._observe_rare(record, model)

    def rejected(self, virtual_model: str, field: str) -> None:
        """Counts a request that was refused because of what the client wished."""
        named = field if field in _FIELDS else OTHER
        self._series.rejected.labels(self._names.label(virtual_model), named).inc()

    def reloaded(self, *, ok: bool) -> None:
        """Counts an attempt to take up changed configuration or weights."""
        self._series.reloads.labels("ok" if ok else "failed").inc()

    def feedback(self, record: FeedbackRecord) -> None:
        """Counts what somebody thought of an answer, beside what had been predicted of it."""
        found = self._remembered.get(record.request_id)
        source = record.source.split(":", 1)[0]
        self._series.feedback.labels(source if source in _SOURCES else OTHER, "yes" if found else "no").inc()
        if found is not None:
            model, p_correct = found
            self._series.judged.labels(model).inc()
            self._series.judged_score.labels(model).inc(_amount(record.score))
            self._series.judged_p_correct.labels(model).inc(p_correct)

    def scrape(self, accept: str = "") -> Exposition:
        """Writes the series of this package out."""
        encode, content_type = choose_encoder(accept)
        if isinstance(self._shown, StatusFiles):
            self._shown.refresh()
        return Exposition(encode(_Ours(self._collect)), content_type)

    def _configured(self, status: Status) -> frozenset[str]:
        models = status.virtual_models
        for one in models:  # a rate needs the sample before the first event: 0
            self._series.decisions.labels(one.name, one.default, "failed_open", "live")
        groups = (group for m in models for group in (*m.candidates, *m.excluded, m.default))
        return frozenset((*(m.name for m in models), *groups))

    def _collect(self) -> Iterator[Metric]:
        if isinstance(self._shown, StatusFiles):
            everyone = MultiProcessCollector(None)  # type: ignore[no-untyped-call]  # left untyped by prometheus_client
            yield from (one for one in everyone.collect() if one.name.startswith(_PREFIX))  # type: ignore[no-untyped-call]
            return
        yield from self._shown.collect()
        for series in self._series.collectors():
            yield from series.collect()

    def _observe_times(self, record: RequestRecord, bound: _Bound) -> None:
        self._series.route_s.observe(record.route_ms / 1e3)
        for step, took_ms in zip(self._steps, (record.encode_ms, record.score_ms, record.decide_ms), strict=True):
            if took_ms is not None:
                step.observe(took_ms / 1e3)
        if record.latency_ms is not None:
            bound.latency_s.observe(record.latency_ms / 1e3)

    def _observe_outcome(self, record: RequestRecord, model: str, arm: str, bound: _Bound) -> None:
        served = self._names.label(record.served)
        self._outcomes[model, served, self._words.label(record.status), arm].inc()
        if record.served_p_correct is not None:
            self._remember(record, model, record.served_p_correct)
        if record.billed_cost_usd is None:
            return
        billed, expected = _amount(record.billed_cost_usd), _expected_of_served(record)
        bound.billed_usd.observe(billed)
        self._billed[model, served, "no" if expected is None else "yes"].inc(billed)
        if expected is not None:
            self._expected[model, served].inc(_amount(expected))

    def _observe_rare(self, record: RequestRecord, model: str) -> None:
        if record.failed_open is not None:
            self._series.failed_open.labels(model, self._causes.label(record.failed_open)).inc()
        if record.fallback:
            chosen, served = self._names.label(record.chosen), self._names.label(record.served)
            self._series.fallbacks.labels(model, chosen, served).inc()
        if record.shadow_chosen is not None:
            agrees = "yes" if record.shadow_chosen == record.chosen else "no"
            self._series.shadow.labels(model, agrees).inc()

    def _remember(self, record: RequestRecord, model: str, p_correct: float) -> None:
        for one in (record.request_id, record.response_id):
            if one is not None:
                self._remembered[one] = (model, p_correct)
        while len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)


class _Ours(CollectorRegistry):
    """What prometheus_client's encoders need of a registry: something to collect."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        super().__init__()
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def _bind(series: Series, model: str, arm: str) -> _Bound:
    return _Bound(
        p_correct=series.p_correct.labels(model, arm),
        expected_usd=series.request_usd.labels(model, "expected", arm),
        billed_usd=series.request_usd.labels(model, "billed", arm),
        regret=series.regret.labels(model, arm),
        latency_s=series.latency_s.labels(model),
        likeliest_usd=series.likeliest_usd.labels(model, arm),
        cheapest_usd=series.cheapest_usd.labels(model, arm),
        cheapest_correct=series.cheapest_correct.labels(model, arm),
        floor_unmet=series.floor_unmet.labels(model),
    )


def _observe_choice(record: RequestRecord, bound: _Bound) -> None:
    p_correct = _amount(record.p_correct)
    bound.p_correct.observe(p_correct)
    bound.expected_usd.observe(_amount(record.expected_cost_usd))
    bound.regret.observe(max(_amount(record.likeliest_p_correct) - p_correct, 0.0))
    bound.likeliest_usd.inc(_amount(record.likeliest_cost_usd))
    bound.cheapest_usd.inc(_amount(record.cheapest_cost_usd))
    bound.cheapest_correct.inc(_amount(record.cheapest_p_correct))
    if record.floor_met is False:
        bound.floor_unmet.inc()


def _expected_of_served(record: RequestRecord) -> float | None:
    if not record.fallback:
        return record.expected_cost_usd
    return next((c.cost_usd for c in record.candidates if c.name == record.served), None)


def _amount(value: float | None) -> float:
    """What may be added to a counter: a number that is no NaN, infinity or less than 0."""
    return value if value is not None and 0.0 <= value < math.inf else 0.0
