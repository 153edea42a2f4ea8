"""Counts requests in Prometheus series, and writes the series of this package out for a scrape.

It knows the records, not LiteLLM: LiteLLM's own `/metrics` shows the same series because it serves the same registry.

The series that are counted, one definition each. What a request adds to them is prometheus_metrics.py's business.

Labels hold names from the configuration and words of this package only, never a key, an id or a text.

What the plugin says of itself → series: the store, the weights, the latest reload.

In one process they are read on every scrape. When several worker processes share a folder (multiprocess mode of
prometheus_client), a scrape sees files only, so a thread keeps this worker's values there up to date.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.routing.overrides import AIMS, BODY_FIELD, COST_WEIGHT_HEADER
from embedllm_router.telemetry.metrics import Exposition
from embedllm_router.telemetry.status import Status

__all__ = [
    "PrometheusMetrics",
    "Series",
    "StatusCollector",
    "StatusFiles",
    "series_of",
    "several_processes",
    "show_status",
]

_P = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
_USD = (0.0, 1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
_REGRET = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_STEP_S = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5)
_LATENCY_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)


@dataclass(frozen=True, slots=True)
class Series:
    """What is counted of requests, reloads and feedback.

    Attributes:
        decisions: Requests by what was chosen and why.
        outcomes: Requests by what answered and how it ended.
        failed_open: Requests the default answered, by class of the error in us.
        floor_unmet: Requests for which no candidate reached the floor under p_correct.
        fallbacks: Requests another group answered than the chosen one.
        rejected: Requests refused for what the client wished.
        shadow: Shadow decisions, by whether they agree with the live one.
        p_correct: Predicted probability of the chosen one.
        request_usd: Cost of a request, expected of the chosen one and billed.
        regret: How far the p_correct of the chosen candidate was below the highest one.
        expected_usd: Expected cost of what answered, where its bill is known as well.
        billed_usd: Billed cost, by whether a forecast exists.
        likeliest_usd: Expected cost had the likeliest candidate been taken; what it would have got right is the sum
            of `p_correct` and `regret`.
        cheapest_usd: Expected cost had the cheapest been taken.
        cheapest_correct: Expected number of correct answers of the cheapest.
        baseline_usd: Expected cost had the baseline been taken, of requests it could have taken; so are the next three.
        baseline_correct: Expected number of correct answers of the baseline.
        baseline_routed_usd: Expected cost of the chosen ones.
        baseline_routed_correct: Expected number of correct answers of the chosen ones.
        step_s: Seconds of each step of a decision.
        route_s: Seconds in the hook, all together.
        latency_s: From the call to its last byte.
        reloads: Attempts to take up changed configuration or weights.
        feedback: Feedback by source, and whether the request is still remembered.
        judged: Feedback on remembered requests.
        judged_score: Sum of its scores.
        judged_p_correct: Sum of what was predicted of the same answers.
        judging_usd: What judged evaluation cost, by what for: other LLMs' answers or judges.
        judging_verdicts: Scores that it gave.
        judging_left_out: Requests that were drawn for it and not judged, by reason.
    """

    decisions: Counter
    outcomes: Counter
    failed_open: Counter
    floor_unmet: Counter
    fallbacks: Counter
    rejected: Counter
    shadow: Counter
    p_correct: Histogram
    request_usd: Histogram
    regret: Histogram
    expected_usd: Counter
    billed_usd: Counter
    likeliest_usd: Counter
    cheapest_usd: Counter
    cheapest_correct: Counter
    baseline_usd: Counter
    baseline_correct: Counter
    baseline_routed_usd: Counter
    baseline_routed_correct: Counter
    step_s: Histogram
    route_s: Histogram
    latency_s: Histogram
    reloads: Counter
    feedback: Counter
    judged: Counter
    judged_score: Counter
    judged_p_correct: Counter
    judging_usd: Counter
    judging_verdicts: Counter
    judging_left_out: Counter

    def collectors(self) -> list[MetricWrapperBase]:
        """All of them."""
        return [getattr(self, name) for name in self.__slots__]


_defined: WeakKeyDictionary[CollectorRegistry, Series] = WeakKeyDictionary()


def series_of(registry: CollectorRegistry) -> Series:
    """The series of a registry; a registry takes each name once, so they are made once and shared.

    Args:
        registry: Where they are registered.

    Returns:
        The series.
    """
    if registry not in _defined:
        _defined[registry] = _define(registry)
    return _defined[registry]


def _define(registry: CollectorRegistry) -> Series:
    def counter(name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"embedllm_{name}", meaning, labels, registry=registry)

    def histogram(name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"embedllm_{name}", meaning, labels, registry=registry, buckets=buckets)

    by = "virtual_model"
    return Series(
        decisions=counter("decisions_total", "Requests routed, by choice and reason.", by, "llm", "reason", "arm"),
        outcomes=counter("outcomes_total", "Requests by what answered and how it ended.", by, "llm", "status", "arm"),
        failed_open=counter("failed_open_total", "Requests the default answered: routing failed.", by, "cause"),
        floor_unmet=counter("floor_unmet_total", "Requests no candidate reached the p_correct floor for.", by),
        fallbacks=counter("fallbacks_total", "Requests another group answered.", by, "chosen", "served"),
        rejected=counter("rejected_total", "Requests refused for what the client wished.", by, "field"),
        shadow=counter("shadow_decisions_total", "Shadow decisions, by agreement with the live one.", by, "agrees"),
        p_correct=histogram("p_correct", "Predicted probability of a correct answer.", _P, by, "arm"),
        request_usd=histogram("request_cost_usd", "Cost of a request in USD.", _USD, by, "kind", "arm"),
        regret=histogram("regret", "p_correct of the likeliest minus the chosen one's.", _REGRET, by, "arm"),
        expected_usd=counter("expected_cost_usd_total", "Expected USD of answers whose bill is known.", by, "llm"),
        billed_usd=counter("billed_cost_usd_total", "Billed USD; forecast: was it predicted.", by, "llm", "forecast"),
        likeliest_usd=counter("likeliest_cost_usd_total", "Expected USD had the likeliest been chosen.", by, "arm"),
        cheapest_usd=counter("cheapest_cost_usd_total", "Expected USD had the cheapest been chosen.", by, "arm"),
        cheapest_correct=counter("cheapest_p_correct_total", "Expected correct answers, likewise.", by, "arm"),
        baseline_usd=counter("baseline_cost_usd_total", "Expected USD had the baseline been chosen.", by, "arm"),
        baseline_correct=counter("baseline_p_correct_total", "Expected correct answers, likewise.", by, "arm"),
        baseline_routed_usd=counter("baseline_routed_cost_usd_total", "Expected USD of the same, routed.", by, "arm"),
        baseline_routed_correct=counter("baseline_routed_p_correct_total", "Expected correct answers.", by, "arm"),
        step_s=histogram("step_seconds", "Seconds of one step of a decision.", _STEP_S, "step"),
        route_s=histogram("route_seconds", "Seconds in the routing hook.", _STEP_S),
        latency_s=histogram("latency_seconds", "Seconds from the call to its last byte.", _LATENCY_S, by),
        reloads=counter("reloads_total", "Attempts to take up changed configuration or weights.", "result"),
        feedback=counter("feedback_total", "Feedback; known: the request is remembered here.", "source", "known"),
        judged=counter("judged_answers_total", "Feedback on remembered requests.", by),
        judged_score=counter("judged_score_total", "Sum of the scores of that feedback.", by),
        judged_p_correct=counter("judged_p_correct_total", "Sum of p_correct predicted of those answers.", by),
        judging_usd=counter("judging_cost_usd_total", "USD that judged evaluation cost.", by, "paid_for"),
        judging_verdicts=counter("judging_verdicts_total", "Verdicts of judged evaluation.", by),
        judging_left_out=counter("judging_left_out_total", "Requests drawn for it and not judged.", by, "reason"),
    )


Merge = Literal["livesum", "livemax", "livemin"]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One number of the status.

    Attributes:
        name: Of the series.
        meaning: Its help text.
        read: Its value; None when there is none.
        merge: What several workers' values become; None for a count, which adds up.
    """

    name: str
    meaning: str
    read: Callable[[Status], float | None]
    merge: Merge | None


