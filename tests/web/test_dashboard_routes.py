"""The routes: who may see what, what is refused and how clearly, and what travels with the page's files."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pages import KEY, application, application_over, wants_key
from recorded import make_record, make_records
from traffic import write_lines

import embedllm_router.web
from embedllm_router.artifact.weights import Artifact
from embedllm_router.errors import DataError
from embedllm_router.records.reader.source import RecordSource
from embedllm_router.web.dashboard import dashboard_router

STATIC = Path(embedllm_router.web.__file__).parent / "static"
CHART_JS = "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2"
"""SHA-256 of chart.umd.min.js in the npm package chart.js 4.6.1."""
WITH_KEY = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def client(tmp_path: Path, artifact: Artifact) -> Iterator[TestClient]:
    write_lines(tmp_path, make_records(50))
    with TestClient(application(tmp_path, artifact)) as opened:
        yield opened


@pytest.fixture
def guarded(tmp_path: Path, artifact: Artifact) -> Iterator[TestClient]:
    write_lines(tmp_path, make_records(50))
    with TestClient(application(tmp_path, artifact, auth=wants_key)) as opened:
        yield opened


def api_paths() -> list[str]:
    """Every route that gives data, as the application has them."""
    app = FastAPI()
    nobody = dashboard_router(auth=wants_key, status=_unused, source=_unused, artifact=_unused)
    app.include_router(nobody)
    found = [path for route in nobody.routes if (path := getattr(route, "path", "")).startswith("/embedllm/api/")]
    assert len(found) >= 9
    return found


def _unused() -> NoReturn:
    raise AssertionError("nothing is looked at without a key")


@pytest.mark.parametrize("path", api_paths())
def test_no_data_without_a_key(path: str) -> None:
    app = FastAPI()
    app.include_router(dashboard_router(auth=wants_key, status=_unused, source=_unused, artifact=_unused))
    with TestClient(app) as client:
        for headers in ({}, {"Authorization": "Bearer sk-wrong"}, {"x-api-key": KEY}):
            answer = client.get(path, headers=headers, params={"request_id": "x"})
            assert answer.status_code == 401, path
            assert "key is not valid" in answer.json()["detail"]


def test_every_route_but_the_files_is_under_the_guarded_prefix() -> None:
    router = dashboard_router(auth=wants_key, status=_unused, source=_unused, artifact=_unused)
    open_to_all = {path for route in router.routes if "/api/" not in (path := getattr(route, "path", ""))}
    assert open_to_all == {"/embedllm", "/embedllm/", "/embedllm/static/{name:path}"}
    assert all(getattr(route, "methods", set()) <= {"GET", "HEAD"} for route in router.routes)


def test_a_key_opens_every_view(guarded: TestClient) -> None:
    for path in api_paths():
        given = {"request_id": "request-3", "range": "all", "cost_weight": "5"}
        given |= {"virtual_model": "auto"} if path.endswith("/setting") else {}
        answer = guarded.get(path, headers=WITH_KEY, params=given)
        assert answer.status_code == 200, (path, answer.text)
        assert answer.headers["cache-control"] == "no-store"
        kind = "text/csv; charset=utf-8" if path.endswith(".csv") else "application/json"
        assert answer.headers["content-type"] == kind


def test_without_a_master_key_no_key_is_needed(client: TestClient) -> None:
    assert client.get("/embedllm/api/overview?range=all").json()["total"]["requests"] == 50


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("overview?range=5y", "range"),
        ("overview?until=yesterday", "until"),
        ("overview?virtual_model=", "virtual_model"),
        (f"overview?key_alias={'k' * 201}", "key_alias"),
        ("frontier?n=0", "n"),
        ("frontier?n=2001", "n"),
        ("frontier?n=many", "n"),
        ("frontier?requests_per_month=0", "requests_per_month"),
        ("setting?virtual_model=auto&cost_weight=-1", "cost_weight"),
        ("decisions?page=0", "page"),
        ("decisions?per_page=101", "per_page"),
        ("decisions?only=everything", "only"),
        (f"decisions?q={'q' * 201}", "q"),
        ("decision", "request_id"),
        ("decision?request_id=a&at=noon", "at"),
        ("overview?range=24h&until=0001-01-01T00:00:00", "until"),
        ("calibration?range=24h&until=9999-12-31T23:59:59-12:00", "until"),
        ("decision?request_id=a&at=9999-12-31T23:59:59-12:00", "at"),
    ],
)
def test_a_bad_parameter_is_named(client: TestClient, query: str, names: str) -> None:
    answer = client.get(f"/embedllm/api/{query}")
    assert answer.status_code == 422
    assert names in answer.json()["detail"][0]["loc"]


def test_paging_too_deep_says_what_to_do_instead(client: TestClient) -> None:
    answer = client.get("/embedllm/api/decisions?page=201&per_page=50")
    assert answer.status_code == 400
    assert "beyond the 10,000 newest; narrow the search" in answer.json()["detail"]
    assert client.get("/embedllm/api/decisions?page=200&per_page=50&range=all").status_code == 200


def test_an_unknown_request_is_a_404(client: TestClient) -> None:
    answer = client.get("/embedllm/api/decision", params={"request_id": "nobody's"})
    assert (answer.status_code, answer.json()["detail"]) == (404, 'no record of request "nobody\'s"')


def test_a_time_with_a_zone_is_understood(client: TestClient) -> None:
    """The planted day begins at midnight UTC, which is one o'clock in Berlin."""
    whole = {"range": "all", "until": "2026-01-01T01:00:30+01:00"}
    assert client.get("/embedllm/api/overview", params=whole).json()["total"]["requests"] == 30


