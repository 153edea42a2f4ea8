"""The series that are counted, one definition each. What a request adds to them is prometheus_metrics.py's business.

Labels hold names from the configuration and words of this package only, never a key, an id or a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

__all__ = ["Series", "series_of"]

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
        regret: How much likelier the likeliest candidate was to be correct than the chosen one.
        expected_usd: Expected cost of what answered, where its bill is known as well.
        billed_usd: Billed cost, by whether a forecast exists.
        likeliest_usd: Expected cost had the likeliest candidate been taken; what it would have got right is the sum
            of `p_correct` and `regret`.
        cheapest_usd: Expected cost had the cheapest been taken.
        cheapest_correct: Expected number of correct answers of the cheapest.
        step_s: Seconds of each step of a decision.
        route_s: Seconds in the hook, all together.
        latency_s: From the call to its last byte.
        reloads: Attempts to take up changed configuration or weights.
        feedback: Feedback by source, and whether the request is still remembered.
        judged: Feedback on remembered requests.
        judged_score: Sum of its scores.
        judged_p_correct: Sum of what was predicted of the same answers.
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
    step_s: Histogram
    route_s: Histogram
    latency_s: Histogram
    reloads: Counter
    feedback: Counter
    judged: Counter
    judged_score: Counter
    judged_p_correct: Counter

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
        step_s=histogram("step_seconds", "Seconds of one step of a decision.", _STEP_S, "step"),
        route_s=histogram("route_seconds", "Seconds in the routing hook.", _STEP_S),
        latency_s=histogram("latency_seconds", "Seconds from the call to its last byte.", _LATENCY_S, by),
        reloads=counter("reloads_total", "Attempts to take up changed configuration or weights.", "result"),
        feedback=counter("feedback_total", "Feedback; known: the request is remembered here.", "source", "known"),
        judged=counter("judged_answers_total", "Feedback on remembered requests.", by),
        judged_score=counter("judged_score_total", "Sum of the scores of that feedback.", by),
        judged_p_correct=counter("judged_p_correct_total", "Sum of p_correct predicted of those answers.", by),
    )