def _reload_at(status: Status) -> float | None:
    return status.last_reload.at.timestamp() if status.last_reload else None


def _reload_ok(status: Status) -> float | None:
    return float(status.last_reload.error is None) if status.last_reload else None


_READINGS = (
    _Reading("embedllm_ready", "Whether routing is at work.", lambda s: float(s.not_ready is None), "livemin"),
    _Reading("embedllm_generation", "How often configuration and weights loaded.", lambda s: s.generation, "livemax"),
    _Reading("embedllm_pending_requests", "Requests whose outcome is awaited.", lambda s: s.pending, "livesum"),
    _Reading("embedllm_last_reload_timestamp_seconds", "When the latest reload was tried.", _reload_at, "livemax"),
    _Reading("embedllm_last_reload_success", "Whether the latest reload succeeded.", _reload_ok, "livemin"),
    _Reading("embedllm_store_queued_records", "Records waiting.", lambda s: s.store.queued, "livesum"),
    _Reading("embedllm_store_lag_seconds", "Age of the oldest waiting record.", lambda s: s.store.lag_s, "livemax"),
    _Reading("embedllm_store_written_records_total", "Records written.", lambda s: s.store.written, None),
    _Reading("embedllm_store_dropped_records_total", "Records lost.", lambda s: s.store.dropped, None),
    _Reading("embedllm_store_failed_writes_total", "Failed attempts to write.", lambda s: s.store.failed, None),
)
_LEFT_ALONE = "embedllm_llm_left_alone"
_LEFT_ALONE_MEANING = "Worker processes that send no request to a model group at the moment, by reason."
_LEFT_ALONE_LABELS = ("llm", "reason")
_INFO = "embedllm_artifact_info"
_INFO_MEANING = "Worker processes that route with these weights; 0 once they route with others."
_INFO_LABELS = ("artifact", "created", "version", "store")


