"""The dashboard on the real proxy: its own key check, its own records, its page in a browser."""

import time
from typing import Any

import http_calls
import httpx
import pytest
import yaml
from browsing import chromium, watched
from playwright.sync_api import expect

from embedllm_router.cli.demo import RunningProxy
from embedllm_router.config.settings import RouterSettings

N_ASKED = 3
PAGES = ("", "static/app.js", "static/vendor/chart.umd.min.js")
DATA = (
    "overview",
    "saved",
    "answers",
    "topics",
    "decisions.csv",
    "verdict",
    "choices",
    "frontier",
    "decisions",
    "decision",
    "calibration",
    "llms",
    "health",
    "records",
)


@pytest.fixture(scope="module")
def origin(proxy: RunningProxy) -> str:
    return proxy.base_url.removesuffix("/v1")


@pytest.fixture(scope="module")
def asked(proxy: RunningProxy, origin: str) -> list[str]:
    """Ids of answered requests that the dashboard has records of."""
    ids = []
    for number in range(N_ASKED):
        body = {"model": "auto", "messages": [{"role": "user", "content": f"What is {number} times seven?"}]}
        answer = http_calls.post(f"{proxy.base_url}/chat/completions", json=body, headers=_key(proxy), timeout=30)
        answer.raise_for_status()
        ids.append(answer.headers["x-litellm-call-id"])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not all(_status(proxy, origin, one) == "success" for one in ids):
        time.sleep(0.2)
    return ids


def _key(proxy: RunningProxy) -> dict[str, str]:
    return {"Authorization": f"Bearer {proxy.api_key}"}


def _ask(proxy: RunningProxy, origin: str, view: str, **given: str) -> httpx.Response:
    return http_calls.get(f"{origin}/embedllm/api/{view}", params=given, headers=_key(proxy), timeout=30)


def _status(proxy: RunningProxy, origin: str, request_id: str) -> Any:
    answer = _ask(proxy, origin, "decision", request_id=request_id)
    return answer.json()["record"]["status"] if answer.status_code == 200 else None


def test_the_proxys_own_key_check_guards_the_data_and_not_the_page(proxy: RunningProxy, origin: str) -> None:
    for page in PAGES:
        assert http_calls.get(f"{origin}/embedllm/{page}", timeout=30).status_code == 200
    for view in DATA:
        address = f"{origin}/embedllm/api/{view}?request_id=x"
        assert http_calls.get(address, timeout=30).status_code in {401, 403}, view
        wrong = http_calls.get(address, headers={"Authorization": "Bearer sk-wrong"}, timeout=30)
        assert wrong.status_code in {400, 401, 403}, view
        assert "record" not in wrong.json(), view
        assert _ask(proxy, origin, view, request_id="x").status_code == (404 if view == "decision" else 200), view


def test_a_request_is_seen_a_moment_later(proxy: RunningProxy, origin: str, asked: list[str]) -> None:
    for request_id in asked:
        found = _ask(proxy, origin, "decision", request_id=request_id).json()
        assert found["record"]["virtual_model"] == "auto"
        assert found["record"]["status"] == "success"
        assert found["explanation"]["best"] == found["record"]["chosen"]
    total = _ask(proxy, origin, "overview", virtual_model="auto").json()["total"]
    assert total["succeeded"] >= N_ASKED


def test_the_setting_to_paste_is_the_configured_one_with_another_cost_weight(proxy: RunningProxy, origin: str) -> None:
    text = _ask(proxy, origin, "setting", virtual_model="auto", cost_weight="12.5").json()["yaml"]
    pasted = RouterSettings(**yaml.safe_load(text)["callback_settings"]["embedllm_router"]).virtual_models["auto"]
    health = _ask(proxy, origin, "health").json()["status"]
    (now,) = (one for one in health["virtual_models"] if one["name"] == "auto")
    assert (pasted.default, pasted.objective.cost_weight) == (now["default"], 12.5)
    unknown = _ask(proxy, origin, "setting", virtual_model="nobody", cost_weight="1")
    assert (unknown.status_code, "no virtual model 'nobody'" in unknown.text) == (404, True)


def test_the_page_opens_with_the_master_key(proxy: RunningProxy, origin: str, asked: list[str]) -> None:
    refusals = ("status of 400", "status of 401", "status of 403")
    with chromium() as browser, watched(browser, origin, expected=refusals) as seen:
        seen.go("overview?virtual_model=auto")
        key = seen.page.get_by_role("textbox", name="Key")
        key.fill("sk-wrong")
        seen.page.keyboard.press("Enter")
        expect(seen.page.get_by_role("alert")).to_contain_text("did not accept this key")
        key.fill(proxy.api_key)
        seen.page.keyboard.press("Enter")
        expect(seen.page.locator('[data-tile="requests"]')).to_be_visible()
        seen.drawn()
        assert int(seen.tile("requests")) >= N_ASKED
        seen.page.wait_for_selector('[data-panel="answers"]:not([aria-busy])')
        assert "no answer has feedback" in seen.page.locator('[data-answer="quality"]').inner_text() or seen.tile(
            "quality"
        )
        seen.go(f"decision?id={asked[0]}")
        assert asked[0] in seen.page.locator("main").inner_text()
        seen.go("health")
        assert "auto-quality" in seen.page.locator('[data-table="virtual-models"]').inner_text()
