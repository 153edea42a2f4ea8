"""What the plugin says of itself → series: the store, the weights, the latest reload.

In one process they are read on every scrape. When several worker processes share a folder (multiprocess mode of
prometheus_client), a scrape sees files only, so a thread keeps this worker's values there up to date.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge, values
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from embedllm_router.telemetry.status import Status

__all__ = ["StatusCollector", "StatusFiles", "several_processes", "show_status"]

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
        yield GaugeMetricFamily(_INFO, _INFO_MEANING, labels=_INFO_LABELS)

    def collect(self) -> Iterator[Metric]:
        """The values of this moment."""
        status = self.status()
        for one in _READINGS:
            family, value = _family(one), one.read(status)
            if value is not None:
                family.add_metric([], value)
            yield family
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

    def _show_weights(self, weights: tuple[str, ...]) -> None:
        if self._weights is not None and self._weights != weights:
            self._info.labels(*self._weights).set(0)
        self._info.labels(*weights).set(1)
        self._weights = weights


_EVERY_S = 5.0
_shown: WeakKeyDictionary[CollectorRegistry, StatusCollector | StatusFiles] = WeakKeyDictionary()
