"""The page in a real browser when things are not well: keys, hostile names, no records, errors, slow answers."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from browsing import watched
from pages import KEY, application, served, wants_key
from playwright.sync_api import Browser, Route, expect
from recorded import make_feedback, make_record
from traffic import now, write_lines

from embedllm_router.artifact.weights import Artifact

VIEWS = ("overview", "verdict", "tradeoff", "decisions", "llms", "calibration", "health")
KEY_TITLE = "The proxy\N{RIGHT SINGLE QUOTATION MARK}s key"


def test_the_key_is_asked_for_once_and_stays_in_the_tab(browser: Browser, day_folder: Path, shipped: Artifact) -> None:
    refusals = ("status of 401",)
    with (
        served(application(day_folder, shipped, auth=wants_key)) as guarded,
        watched(browser, guarded, expected=refusals) as seen,
    ):
        seen.go("overview?range=all")
        assert seen.page.get_by_role("heading", level=1).inner_text() == KEY_TITLE
        assert not seen.page.locator("#key-refused").count()
        seen.page.get_by_role("textbox", name="Key").fill("sk-wrong")
        seen.page.keyboard.press("Enter")
        expect(seen.page.get_by_role("alert")).to_contain_text("did not accept this key: Authentication Error")
        seen.page.get_by_role("textbox", name="Key").fill(KEY)
        seen.page.get_by_role("button", name="Show the dashboard").click()
        expect(seen.page.locator('[data-tile="requests"] .value')).to_have_text("1,200")
        seen.go("health")
        assert seen.tile("decided") == "48,211"
        assert KEY not in seen.page.url
        assert KEY not in seen.evaluate("JSON.stringify(localStorage) + document.cookie")
        assert seen.evaluate("sessionStorage.getItem('embedllm-key')") == KEY
        seen.page.get_by_role("button", name="Forget key").click()
        expect(seen.page.get_by_role("heading", level=1)).to_have_text(KEY_TITLE)
        assert seen.evaluate("sessionStorage.getItem('embedllm-key')") is None


EVIL = '<img src=x onerror="window.hacked=1;alert(1)">\'"><script>window.hacked=2</script><b>bold</b>'


def test_names_that_clients_choose_stay_text(browser: Browser, shipped: Artifact, tmp_path: Path) -> None:
    names: tuple[str, ...] = (
        "virtual_model",
        "key_alias",
        "team_alias",
        "chosen",
        "served",
        "category",
        "error",
        "failed_open",
    )
    names += (
        "request_id",
        "response_id",
        "prompt",
        "prompt_hash",
        "reason",
        "arm",
        "artifact",
        "runner_up",
        "likeliest",
    )
    record = make_record(1, status="failure", **dict.fromkeys(names, EVIL))
    plain = make_record(2, request_id="plain", chosen=EVIL, served=EVIL, key_alias="javascript:alert(1)")
    feedback = make_feedback([record, plain], share=1.0)
    hostile = [type(f)(at=f.at, request_id=f.request_id, score=f.score, source=EVIL, key_alias=EVIL) for f in feedback]
    write_lines(tmp_path, [record, plain], hostile)
    with served(application(tmp_path, shipped)) as address, watched(browser, address) as seen:
        for view in (*VIEWS, "decision"):
            seen.go(f"{view}?range=all&id={quote(EVIL, safe='')}&q=&virtual_model=")
            assert seen.evaluate("window.hacked") is None, view
            assert seen.page.locator("main img, main script, main b:text-is('bold')").count() == 0, view
        assert EVIL in seen.page.locator("main").inner_text()
        seen.go(f"decisions?range=all&q={quote(EVIL, safe='')}&virtual_model={quote(EVIL, safe='')}")
        assert seen.evaluate("window.hacked") is None
        assert seen.page.get_by_label("Virtual model").input_value() == EVIL
        hrefs = seen.evaluate("[...document.querySelectorAll('a')].map((a) => a.getAttribute('href'))")
        assert all(href.startswith("#/") for href in hrefs)


def test_without_records_every_view_says_what_to_do(browser: Browser, shipped: Artifact, tmp_path: Path) -> None:
    with served(application(tmp_path, shipped)) as address, watched(browser, address) as seen:
        for view in ("overview", "tradeoff", "decisions"):
            seen.go(view)
            assert 'Ask the proxy for model="auto"' in seen.page.locator("main").inner_text(), view
        seen.go("calibration")
        assert "POST /embedllm/feedback" in seen.page.locator("main").inner_text()
        seen.go("llms")
        assert seen.page.get_by_role("heading", name="393 LLMs").is_visible()
        seen.go("health")
        assert "Requests" in seen.page.locator('[data-panel="records"]').inner_text()


def test_without_weights_the_map_points_to_health(browser: Browser, tmp_path: Path) -> None:
    with served(application(tmp_path, None)) as address, watched(browser, address) as seen:
        seen.go("llms")
        assert "No weights are loaded" in seen.page.locator("main").inner_text()
        seen.go("health")
        assert "no weights could be loaded" in seen.page.locator("#verdict").inner_text()


def test_an_error_is_shown_and_can_be_tried_again(browser: Browser, address: str) -> None:
    with watched(browser, address, expected=("status of 503", "status of 404")) as seen:
        said = {"detail": "a record file cannot be read: it is torn."}
        seen.page.route("**/api/overview*", lambda route: route.fulfill(status=503, json=said))
        seen.page.goto(f"{address}/embedllm/#/overview")
        expect(seen.page.get_by_role("alert")).to_contain_text("a record file cannot be read: it is torn.")
        seen.page.unroute("**/api/overview*")
        seen.page.get_by_role("button", name="Try again").click()
        expect(seen.page.locator('[data-tile="requests"]')).to_be_visible()
        seen.page.goto(f"{address}/embedllm/#/decision?id=nobody")
        expect(seen.page.get_by_role("alert")).to_contain_text("no record of request 'nobody'")


def test_a_slow_answer_shows_that_it_loads_and_an_old_one_is_dropped(browser: Browser, address: str) -> None:
    with watched(browser, address) as seen:
        held: list[Route] = []
        seen.page.route("**/api/overview*", lambda route: held.append(route))  # noqa: PLW0108 - it marks a handler, and a method cannot be
        seen.page.goto(f"{address}/embedllm/#/overview")
        expect(seen.page.get_by_text("Loading …")).to_be_visible()
        seen.page.get_by_role("link", name="Health").click()
        expect(seen.page.locator("#verdict")).to_be_visible()
        for route in held:
            route.abort()
        assert seen.page.get_by_role("heading", level=1).inner_text() == "Health"
    assert held


def test_a_point_between_gaps_of_a_line_is_marked(browser: Browser, tmp_path: Path, shipped: Artifact) -> None:
    """Three neighbouring steps have requests, then one alone; lines of the others need no marks."""
    end = now()
    hours = [*(20 - n / 12 for n in range(12)), 5.0]
    folder = write_lines(tmp_path, [make_record(n, at=end - timedelta(hours=h)) for n, h in enumerate(hours)])
    with served(application(folder, shipped)) as address, watched(browser, address) as seen:
        seen.go("overview?range=24h")
        values, radii = seen.evaluate(
            "(({data, pointRadius}) => [data, pointRadius])"
            "(Chart.getChart(document.querySelector('[data-chart=latency] canvas')).data.datasets[0])"
        )
    shown = [i for i, value in enumerate(values) if value is not None]
    assert len(shown) > 2
    alone = [i for i in shown if i - 1 not in shown and i + 1 not in shown]
    assert shown[-1] in alone
    assert [i for i, radius in enumerate(radii) if radius > 0] == alone != shown
