// Shows the view the address names, asks for the key when the proxy wants one, and redraws when the theme changes.

import { go, here, linkTo, shared } from "./address.js";
import { ask, key, Refused } from "./api.js";
import { dropPending, endCharts, startCharts } from "./charts.js";
import { fill, h, say } from "./dom.js";
import { carried, showFilters } from "./filters.js";
import { clockOf, zoneOf } from "./format.js";
import * as calibration from "./views/calibration.js";
import * as decision from "./views/decision.js";
import * as decisions from "./views/decisions.js";
import * as health from "./views/health.js";
import * as overview from "./views/overview.js";
import * as topics from "./views/topics.js";
import * as tradeoff from "./views/tradeoff.js";
import * as verdict from "./views/verdict.js";

const VIEWS = { overview, tradeoff, topics, verdict, decisions, decision, calibration, health };
const IN_NAV = ["overview", "tradeoff", "topics", "verdict", "decisions", "calibration", "health"];
const LIVE_MS = 10_000;
const SLOW_MS = 200;

const main = document.getElementById("main");
const state = { running: null, shown: null, data: null, choices: null, choicesFor: null, live: null };

async function show({ refresh = false } = {}) {
  state.running?.abort();
  const { signal } = (state.running = new AbortController());
  const place = here();
  const view = VIEWS[place.view] ?? overview;
  const moved = state.shown !== view || view === decision;
  showNav(place.view);
  showBar(view);
  main.setAttribute("aria-busy", "true");
  const slow = setTimeout(() => moved && !refresh && fill(main, skeleton(view)), SLOW_MS);
  try {
    const [data] = await Promise.all([view.load(place.params, signal), loadChoices(view, place.params, signal)]);
    if (signal.aborted) return;
    draw(view, data, moved && !refresh && state.shown !== null);
    document.getElementById("fresh").textContent = `As of ${clockOf(Date.now() / 1000)}`;
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) showProblem(error);
  } finally {
    clearTimeout(slow);
    if (!signal.aborted) main.removeAttribute("aria-busy");
  }
}

function draw(view, data, moved) {
  const focused = document.activeElement?.id;
  dropPending();
  endCharts();
  Object.assign(state, { shown: view, data });
  const title = view.title(here().params);
  const heading = h("h1", { tabindex: "-1" }, title);
  fill(
    main,
    h("div", { class: "head" }, heading, h("p", { class: "lead" }, view.lead)),
    view.draw(data, here().params, state.choices),
  );
  startCharts();
  document.title = `${title} · embedllm-router`;
  document.getElementById("forget").hidden = !key.get();
  if (moved) heading.focus();
  else if (focused && focused !== "main") document.getElementById(focused)?.focus();
  if (moved) scrollTo(0, 0);
  say(`${title} loaded`);
}

async function loadChoices(view, params, signal) {
  const wanted = JSON.stringify([params.range, params.until]);
  if (!view.filtered || state.choicesFor === wanted) return;
  const { range, until } = shared(params);
  state.choices = await ask("choices", { range, until }, signal);
  state.choicesFor = wanted;
  showBar(view);
}

function showNav(current) {
  const within = current === "decision" ? "decisions" : current;
  const nav = document.getElementById("nav");
  fill(
    nav,
    IN_NAV.map((name) =>
      h("a", { href: linkTo(name, carried()), "aria-current": name === within ? "page" : null }, VIEWS[name].title({})),
    ),
  );
  const now = nav.querySelector("[aria-current]");
  if (now) nav.scrollLeft = now.offsetLeft - nav.offsetLeft - (nav.clientWidth - now.offsetWidth) / 2;
}

function showBar(view) {
  const bar = document.getElementById("filters");
  bar.hidden = !view.filtered;
  if (!view.filtered) return;
  showFilters(bar, state.choices, { refresh: refreshNow, live: state.live !== null, setLive });
}

function refreshNow() {
  state.choicesFor = null;
  return show({ refresh: true });
}

function setLive(on) {
  clearInterval(state.live);
  state.live = on
    ? setInterval(() => document.hidden || main.hasAttribute("aria-busy") || show({ refresh: true }), LIVE_MS)
    : null;
}

const skeleton = (view) => [
  h("div", { class: "head" }, h("h1", {}, view.title(here().params)), h("p", { class: "lead" }, view.lead)),
  h("p", { class: "loading" }, "Loading …"),
];

function showProblem(error) {
  dropPending();
  endCharts();
  Object.assign(state, { shown: null, data: null });
  if (error instanceof Refused) return showKeyForm(error.message);
  fill(
    main,
    h(
      "section",
      { class: "notice bad", role: "alert" },
      h("h1", {}, "This could not be shown"),
      h("p", {}, error.message),
      h("button", { type: "button", onclick: () => show() }, "Try again"),
    ),
  );
}

function showKeyForm(said) {
  const tried = Boolean(key.get());
  key.forget();
  document.getElementById("forget").hidden = true;
  document.getElementById("filters").hidden = true;
  const input = h("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    required: true,
    "aria-describedby": "key-said",
    spellcheck: "false",
  });
  const enter = (event) => {
    event.preventDefault();
    key.set(input.value.trim());
    show();
  };
  fill(
    main,
    h(
      "form",
      { class: "panel key", onsubmit: enter },
      h("h1", {}, "The proxy’s key"),
      tried &&
        h("p", { class: "notice bad", role: "alert", id: "key-refused" }, `The proxy did not accept this key: ${said}`),
      h(
        "p",
        { id: "key-said" },
        "These pages show what was asked of the proxy. They need its master key, or the key of an administrator or of the role proxy_admin_viewer. It stays in this browser tab and is sent to this proxy only.",
      ),
      h("label", { class: "field" }, h("span", {}, "Key"), input),
      h("button", { type: "submit", class: "primary" }, "Show the dashboard"),
    ),
  );
  input.focus();
}

const THEMES = ["auto", "light", "dark"];
const themeNow = () => document.documentElement.dataset.theme ?? "auto";

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(themeNow()) + 1) % THEMES.length];
  if (next === "auto") {
    localStorage.removeItem("embedllm-theme");
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem("embedllm-theme", next);
    document.documentElement.dataset.theme = next;
  }
  themeChanged();
}

function themeChanged() {
  document.getElementById("theme").textContent = `Theme: ${themeNow()}`;
  if (state.shown) draw(state.shown, state.data, false);
}

function start() {
  document.getElementById("zone").textContent =
    `Times are in ${zoneOf()}; downloads of decisions are in UTC.`;
  document.getElementById("theme").addEventListener("click", nextTheme);
  document.getElementById("forget").addEventListener("click", () => {
    key.forget();
    show();
  });
  document.getElementById("skip").addEventListener("click", () => main.focus());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themeChanged);
  addEventListener("hashchange", () => show());
  addEventListener("popstate", () => show());
  themeChanged();
  if (location.hash) show();
  else go("overview", {}, { replace: true });
}

start();
