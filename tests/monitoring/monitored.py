"""A plugin's status as planted, and a LiteLLM callback file that counts, traces and answers health checks.

The callback stands where the plugin stands: in LiteLLM's hooks, in a real proxy.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from recorded import LLMS, START, make_record, make_records

from embedllm_router.records import RequestRecord
from embedllm_router.status import ReloadStatus, Status, StoreHealth, VirtualModelStatus

STATUS = Status(
    version="9.9.9",
    started_at=START,
    generation=3,
    loaded_at=START,
    artifact="0123456789ab",
    artifact_created="2026-01-01",
    artifact_path="weights/planted",
    n_llms=3,
    config_path=None,
    last_reload=ReloadStatus(datetime(2026, 1, 2, tzinfo=UTC)),
    virtual_models=tuple(
        VirtualModelStatus(
            name, "sprinter", {}, tuple(LLMS), {"stranger": "llm_unknown"}, shadow=True, canary_share=0.1
        )
        for name in ("auto", "auto-cheap")
    ),
    decided=0,
    failed_open=0,
    rejected=0,
    pending=4,
    store=StoreHealth("files", "records", written=100, dropped=2, failed=1, queued=7, lag_s=0.5),
)

NOT_LOADED = replace(STATUS, artifact=None, artifact_created=None, last_reload=None)

PROBE = """
import time
from dataclasses import replace

import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth

from embedllm_router import Router
from embedllm_router.events import Routed
from embedllm_router.prometheus_metrics import PrometheusMetrics
from embedllm_router.tracing import Tracer
from embedllm_router.web_health import health_router
from monitored import STATUS
from recorded import make_record

metrics, tracer, router = PrometheusMetrics(lambda: STATUS), Tracer(), Router.load({artifact!r})


class Probe(CustomLogger):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        started = time.time_ns()
        routing = router.route(data["messages"][-1]["content"], cost_weight=20.0)
        routed = Routed(data["litellm_call_id"], "auto", call_type, "sprinter", 0.5, routing.decision)
        parent = user_api_key_dict.parent_otel_span
        tracer.decided(routed, routing, parent=parent, started_ns=started, ended_ns=time.time_ns())
        metrics.observe(make_record(topic="chat"))
        return data


probe = Probe()
proxy_server.app.include_router(
    health_router(
        status=lambda: STATUS,
        metrics_text=metrics.scrape,
        auth=user_api_key_auth,
        metrics_auth=lambda: litellm.require_auth_for_metrics_endpoint is not False,
    )
)
"""
"""A LiteLLM callback file; `{artifact!r}` is to be filled in."""


def write_probe(folder: Path, artifact: Path) -> None:
    """Writes the callback file where a proxy configuration of that folder finds it."""
    (folder / "probe.py").write_text(PROBE.replace("{artifact!r}", repr(str(artifact))))


def sampled(text: str) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """A scrape as values by sample name and labels."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def total(samples: dict[str, dict[frozenset[tuple[str, str]], float]], name: str, **labels: str) -> float:
    """Sum of a sample's values over all label sets that hold the given labels."""
    return sum(value for found, value in samples.get(name, {}).items() if labels.items() <= set(found))


def eventful() -> list[RequestRecord]:
    """Planted records in which everything that is counted happens."""
    rare = [
        make_record(9000, shadow_chosen="wizard", shadow_artifact="f" * 12),
        make_record(9001, shadow_chosen="novice", shadow_artifact="f" * 12),
        make_record(9002, arm="canary", topic="chat"),
        make_record(9003, reason="floor_unreached", floor_met=False, min_p_correct=0.99),
    ]
    return make_records(500) + rare
