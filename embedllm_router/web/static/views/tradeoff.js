// The latest decisions, decided again at every cost weight: the slider shows which LLMs would have been chosen.

import { go, here, shared } from "../address.js";
import { ask } from "../api.js";
import { h } from "../dom.js";
import { count, percent, plain, points, probability, usd } from "../format.js";
import { bar, named, noRecords, panel, table, tile } from "../parts.js";
import { frontierChart, PER } from "./tradeoff_chart.js";

export const title = () => "Trade-off";
export const lead = "What another cost weight λ would have done with the latest requests.";
export const filtered = true;

const LATEST = [200, 500, 1000, 2000];

export const load = (params, signal) => ask("frontier", { ...shared(params), n: params.n }, signal);

export function draw(data, params) {
  if (!data.requests) return noRecords(params);
  const shown = { data, chart: null, at: startAt(data, params) };
  const live = h("div", { class: "stack" });
  const slider = sliderPanel(shown, () => update(shown, live), params);
  const figure = frontierChart(shown);
  update(shown, live);
  return [slider, h("div", { class: "beside" }, figure, live), singlesPanel(data), honesty(data)];
}

/** Step of the ladder nearest to the λ of the address, else to the one in use. */
function startAt({ ladder, cost_weight: used }, params) {
  const wanted = params.cost_weight === undefined ? (used ?? 0) : Number(params.cost_weight);
  const distances = ladder.map((step) => Math.abs(Math.log1p(step.cost_weight) - Math.log1p(wanted)));
  return distances.indexOf(Math.min(...distances));
}

function sliderPanel(shown, update, params) {
  const { data } = shown;
  const output = h("output", { for: "weight", class: "weight" }, "");
  const input = h("input", {
    id: "weight",
    type: "range",
    min: 0,
    max: data.ladder.length - 1,
    step: 1,
    value: shown.at,
  });
  const moved = () => {
    shown.at = Number(input.value);
    const weight = data.ladder[shown.at].cost_weight;
    output.textContent = `λ = ${plain(weight)}`;
    const step = data.ladder[shown.at];
    input.setAttribute(
      "aria-valuetext",
      `cost weight ${plain(weight)}: expected accuracy ${probability(step.p_correct)}, ${usd(step.cost_usd * PER)} per 1,000 requests`,
    );
    update();
  };
  input.addEventListener("input", moved);
  input.addEventListener("change", () =>
    history.replaceState(
      null,
      "",
      `#/tradeoff?${new URLSearchParams({ ...here().params, cost_weight: data.ladder[shown.at].cost_weight })}`,
    ),
  );
  const back = () => {
    input.value = startAt(data, {});
    moved();
  };
  moved();
  const latest = h(
    "select",
    { id: "latest", onchange: (e) => go("tradeoff", { ...here().params, n: e.target.value }) },
    LATEST.map((n) => h("option", { value: n, selected: n === Number(params.n ?? 1000) }, `the latest ${count(n)}`)),
  );
  return h(
    "section",
    { class: "panel wide slider" },
    h(
      "div",
      { class: "row" },
      h("label", { for: "weight" }, h("b", {}, "Cost weight λ"), ": accuracy given up per US dollar"),
      output,
      data.cost_weight !== null &&
        h("button", { type: "button", id: "in-use", onclick: back }, `In use: ${plain(data.cost_weight)}`),
    ),
    input,
    h("div", { class: "ends" }, h("span", {}, "most accurate"), h("span", {}, "cheapest")),
    h(
      "div",
      { class: "row" },
      h("label", { class: "field inline" }, h("span", {}, "Decide again"), latest),
      h("span", { class: "note" }, `${count(data.requests)} requests, recorded with ${objectives(data)}.`),
    ),
  );
}

const objectives = ({ objectives: found }) =>
  Object.entries(found)
    .map(([words, n]) => `${words} (${count(n)})`)
    .join("; ");

function update(shown, live) {
  const { data } = shown;
  const step = data.ladder[shown.at];
  live.replaceChildren(figures(step, data), mixPanel(step, data));
  if (!shown.chart) return;
  const point = shown.chart.data.datasets.find((set) => set.label === "slider");
  point.data = [{ x: step.cost_usd * PER, y: step.p_correct }];
  shown.chart.update("none");
}

function figures(step, { now }) {
  const cheaper = now.cost_usd ? (now.cost_usd - step.cost_usd) / now.cost_usd : null;
  const change =
    cheaper === null || Math.abs(cheaper) < 0.0005
      ? "as much as was chosen"
      : `${percent(Math.abs(cheaper))} ${cheaper > 0 ? "less" : "more"} than was chosen`;
  return h(
    "div",
    { class: "tiles two" },
    tile("Expected accuracy", probability(step.p_correct), {
      id: "p",
      more: `${points(step.p_correct - now.p_correct)} against what was chosen`,
    }),
    tile("Expected cost of 1,000 requests", usd(step.cost_usd * PER), { id: "cost", more: change }),
  );
}

function mixPanel(step, { names, now }) {
  const total = step.mix.reduce((a, b) => a + b, 0);
  const order = names
    .map((name, i) => [name, step.mix[i], now.mix[i]])
    .filter(([, a, b]) => a || b)
    .sort((a, b) => b[2] - a[2] || b[1] - a[1]);
  const rows = order.map(([name, n, before]) => [
    named(name),
    bar(n / total, { name }),
    percent(n / total),
    percent(before / total),
  ]);
  return panel(
    "Mix of LLMs",
    { id: "mix" },
    table(
      "Predicted mix",
      [{ name: "LLM" }, { name: "share" }, { name: "at this λ", number: true }, { name: "was chosen", number: true }],
      rows,
      { id: "mix" },
    ),
  );
}

function singlesPanel({ singles, requests }) {
  const rows = singles.map((s) => [
    named(s.name),
    probability(s.p_correct),
    usd(s.cost_usd * PER),
    s.could_take === requests ? "all" : `${count(s.could_take)} of ${count(requests)}`,
  ]);
  return panel(
    "One LLM for everything",
    { wide: true, id: "singles" },
    table(
      "One LLM for everything",
      [
        { name: "LLM" },
        { name: "expected accuracy", number: true },
        { name: "expected cost of 1,000", number: true },
        { name: "requests it could take", number: true },
      ],
      rows,
      { id: "singles" },
    ),
  );
}

const honesty = ({ singles, requests }) =>
  h(
    "p",
    { class: "note" },
    "All figures are predictions of the same weights that choose, so a choice looks slightly better here than it will be. Each request keeps its own cost limit. ",
    singles.some((s) => s.could_take < requests)
      ? "A single LLM is averaged over the requests it could have taken, which are not the same for all."
      : "",
  );
