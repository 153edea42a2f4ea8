"""The dashboard and the alert rules: they parse, and name only series that a scrape has."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitored import FOLDER, STATUS, VARIABLES, dashboard, eventful, panel_queries, sampled
from prometheus_client import CollectorRegistry
from recorded import START

from embedllm_router.records.schema import FeedbackRecord
from embedllm_router.telemetry.prometheus import PrometheusMetrics

NAME = re.compile(r"\bembedllm_[a-z_]+\b")
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def queries() -> Iterator[str]:
    yield from panel_queries()
    yield from (one["expr"] for one in dashboard()["annotations"]["list"] if "expr" in one)
    yield from (rule["expr"] for rule in rules())


@pytest.fixture(scope="module")
def scraped() -> set[str]:
    """Names of all samples after everything that is counted has happened."""
    metrics = PrometheusMetrics(lambda: STATUS, CollectorRegistry())
    for record in eventful():
        metrics.observe(record)
    metrics.rejected("auto", "embedllm.cost_weight")
    metrics.feedback(FeedbackRecord(at=START, request_id="request-1", score=1.0, source="user"))
    metrics.judged("auto", 0.01, 0.001, 2)
    metrics.not_judged("auto", "judge_rests")
    samples = sampled(metrics.scrape().body.decode())
    return {name for name, values in samples.items() if values}


def test_every_series_that_is_asked_for_exists(scraped: set[str]) -> None:
    variables = " ".join(one["definition"] for one in dashboard()["templating"]["list"] if "definition" in one)
    asked = {name for query in (*queries(), variables) for name in NAME.findall(query)}
    assert len(asked) > 20
    assert asked <= scraped


def test_every_series_is_shown_somewhere(scraped: set[str]) -> None:
    """What nobody looks at need not be counted."""
    series = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in scraped if not name.endswith("_created")}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for query in queries() for name in NAME.findall(query)}
    assert series - shown <= {"embedllm_last_reload_timestamp_seconds", "embedllm_feedback_total"}


def test_labels_that_are_asked_for_exist() -> None:
    metrics = PrometheusMetrics(lambda: STATUS, CollectorRegistry())
    for record in eventful():
        metrics.observe(record)
    text = metrics.scrape().body.decode()
    known = {"job", "instance", "le"} | {k for by in sampled(text).values() for labels in by for k, _ in labels}
    asked = {name for query in queries() for by in re.findall(r"\bby \(([^)]+)\)", query) for name in by.split(", ")}
    known |= {"cause", "field", "result", "paid_for"}
    assert {"llm", "virtual_model"} <= asked <= known


def test_panels_do_not_overlap_and_have_one_id_each() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_dashboard_asks_the_data_source_that_is_picked() -> None:
    found = dashboard()
    assert found["templating"]["list"][0]["name"] == "datasource"
    shown = [panel for panel in found["panels"] if panel["type"] != "row"]
    assert all(panel["description"] for panel in shown)
    for one in [*shown, *(target for panel in shown for target in panel["targets"])]:
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 8
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    documented = (FOLDER.parents[1] / "docs" / "monitoring.md").read_text()
    assert all(f"`{name}`" in documented for name in names)


def test_every_series_is_documented(scraped: set[str]) -> None:
    documented = (FOLDER.parents[1] / "docs" / "monitoring.md").read_text()
    series = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in scraped if not name.endswith("_created")}
    assert {name for name in series if f"`{name}`" not in documented} == set()


@needs_promtool
def test_every_query_of_the_dashboard_parses(tmp_path: Path) -> None:
    asked = list(panel_queries())
    for variable, value in VARIABLES.items():
        asked = [query.replace(variable, value) for query in asked]
    assert not any("$" in query for query in asked)
    recorded = [{"record": f"panel:{i}", "expr": query} for i, query in enumerate(asked)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    assert f"{len(asked)} rules found" in promtool("check", "rules", str(file))


@needs_promtool
def test_the_alerts_parse_and_fire_when_they_should() -> None:
    assert "SUCCESS" in promtool("check", "rules", "alerts.yaml")
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yaml")


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
