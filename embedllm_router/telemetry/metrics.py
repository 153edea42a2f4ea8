"""Counts what routing does, whether or not prometheus_client is installed; the series are in prometheus.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.telemetry.status import Status

__all__ = ["Exposition", "Metrics", "NoMetrics", "open_metrics"]


@dataclass(frozen=True, slots=True)
class Exposition:
    """What a scrape answers.

    Attributes:
        body: The samples, encoded.
        content_type: Of the body.
    """

    body: bytes
    content_type: str


class Metrics(Protocol):
    """Takes what is to be counted. No method blocks or raises; all may be called from any thread."""

    def observe(self, record: RequestRecord) -> None:
        """Counts a request whose outcome is known."""

    def rejected(self, virtual_model: str, field: str) -> None:
        """Counts a request that was refused because of what the client wished.

        Args:
            virtual_model: Name the client asked for.
            field: Field or header at fault.
        """

    def reloaded(self, *, ok: bool) -> None:
        """Counts an attempt to take up changed configuration or weights."""

    def feedback(self, record: FeedbackRecord) -> None:
        """Counts what somebody thought of an answer, beside what had been predicted of it."""

    def judged(self, virtual_model: str, answers_usd: float, judges_usd: float, n_verdicts: int) -> None:
        """Counts a request that judged evaluation took up.

        Args:
            virtual_model: Name the client asked for.
            answers_usd: What other LLMs' answers cost.
            judges_usd: What the judge cost.
            n_verdicts: Scores that came of it.
        """

    def not_judged(self, virtual_model: str, reason: str) -> None:
        """Counts a request that was drawn for judged evaluation and not judged."""

    def scrape(self, accept: str = "") -> Exposition | None:
        """Writes the series of this package out.

        Args:
            accept: The `Accept` header of the scrape.

        Returns:
            The samples; None when nothing is counted.
        """


class NoMetrics:
    """Counts nothing."""

    def observe(self, record: RequestRecord) -> None:
        """Ignores it."""

    def rejected(self, virtual_model: str, field: str) -> None:
        """Ignores it."""

    def reloaded(self, *, ok: bool) -> None:
        """Ignores it."""

    def feedback(self, record: FeedbackRecord) -> None:
        """Ignores it."""

    def judged(self, virtual_model: str, answers_usd: float, judges_usd: float, n_verdicts: int) -> None:
        """Ignores it."""

    def not_judged(self, virtual_model: str, reason: str) -> None:
        """Ignores it."""

    def scrape(self, accept: str = "") -> Exposition | None:
        """Has nothing to say."""
        del accept
        return None


def open_metrics(status: Callable[[], Status], log: FilteringBoundLogger, *, enabled: bool = True) -> Metrics:
    """Starts counting into the registry that LiteLLM's own `/metrics` serves.

    Args:
        status: What the plugin says of itself; called on every scrape, from any thread. Must not raise.
        log: Where a missing library is reported.
        enabled: Whether the settings ask for metrics.

    Returns:
        What counts; something that counts nothing when metrics are off or prometheus_client is not installed.
    """
    if not enabled:
        return NoMetrics()
    try:
        from embedllm_router.telemetry.prometheus import PrometheusMetrics  # noqa: PLC0415 - an optional library
    except ImportError as error:
        log.warning("routing.metrics_off", missing=error.name, remedy="pip install prometheus-client")
        return NoMetrics()
    return PrometheusMetrics(status)