def _info(status: Status) -> tuple[str, str, str, str]:
    return (status.artifact or "none", status.artifact_created or "unknown", status.version, status.store.kind)


def several_processes() -> bool:
    """Whether prometheus_client keeps values in files that worker processes share; it decides so when imported."""
    return values.ValueClass is not values.MutexValue


def show_status(registry: CollectorRegistry, status: Callable[[], Status]) -> "StatusCollector | StatusFiles":
    """Shows the status wherever the registry is scraped; the latest one given to a registry is the one shown.

    Args:
        registry: The registry that is scraped.
        status: What the plugin says of itself.

    Returns:
        What reads it.
    """
    shown = _shown.get(registry)
    if shown is not None:
        shown.status = status
        return shown
    if several_processes():
        shown = StatusFiles(status)
        shown.keep_fresh(_EVERY_S)
    else:
        shown = StatusCollector(status)
        registry.register(shown)
    _shown[registry] = shown
    return shown


class StatusCollector:
    """Reads the status on every scrape.

    Args:
        status: What the plugin says of itself.
    """

    def __init__(self, status: Callable[[], Status]) -> None:
        self.status = status

    def describe(self) -> Iterator[Metric]:
        """The names, so that a registry need not read the status to know them."""
        yield from map(_family, _READINGS)
        yield GaugeMetricFamily(_LEFT_ALONE, _LEFT_ALONE_MEANING, labels=_LEFT_ALONE_LABELS)
        yield GaugeMetricFamily(_INFO, _INFO_MEANING, labels=_INFO_LABELS)

    def collect(self) -> Iterator[Metric]:
        """The values of this moment."""
        status = self.status()
        for one in _READINGS:
            family, value = _family(one), one.read(status)
            if value is not None:
                family.add_metric([], value)
            yield family
        left_alone = GaugeMetricFamily(_LEFT_ALONE, _LEFT_ALONE_MEANING, labels=_LEFT_ALONE_LABELS)
        for labels in status.left_alone.items():
            left_alone.add_metric(labels, 1)
        yield left_alone
        info = GaugeMetricFamily(_INFO, _INFO_MEANING, labels=_INFO_LABELS)
        info.add_metric(_info(status), 1)
        yield info


def _family(reading: _Reading) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if reading.merge is None else GaugeMetricFamily
    return kind(reading.name, reading.meaning)


