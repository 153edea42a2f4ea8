"""The page in a real browser: what it shows, how it is used, and that it does nothing it should not."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

import pytest
import yaml
from browsing import NARROW, Watched, watched
from day import Day
from playwright.sync_api import Browser, Route, expect

from embedllm_router.analysis.topics import topic_of
from embedllm_router.artifact.weights import default_artifact_path, load_artifact
from embedllm_router.config.settings import RouterSettings

TO = "\N{EN DASH}"
VIEWS = ("overview", "tradeoff", "topics", "verdict", "decisions", "calibration", "health")


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


ANSWERED = '[data-panel="answers"]:not([aria-busy])'


def test_the_overview_opens_with_three_answers(seen: Watched, address: str) -> None:
    """Each says what the figures behind it say, and leads to the page that shows them."""
    seen.go("overview?range=all&virtual_model=auto")
    seen.page.wait_for_selector(ANSWERED)
    saved, answers = (api(address, f"{name}?range=all&virtual_model=auto") for name in ("saved", "answers"))
    quality, advice, share = answers["quality"], answers["advice"], saved["share"]
    assert isinstance(quality, dict)
    assert isinstance(advice, dict)
    assert isinstance(share, dict)
    cards = {one: seen.page.locator(f'[data-answer="{one}"]') for one in ("saved", "quality", "change")}
    assert cards["saved"].locator("h2").inner_text() == "What did I save against my baseline?"
    said = cards["saved"].inner_text()
    ends = f"{100 * share['value']:.1f} % [{100 * share['low']:.1f} %, {100 * share['high']:.1f} %]"
    assert f"against always gpt-4o, {ends} of what that would have cost" in said
    assert f"{saved['n_billed']}" in said
    assert "bills" in said
    assert quality["sentence"] in cards["quality"].inner_text()
    assert advice["sentence"].replace("`", "") in cards["change"].inner_text()
    score = quality["score"]
    assert seen.tile("quality") == f"{100 * score['value']:.1f} %"
    views = [one.locator("a").get_attribute("href") or "" for one in cards.values()]
    assert [view.split("?")[0] for view in views] == ["#/tradeoff", "#/calibration", f"#/{advice['page']}"]
    assert all("virtual_model=auto" in view for view in views)
    assert seen.page.locator("main > *").nth(1).get_attribute("data-panel") == "answers", "the questions come first"
    assert [row[1] for row in seen.table("changes")] == ["configuration read again"]
    assert seen.table("bills")[0][0] == "all"


def _answered(body: str, route: Route) -> None:
    route.fulfill(body=body)


def test_the_quality_tile_warns_where_predictions_break(seen: Watched, address: str) -> None:
    answers = api(address, "answers?range=all")
    quality = answers["quality"]
    assert isinstance(quality, dict)
    tile = seen.page.locator('[data-tile="quality"]')
    for number, found in enumerate(("too high", "too low", "hold")):
        changed = json.dumps({**answers, "quality": {**quality, "predictions": found}})
        seen.page.unroute_all()
        seen.page.route("**/api/answers*", partial(_answered, changed))
        seen.go(f"overview?range=all&virtual_model={('auto', 'auto-cheap', 'auto-best')[number]}")
        seen.page.wait_for_selector(ANSWERED)
        assert (f"predictions are {found}" in tile.inner_text()) == (found != "hold")
        assert ("bad" in (tile.get_attribute("class") or "")) == (found != "hold")


def test_a_month_is_priced_once_its_requests_are_known_and_the_setting_is_copied(seen: Watched, address: str) -> None:
    """A day of records that is not whole tells no rate."""
    seen.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    seen.go("tradeoff?range=all&n=500")
    assert "is not known: the records span 2" in seen.page.locator("#rate").inner_text()
    assert seen.tile("month") == "not known"
    seen.page.get_by_label("Requests per month").fill("50000")
    seen.page.keyboard.press("Enter")
    expect(seen.page.locator('[data-tile="month"] .value')).to_contain_text("$")
    now = api(address, "frontier?range=all&n=500&requests_per_month=50000")
    ladder = now["ladder"]
    assert isinstance(ladder, list)
    slider = seen.page.get_by_role("slider", name="Cost weight λ")
    slider.focus()
    seen.page.keyboard.press("Home")
    month = ladder[0]["usd_per_month"]
    assert seen.tile("month") == f"${month['value']:,.2f}"
    interval = f"95 %: ${month['low']:,.2f} to ${month['high']:,.2f}"
    assert interval in seen.page.locator('[data-tile="month"]').inner_text()
    seen.page.keyboard.press("ArrowRight")
    seen.page.keyboard.press("ArrowRight")
    for name in ("auto", "auto-cheap"):
        seen.page.locator("#copy-for").select_option(name)
        seen.page.get_by_role("button", name="Copy as YAML").click()
        expect(seen.page.locator("#copied")).to_contain_text("Copied.")
        expect(seen.page.locator("#yaml")).to_contain_text(f"{name}:")
        pasted = yaml.safe_load(seen.evaluate("navigator.clipboard.readText()"))
        settings = RouterSettings(**pasted["callback_settings"]["embedllm_router"])
        assert settings.virtual_models[name].cost_weight == ladder[2]["cost_weight"]
        assert settings.virtual_models[name].default == "gpt-4o-mini"


def test_lists_and_tables_are_downloaded_as_csv(seen: Watched, day: Day) -> None:
    seen.go("decisions?range=all&only=fallback")
    fell = [r for r in day.requests if r.fallback]
    with seen.page.expect_download() as waiting:
        seen.page.get_by_role("button", name="Download “Decisions, newest first” as CSV").click()
    lines = list(csv.DictReader(Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()))
    assert {line["request_id"] for line in lines} == {r.request_id for r in fell}
    assert waiting.value.suggested_filename == "decisions.csv"
    seen.go("tradeoff?range=all")
    seen.evaluate("document.querySelector('[data-table=singles] th[scope=row]').textContent = '=1+1'")
    with seen.page.expect_download() as waiting:
        seen.page.get_by_role("button", name="Download “One LLM for everything” as CSV").click()
    rows = list(csv.reader(Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["LLM", "expected accuracy", "expected cost of 1,000", "requests it could take"]
    assert rows[1][0] == "'=1+1", "a spreadsheet shall not take it for a formula"
    assert len(rows) == 9


def test_charts_are_drawn_and_told_in_tables(seen: Watched) -> None:
    seen.go("overview?range=all")
    for chart in ("mix", "spend", "bills", "latency", "overhead", "trouble"):
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
    assert seen.page.locator("#failed-attempts li").all_inner_texts() == [f"{newest.chosen}: RateLimitError"]
    assert "The client waited" in seen.page.locator("main").inner_text()
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


def test_topics_show_each_llm_and_an_llm_its_likes(seen: Watched, day: Day) -> None:
    seen.go("llms?range=all")
    expect(seen.page.get_by_role("heading", level=1)).to_have_text("Topics")
    rows = seen.table("topics")
    n = {topic: sum(topic_of(r.category) == topic for r in day.requests) for topic, *_ in rows}
    assert {row[0]: int(row[2]) for row in rows if row[1] == "all"} == n
    assert sum(n.values()) == len(day.requests)
    of_chat = [r for r in day.requests if topic_of(r.category) == "chat" and r.chosen == "llama-70b"]
    (row,) = (row for row in rows if row[:2] == ["chat", "llama-70b"])
    assert (row[2], row[3]) == (str(len(of_chat)), f"{100 * len(of_chat) / n['chat']:.1f} %")
    assert seen.page.get_by_role("heading", name="393 LLMs").is_visible()
    seen.page.get_by_label("Find an LLM").fill("o3-mini")
    assert [row[0].split("\n")[0].removesuffix("thinks").strip() for row in seen.table("llm-list")] == [
        "o3-mini-2025-01-31",
        "o3-mini-2025-01-31:high",
        "o3-mini-2025-01-31:medium",
    ]
    seen.page.get_by_role("button", name="o3-mini-2025-01-31", exact=True).click()
    assert "Most similar LLMs" in seen.page.locator("#llm-detail").inner_text()
    assert len(seen.table("similar")) == 5


def test_calibration_and_health_show_their_figures(seen: Watched, day: Day) -> None:
    seen.go("calibration?range=all")
    assert seen.tile("answers") == f"{len(day.scores()):,}"
    auc = load_artifact(default_artifact_path()).manifest.metrics["auc"]
    assert seen.table("own-test")[0][:2] == ["all", f"{auc:.3f}"]
    seen.go("health")
    assert seen.tile("decided") == "48,211"
    assert "All is well" in seen.page.locator("#verdict").inner_text()
    assert "llm unknown" in seen.page.locator('[data-table="virtual-models"]').inner_text()
    budgets = seen.table("budgets")
    assert (budgets[0][1], budgets[0][2], budgets[0][4]) == ("$431.25", "$500.00 a month", "34.5")
    assert budgets[0][3] in {"3.0 days", "2.9 days"}
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
            if view == "overview":
                seen.page.wait_for_selector(ANSWERED)
            if view == "tradeoff":
                seen.page.get_by_role("button", name="Copy as YAML").click()
                seen.page.wait_for_selector("#yaml")
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
    seen.page.get_by_role("link", name="Trade-off", exact=True).focus()
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
