"""The page in a real browser: what it shows, how it is used, and that it does nothing it should not."""

import json
from typing import Literal
from urllib.request import urlopen

import pytest
from browsing import NARROW, Watched, watched
from day import Day
from playwright.sync_api import Browser, expect

from embedllm_router.artifact.weights import default_artifact_path, load_artifact

TO = "\N{EN DASH}"
VIEWS = ("overview", "verdict", "tradeoff", "decisions", "llms", "calibration", "health")


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
    assert "is shown under Calibration" in seen.page.locator('[data-panel="meaning"]').inner_text()


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


def test_a_decision_says_what_would_flip_it(seen: Watched, address: str, day: Day) -> None:
    record = next(r for r in day.requests if r.cost_weight == 20 and not r.needs)
    seen.go(f"decision?id={record.request_id}")
    answer = api(address, f"decision?request_id={record.request_id}")
    explanation = answer["explanation"]
    assert isinstance(explanation, dict)
    said = seen.page.locator('[data-panel="flips"]').inner_text()
    assert f"λ stood at 20, which chooses {record.chosen}." in said
    for side, flip in (("Below", explanation["below"]), ("Above", explanation["above"])):
        if flip:
            at = float(f"{flip['at']:.3g}")
            assert f"{side} {at:g} it would have been {flip['name']}." in said
    spans = seen.page.locator('[data-panel="flips"] tbody tr').all_inner_texts()
    assert len(spans) == len(explanation["spans"]) == seen.page.locator(".segment").count()
    assert sum("now" in span and record.chosen in span for span in spans) == 1


def test_filters_apply_to_every_view_and_travel_with_links(seen: Watched, day: Day) -> None:
    seen.go("overview?range=all")
    seen.page.get_by_label("Virtual model").select_option("auto-cheap")
    n = sum(r.virtual_model == "auto-cheap" for r in day.requests)
    expect(seen.page.locator('[data-tile="requests"] .value')).to_have_text(f"{n:,}")
    seen.page.get_by_role("link", name="Decisions").click()
    expect(seen.page.locator("#found")).to_have_text(f"1{TO}50 of {n:,}")


def test_the_map_finds_an_llm_and_its_likes(seen: Watched) -> None:
    seen.go("llms?range=all")
    assert seen.page.get_by_role("heading", name="393 LLMs").is_visible()
    seen.page.get_by_label("Find an LLM").fill("o3-mini")
    assert [row[0].split("\n")[0].removesuffix("thinks").strip() for row in seen.table("llm-list")] == [
        "o3-mini-2025-01-31",
        "o3-mini-2025-01-31:high",
        "o3-mini-2025-01-31:medium",
    ]
    seen.page.get_by_role("button", name="o3-mini-2025-01-31", exact=True).click()
    detail = seen.page.locator("#llm-detail")
    assert "Most similar LLMs" in detail.inner_text()
    assert detail.locator("li").count() == 5
    assert seen.evaluate(_PAINTED % '[data-chart="map"] canvas') > 500


def test_calibration_and_health_show_their_figures(seen: Watched, day: Day) -> None:
    seen.go("calibration?range=all")
    assert seen.tile("answers") == f"{len(day.scores()):,}"
    auc = load_artifact(default_artifact_path()).manifest.metrics["auc"]
    assert seen.table("own-test")[0][:2] == ["all", f"{auc:.3f}"]
    seen.go("health")
    assert seen.tile("decided") == "48,211"
    assert "All is well" in seen.page.locator("#verdict").inner_text()
    assert "llm unknown" in seen.page.locator('[data-table="virtual-models"]').inner_text()
    assert "12 of 50" in seen.page.locator('[data-panel="adaptation"]').inner_text()
    refused, learned = seen.table("attempts")
    assert "refused by the guard" in refused[1]
    assert refused[5] == "unchanged"
    assert (learned[1], learned[3], learned[5]) == ("learned", "200 answers", "0a1b2c3d4e5f")
    assert learned[4] == "0.6102 → 0.5485 (95 %: -0.0911 to -0.0312)"


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
    reduced: list[tuple[Literal["reduce", "no-preference"], object]]
    reduced = [("reduce", False), ("no-preference", {"duration": 200})]
    for motion, expected in reduced:
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
