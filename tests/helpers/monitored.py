"""A plugin's status and records as planted, and the reading of a scrape."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from recorded import LLMS, START, make_record, make_records

from embedllm_router.records.schema import RequestRecord
from embedllm_router.records.writer.queue import StoreHealth
from embedllm_router.telemetry.status import ReloadStatus, Status, VirtualModelStatus

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
    left_alone={"novice": "resting"},
)

FOLDER = Path(__file__).parents[2] / "examples" / "monitoring"
"""The Grafana dashboard and the alert rules."""
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$job": ".*", "$instance": ".*", "$virtual_model": ".*"}
"""The dashboard's variables, with what a query may have in their place."""

NOT_LOADED = replace(STATUS, artifact=None, artifact_created=None, last_reload=None)


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


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    return found


def panel_queries() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