class StatusFiles:
    """Keeps the status in the folder that worker processes share.

    Args:
        status: What the plugin says of itself.
    """

    def __init__(self, status: Callable[[], Status]) -> None:
        self.status = status
        self._own = CollectorRegistry()  # scrapes read the files; a registry would only show this worker's values
        self._gauges: dict[str, Gauge] = {}  # made with their first value: until then the files hold none
        self._counters: dict[str, Counter] = {}
        self._counted: dict[str, float] = {}
        self._info = Gauge(_INFO, _INFO_MEANING, _INFO_LABELS, registry=self._own, multiprocess_mode="livesum")
        self._weights: tuple[str, ...] | None = None
        self._left_alone = Gauge(
            _LEFT_ALONE, _LEFT_ALONE_MEANING, _LEFT_ALONE_LABELS, registry=self._own, multiprocess_mode="livesum"
        )
        self._shown: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def keep_fresh(self, every_s: float) -> None:
        """Writes the values again and again, from a thread that ends with the process."""

        def run() -> None:
            pause = threading.Event()
            while not pause.wait(every_s):
                self.refresh()

        threading.Thread(target=run, name="embedllm-metrics", daemon=True).start()

    def refresh(self) -> None:
        """Writes the values of this moment."""
        with self._lock:
            status = self.status()
            for reading in _READINGS:
                value = reading.read(status)
                if value is not None:
                    self._put(reading, float(value))
            self._show_left_alone(set(status.left_alone.items()))
            self._show_weights(_info(status))

    def _put(self, one: _Reading, value: float) -> None:
        if one.merge is None:
            self._count(one, value)
            return
        if one.name not in self._gauges:
            self._gauges[one.name] = Gauge(one.name, one.meaning, registry=self._own, multiprocess_mode=one.merge)
        self._gauges[one.name].set(value)

    def _count(self, one: _Reading, value: float) -> None:
        if one.name not in self._counters:
            self._counters[one.name] = Counter(one.name, one.meaning, registry=self._own)
        before = self._counted.get(one.name, 0.0)
        self._counters[one.name].inc(value - before if value >= before else value)  # less: counted anew from 0
        self._counted[one.name] = value

    def _show_left_alone(self, left_alone: set[tuple[str, str]]) -> None:
        for labels in self._shown | left_alone:
            self._left_alone.labels(*labels).set(float(labels in left_alone))
        self._shown |= left_alone

    def _show_weights(self, weights: tuple[str, ...]) -> None:
        if self._weights is not None and self._weights != weights:
            self._info.labels(*self._weights).set(0)
        self._info.labels(*weights).set(1)
        self._weights = weights


_EVERY_S = 5.0
_shown: WeakKeyDictionary[CollectorRegistry, StatusCollector | StatusFiles] = WeakKeyDictionary()


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
        if record.baseline is not None:
            _observe_baseline(self._series, record, model, arm)
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

    def judged(self, virtual_model: str, answers_usd: float, judges_usd: float, n_verdicts: int) -> None:
        """Counts a request that judged evaluation took up."""
        model = self._names.label(virtual_model)
        self._series.judging_usd.labels(model, "answers").inc(_amount(answers_usd))
        self._series.judging_usd.labels(model, "judges").inc(_amount(judges_usd))
        self._series.judging_verdicts.labels(model).inc(n_verdicts)

    def not_judged(self, virtual_model: str, reason: str) -> None:
        """Counts a request that was drawn for judged evaluation and not judged."""
        self._series.judging_left_out.labels(self._names.label(virtual_model), self._words.label(reason)).inc()

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


def _observe_baseline(series: Series, record: RequestRecord, model: str, arm: str) -> None:
    series.baseline_usd.labels(model, arm).inc(_amount(record.baseline_cost_usd))
    series.baseline_correct.labels(model, arm).inc(_amount(record.baseline_p_correct))
    series.baseline_routed_usd.labels(model, arm).inc(_amount(record.expected_cost_usd))
    series.baseline_routed_correct.labels(model, arm).inc(_amount(record.p_correct))


def _expected_of_served(record: RequestRecord) -> float | None:
    if not record.fallback:
        return record.expected_cost_usd
    return next((c.cost_usd for c in record.candidates if c.name == record.served), None)


def _amount(value: float | None) -> float:
    """What may be added to a counter: a number that is no NaN, infinity or less than 0."""
    return value if value is not None and 0.0 <= value < math.inf else 0.0