def test_times_say_that_they_are_utc(client: TestClient) -> None:
    row = client.get("/embedllm/api/decisions?range=all").json()["rows"][0]
    assert row["at"] == "2026-01-01T00:00:49Z"


def test_records_that_cannot_be_read_are_an_answer_and_health_goes_on(artifact: Artifact) -> None:
    def broken() -> RecordSource:
        raise DataError("a record file cannot be read: it is torn. Move it away or repair it.")

    with TestClient(application_over(broken, artifact)) as client:
        answer = client.get("/embedllm/api/overview")
        assert (answer.status_code, answer.json()["detail"][:30]) == (503, "a record file cannot be read: ")
        assert client.get("/embedllm/api/health").json()["status"]["artifact"] == artifact.id


def test_without_weights_health_says_so(tmp_path: Path) -> None:
    with TestClient(application(tmp_path, None)) as client:
        assert client.get("/embedllm/api/health").json()["not_ready"] == "no weights could be loaded"
        assert client.get("/embedllm/api/llms").json()["artifact"] is None


def test_the_embedding_never_leaves(tmp_path: Path, artifact: Artifact) -> None:
    write_lines(tmp_path, [make_record(1, embedding="c2VjcmV0", prompt="the text that was kept")])
    with TestClient(application(tmp_path, artifact)) as client:
        answer = client.get("/embedllm/api/decision?request_id=request-1")
        assert "c2VjcmV0" not in answer.text
        assert answer.json()["record"]["prompt"] == "the text that was kept"
        assert "the text" not in client.get("/embedllm/api/decisions?range=all").text


def test_the_page_and_its_files_are_open_and_guarded(guarded: TestClient) -> None:
    names = ["", *(f"static/{file.relative_to(STATIC).as_posix()}" for file in STATIC.rglob("*.*")
                   if file.suffix != ".html")]  # fmt: skip
    assert len(names) > 20
    for name in names:
        answer = guarded.get(f"/embedllm/{name}")
        assert answer.status_code == 200, name
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"


def test_an_unchanged_file_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/embedllm/static/app.js", headers={"Accept-Encoding": "identity"})
    assert first.content == (STATIC / "app.js").read_bytes()
    again = client.get("/embedllm/static/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other = client.get("/embedllm/static/app.js", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_files_are_compressed_for_those_who_can_read_it(client: TestClient) -> None:
    plain = client.get("/embedllm/static/vendor/chart.umd.min.js", headers={"Accept-Encoding": "identity"})
    packed = client.get("/embedllm/static/vendor/chart.umd.min.js", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content) / 2


@pytest.mark.parametrize("name", ["../routes.py", "..%2froutes.py", "%2e%2e/routes.py", "index.html", "nothing.js", ""])
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    answer = client.get(f"/embedllm/static/{name}")
    assert answer.status_code == 404
    assert "dashboard_router" not in answer.text


def test_the_address_without_a_slash_leads_to_the_page(client: TestClient) -> None:
    answer = client.get("/embedllm")
    assert answer.url.path == "/embedllm/"
    assert "<title>embedllm-router</title>" in answer.text


def test_the_page_names_no_other_origin_and_holds_no_inline_script_or_style() -> None:
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|\sstyle=|<style|\son\w+=", page)
    for file in STATIC.rglob("*.*"):
        if file.parent.name != "vendor":
            others = set(re.findall(r"https?://[\w.]+", file.read_text())) - {"http://www.w3.org"}
            assert not others, file.name
        if file.suffix == ".js" and file.parent.name != "vendor":
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", file.read_text())


def test_the_chart_library_is_the_published_one_with_its_licence() -> None:
    assert hashlib.sha256((STATIC / "vendor/chart.umd.min.js").read_bytes()).hexdigest() == CHART_JS
    licence = (STATIC / "vendor/LICENSE.md").read_text()
    assert licence.count("The MIT License (MIT)") == 2


def test_a_baseline_that_was_no_candidate_is_refused_with_the_names_that_were(client: TestClient) -> None:
    refused = client.get("/embedllm/api/verdict", params={"range": "all", "baseline": "nope"})
    assert refused.status_code == 400
    known = {candidate.name for record in make_records(50) for candidate in record.candidates}
    assert all(name in refused.json()["detail"] for name in known)
    for name in known:
        assert client.get("/embedllm/api/verdict", params={"range": "all", "baseline": name}).status_code == 200
