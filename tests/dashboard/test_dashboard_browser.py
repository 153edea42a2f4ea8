"""The page in a real browser: what it shows, how it is used, and that it does nothing it should not."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from browsing import NARROW, Watched, chromium, watched
from day import Day
from pages import KEY, application, served, wants_key
from playwright.sync_api import Browser, Route, expect
from recorded import make_feedback, make_record
from traffic import write_lines

from embedllm_router.artifact import Artifact, default_artifact_path, load_artifact

KEY_TITLE = "The proxy\N{RIGHT SINGLE QUOTATION MARK}s key"
TO = "\N{EN DASH}"
VIEWS = ("overview", "tradeoff", "decisions", "llms", "calibration", "health")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def shipped() -> Artifact:
    return load_artifact(default_artifact_path())


@pytest.fixture(scope="module")
def address(day_folder: Path, shipped: Artifact) -> Iterator[str]:
    with served(application(day_folder, shipped)) as running:
        yield running


@pytest.fixture
def seen(browser: Browser, address: str) -> Iterator[Watched]:
    with watched(browser, address) as page:
        yield page


def api(address: str, question: str) -> dict[str, object]:
    with urlopen(f"{address}/embedllm/api/{question}", timeout=30) as answer:  # noqa: S310 - our own server
        found: dict[str, object] = json.load(answer)
    return found


def test_the_overview_shows_what_the_records_say(seen: Watched, day: Day) -> None:
    seen.go("overview?range=all")
    n = len(day.requests)
    assert seen.tile("requests") == f"{n:,}"
    assert seen.tile("spend") == f"${sum(r.billed_cost_usd or 0 for r in day.requests):,.2f}"
    saved = 1 - sum(r.expected_cost_usd or 0 for r in day.requests) / sum(
        r.likeliest_cost_usd or 0 for r in day.requests
    )
    assert seen.tile("saved") == f"{100 * saved:.1f} %"
    assert seen.tile("fallbacks") == f"{100 * sum(r.fallback for r in day.requests) / n:.1f} %"
    rows = {row[0]: int(row[1]) for row in seen.table("llms")}
    assert rows == {name: sum(r.chosen == name for r in day.requests) for name in rows}
    assert sum(rows.values()) == n
    assert "is under Calibration" in seen.page.locator('[data-panel="meaning"]').inner_text()


def test_charts_are_drawn_and_told_in_tables(seen: Watched) -> None:
    seen.go("overview?range=all")
    for chart in ("mix", "spend", "latency", "overhead", "trouble"):
        figure = seen.page.locator(f'[data-chart="{chart}"]')
        assert (figure.locator("canvas").get_attribute("aria-label") or "").count(".") >= 2
        assert seen.evaluate(_PAINTED % f'[data-chart="{chart}"] canvas') > 200
    mix = seen.page.locator('[data-chart="mix"]')
    mix.locator("summary").click()
    expect(mix.locator("tbody tr").first).to_be_visible()
    cells = mix.locator("tbody td").all_inner_texts()
    assert sum(int(cell.replace(",", "")) for cell in cells) == 1_200


_PAINTED = """(() => {
  const c = document.querySelector('%s');
  const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  return data.filter((value, i) => i %% 4 === 3 && value > 0).length;
})()"""


def test_the_slider_moves_the_mix_the_point_and_the_address(seen: Watched, address: str) -> None:
    seen.go("tradeoff?range=all&n=500")
    answer = api(address, "frontier?range=all&n=500")
    ladder, names = answer["ladder"], answer["names"]
    assert isinstance(ladder, list)
    assert isinstance(names, list)
    slider = seen.page.get_by_role("slider", name="Cost weight λ")
    assert seen.page.locator("output").inner_text() == "λ = 20"
    before = (seen.table("mix"), seen.tile("p"), seen.tile("cost"))
    slider.focus()
    seen.page.keyboard.press("Home")
    assert seen.page.locator("output").inner_text() == "λ = 0"
    assert seen.tile("p") == f"{ladder[0]['p_correct']:.3f}"
    assert (seen.table("mix"), seen.tile("p"), seen.tile("cost")) != before
    seen.page.keyboard.press("End")
    assert seen.tile("p") == f"{ladder[-1]['p_correct']:.3f}"
    shares = {row[0]: row[2] for row in seen.table("mix")}
    cheapest = max(range(len(ladder[-1]["mix"])), key=ladder[-1]["mix"].__getitem__)
    assert shares[names[cheapest]] == f"{ladder[-1]['mix'][cheapest] / 5:.1f} %"
    assert "cost_weight=" in seen.page.url
    point = seen.evaluate(
        "Chart.getChart(document.querySelector('[data-chart=frontier] canvas')).data.datasets[0].data[0]"
    )
    assert point["y"] == pytest.approx(ladder[-1]["p_correct"])
    seen.page.reload()
    seen.drawn()
    assert seen.tile("p") == f"{ladder[-1]['p_correct']:.3f}"
    seen.page.get_by_role("button", name="In use: 20").click()
    assert (seen.table("mix"), seen.tile("p"), seen.tile("cost")) == before


def test_decisions_are_searched_paged_and_opened(seen: Watched, day: Day) -> None:
    seen.go("decisions?range=all")
    found = seen.page.locator("#found")
    expect(found).to_have_text(f"1{TO}50 of 1,200")
    seen.page.get_by_role("link", name="Older").click()
    expect(found).to_have_text(f"51{TO}100 of 1,200")
    seen.page.go_back()
    expect(found).to_have_text(f"1{TO}50 of 1,200")
    seen.page.get_by_label("Only").select_option("fallback")
    fell = [r for r in day.requests if r.fallback]
    expect(found).to_contain_text(f"of {len(fell)}")
    newest = max(fell, key=lambda r: r.at)
    seen.page.locator('[data-table="decisions"] a').first.click()
    expect(seen.page.get_by_role("heading", level=1)).to_have_text(f"Decision {newest.request_id[:12]}")
    seen.drawn()
    assert f"fell back to {newest.served}" in seen.page.locator('[data-tile="outcome"]').inner_text()
    candidates = seen.table("candidates")
    assert len(candidates) == len(newest.candidates)
    assert candidates[0][0].startswith(newest.chosen)
    assert candidates[0][1] == f"{newest.candidates[0].p_correct:.3f}"
    assert "llm unknown" in candidates[-1][-1]
    seen.page.get_by_role("link", name="All decisions").click()
    seen.page.wait_for_selector("#found")


def test_a_search_that_finds_nothing_says_so_and_keeps_its_words(seen: Watched) -> None:
    seen.go("decisions?range=all")
    seen.page.get_by_label("Search", exact=True).fill("nowhere to be found")
    seen.page.keyboard.press("Enter")
    expect(seen.page.get_by_role("heading", name="Nothing found")).to_be_visible()
    assert seen.page.get_by_label("Search", exact=True).input_value() == "nowhere to be found"
    assert "q=nowhere" in seen.page.url


def test_a_decision_can_be_linked_to(seen: Watched, day: Day) -> None:
    judged = next(r for r in day.requests if r.request_id in day.scores() and r.response_id)
    seen.go(f"decision?id={judged.response_id}")
    assert judged.request_id in seen.page.locator("main").inner_text()
    assert len(seen.page.locator('[data-panel="feedback"] tbody tr').all()) >= 1


def test_filters_apply_to_every_view_and_travel_with_links(seen: Watched, day: Day) -> None:
    seen.go("overview?range=all")
    seen.page.get_by_label("Virtual model").select_option("auto-cheap")
    n = sum(r.virtual_model == "auto-cheap" for r in day.requests)
    expect(seen.page.locator('[data-tile="requests"] .value')).to_have_text(f"{n:,}")
    seen.page.get_by_role("link", name="Decisions").click()
    expect(seen.page.locator("#found")).to_have_text(f"1{TO}50 of {n:,}")


def test_the_map_finds_an_llm_and_its_likes(seen: Watched) -> None:
    seen.go("llms?range=all")
    assert seen.page.get_by_role("heading", name="92 LLMs").is_visible()
    seen.page.get_by_label("Find an LLM").fill("o3-mini")
    assert [row[0].split("\n")[0].removesuffix("thinks").strip() for row in seen.table("llm-list")] == [
        "o3-mini-2025-01-31"
    ]
    seen.page.get_by_role("button", name="o3-mini-2025-01-31").click()
    detail = seen.page.locator("#llm-detail")
    assert "Most alike" in detail.inner_text()
    assert detail.locator("li").count() == 5
    assert seen.evaluate(_PAINTED % '[data-chart="map"] canvas') > 500


def test_calibration_and_health_show_their_figures(seen: Watched, day: Day) -> None:
    seen.go("calibration?range=all")
    assert seen.tile("answers") == f"{len(day.scores()):,}"
    assert seen.table("own-test")[0][:2] == ["all", "0.823"]
    seen.go("health")
    assert seen.tile("decided") == "48,211"
    assert "All is well" in seen.page.locator("#verdict").inner_text()
    assert "llm unknown" in seen.page.locator('[data-table="virtual-models"]').inner_text()


def test_every_view_fits_a_phone_in_both_themes_and_names_its_controls(
    browser: Browser, address: str, day: Day
) -> None:
    grounds = {"light": "rgb(245, 246, 249)", "dark": "rgb(15, 19, 25)"}
    with watched(browser, address, viewport=NARROW) as seen:
        for view in (*VIEWS, f"decision?id={day.requests[0].request_id}"):
            seen.go(view)
            for scheme in ("light", "dark"):
                seen.page.emulate_media(color_scheme=scheme)
                assert seen.evaluate("getComputedStyle(document.body).backgroundColor") == grounds[scheme]
                assert seen.fits(), view
            assert seen.evaluate(_UNNAMED) == [], view
            assert seen.page.locator("main h1").count() == 1


_UNNAMED = """[...document.querySelectorAll('input, select, button, canvas, a')].filter((e) => e.checkVisibility()
  && !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())).map((e) => e.outerHTML)"""


def test_the_theme_can_be_chosen_and_is_kept(seen: Watched) -> None:
    seen.go("overview?range=all")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert seen.evaluate(ground) == "rgb(245, 246, 249)"
    for name in ("auto", "light"):
        seen.page.get_by_role("button", name=f"Theme: {name}").click()
    assert seen.evaluate(ground) == "rgb(15, 19, 25)"
    assert seen.evaluate("Chart.defaults.color") == "#a5b0c0"
    seen.page.reload()
    seen.drawn()
    assert seen.evaluate(ground) == "rgb(15, 19, 25)"
    seen.page.get_by_role("button", name="Theme: dark").click()
    assert seen.evaluate(ground) == "rgb(245, 246, 249)"


def test_it_can_be_used_with_the_keyboard_and_a_screen_reader(seen: Watched) -> None:
    seen.go("overview?range=all")
    seen.page.keyboard.press("Tab")
    assert seen.evaluate("document.activeElement.textContent") == "Skip to content"
    seen.page.keyboard.press("Enter")
    assert seen.evaluate("document.activeElement.id") == "main"
    seen.page.get_by_role("link", name="Trade-off").focus()
    seen.page.keyboard.press("Enter")
    expect(seen.page.get_by_role("heading", level=1)).to_have_text("Trade-off")
    seen.drawn()
    assert seen.evaluate("document.activeElement.tagName") == "H1"
    assert seen.page.locator('nav a[aria-current="page"]').inner_text() == "Trade-off"
    assert "Trade-off loaded" in seen.page.locator("#said").inner_text()


def test_no_motion_for_those_who_want_none(seen: Watched) -> None:
    for motion, expected in (("reduce", False), ("no-preference", {"duration": 200})):
        seen.page.emulate_media(reduced_motion=motion)
        seen.go(f"calibration?range=all&key_alias={'search' if motion == 'reduce' else ''}")
        assert seen.evaluate("Chart.defaults.animation") == expected


def test_live_asks_again_and_keeps_the_place(browser: Browser, address: str) -> None:
    with watched(browser, address) as seen:
        seen.page.clock.install()
        seen.go("overview?range=all")
        seen.page.get_by_label("Live").check()
        with seen.page.expect_request("**/api/overview*"):
            seen.page.clock.run_for(11_000)
        seen.drawn()
        assert seen.evaluate("document.activeElement.id") == "f-live"
        seen.page.get_by_label("Live").uncheck()


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
    names = ("virtual_model", "key_alias", "team_alias", "chosen", "served", "category", "error", "failed_open")
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
            seen.go(f"{view}?range=all&id={_quoted(EVIL)}&q=&virtual_model=")
            assert seen.evaluate("window.hacked") is None, view
            assert seen.page.locator("main img, main script, main b:text-is('bold')").count() == 0, view
        assert EVIL in seen.page.locator("main").inner_text()
        seen.go(f"decisions?range=all&q={_quoted(EVIL)}&virtual_model={_quoted(EVIL)}")
        assert seen.evaluate("window.hacked") is None
        assert seen.page.get_by_label("Virtual model").input_value() == EVIL
        hrefs = seen.evaluate("[...document.querySelectorAll('a')].map((a) => a.getAttribute('href'))")
        assert all(href.startswith("#/") for href in hrefs)


def _quoted(text: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 - only this test writes such addresses

    return quote(text, safe="")


def test_without_records_every_view_says_what_to_do(browser: Browser, shipped: Artifact, tmp_path: Path) -> None:
    with served(application(tmp_path, shipped)) as address, watched(browser, address) as seen:
        for view in ("overview", "tradeoff", "decisions"):
            seen.go(view)
            assert 'Ask the proxy for model="auto"' in seen.page.locator("main").inner_text(), view
        seen.go("calibration")
        assert "POST /embedllm/feedback" in seen.page.locator("main").inner_text()
        seen.go("llms")
        assert seen.page.get_by_role("heading", name="92 LLMs").is_visible()
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
