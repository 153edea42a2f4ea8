// The latest decisions, decided again at every cost weight: the slider shows which LLMs would have been chosen.

import { go, here, shared } from "../address.js";
import { ask } from "../api.js";
import { h, say } from "../dom.js";
import { brief, count, interval, percent, plain, points, probability, usd } from "../format.js";
import { bar, named, noRecords, panel, table, tile } from "../parts.js";
import { frontierChart, PER } from "./tradeoff_chart.js";

export const title = () => "Trade-off";
export const lead = "What another cost weight λ would have done with the latest requests.";
export const filtered = true;

const LATEST = [200, 500, 1000, 2000];

export const load = (params, signal) =>
  ask("frontier", { ...shared(params), n: params.n, requests_per_month: params.requests_per_month }, signal);

export function draw(data, params) {
  if (!data.requests) return noRecords(params);
  const shown = { data, chart: null, at: startAt(data, params), copied: h("div", { id: "copied" }) };
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
    shown.copied.replaceChildren();
    const weight = data.ladder[shown.at].cost_weight;
    output.textContent = `λ = ${plain(weight)}`;
    const step = data.ladder[shown.at];
    input.setAttribute(
      "aria-valuetext",
      `cost weight ${plain(weight)}: expected accuracy ${probability(step.p_correct)}, ${step.usd_per_month ? `${usd(step.usd_per_month.value)} a month` : `${usd(step.usd_per_request.value * PER)} per 1,000 requests`}`,
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
    monthRow(data),
    copyRow(shown),
    shown.copied,
  );
}

/** How many requests come in a month: by the records, or by what the reader says. */
function monthRow({ rate, hours }) {
  const said = rate && !rate.measured;
  const input = h("input", {
    id: "per-month",
    type: "number",
    min: 1,
    step: 1,
    inputmode: "numeric",
    value: said ? rate.per_month : "",
    placeholder: rate ? Math.round(rate.per_month) : "such as 100000",
    onchange: (e) => go("tradeoff", { ...here().params, requests_per_month: e.target.value }),
  });
  const span = hours >= 48 ? `${(hours / 24).toFixed(1)} days` : `${hours.toFixed(1)} hours`;
  const note = !rate
    ? `How many requests come in a month is not known: the records span ${span}, and days have busy and quiet hours. Say how many, or come back after a day.`
    : said
      ? "As you say; empty it to go by the records."
      : `About ${brief(rate.per_month)} a month, as in the ${span} on record.`;
  return h(
    "div",
    { class: "row" },
    h("label", { class: "field inline" }, h("span", {}, "Requests per month"), input),
    h("span", { class: rate ? "note" : "note warn", id: "rate" }, note),
  );
}

/** The virtual model with this cost weight, ready to be pasted into the proxy's configuration. */
function copyRow(shown) {
  const { virtual_models: names } = shown.data;
  if (!names.length) return null;
  const which = h(
    "select",
    { id: "copy-for" },
    names.map((name) => h("option", { value: name }, name)),
  );
  const copy = () => copyYaml(shown, which.value);
  return h(
    "div",
    { class: "row" },
    h("label", { class: "field inline" }, h("span", {}, "Virtual model"), which),
    h("button", { type: "button", id: "copy", onclick: copy }, "Copy as YAML"),
    h("span", { class: "note" }, "Its settings with this λ, to paste into the proxy’s configuration."),
  );
}

async function copyYaml({ data, at, copied }, name) {
  const asked = { virtual_model: name, cost_weight: data.ladder[at].cost_weight };
  let said;
  try {
    const { yaml } = await ask("setting", asked);
    copied.replaceChildren(h("pre", { id: "yaml", tabindex: "0" }, yaml));
    said = await navigator.clipboard.writeText(yaml).then(
      () => "Copied.",
      () => "The browser does not let this page copy; select the text below.",
    );
  } catch (error) {
    const noClipboard = copied.querySelector("#yaml");
    said = noClipboard ? "Without https the browser does not let a page copy; select the text below." : error.message;
  }
  copied.prepend(h("p", { class: "note", role: "status" }, said));
  say(said);
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

const between = (one, write) => `95 %: ${write(one.low)} to ${write(one.high)}`;
const thousand = (one) => ({ value: one.value * PER, low: one.low * PER, high: one.high * PER });

function figures(step, { now, rate, billed_ratio: ratio }) {
  const cheaper = now.cost_usd ? (now.cost_usd - step.cost_usd) / now.cost_usd : null;
  const change =
    cheaper === null || Math.abs(cheaper) < 0.0005
      ? "as much as was chosen"
      : `${percent(Math.abs(cheaper))} ${cheaper > 0 ? "less" : "more"} than was chosen`;
  const per = thousand(step.usd_per_request);
  const month = step.usd_per_month;
  return h(
    "div",
    { class: "stack" },
    h(
      "div",
      { class: "tiles two" },
      tile("Expected accuracy", probability(step.p_correct), {
        id: "p",
        more: `${between(step.accuracy, probability)}; ${points(step.p_correct - now.p_correct)} against what was chosen`,
      }),
      tile("Cost of a month", month ? usd(month.value) : "not known", {
        id: "month",
        more: month ? `${between(month, usd)}; ${change}` : "say how many requests come in a month, above",
      }),
      tile("Cost of 1,000 requests", usd(per.value), {
        id: "cost",
        more: month ? between(per, usd) : `${between(per, usd)}; ${change}`,
      }),
      month &&
        tile("Against what was chosen, a month", signed(month.value - now.usd_per_month.value), {
          id: "change",
          more: `what was chosen: ${interval(now.usd_per_month, usd)}`,
        }),
    ),
    h(
      "p",
      { class: "note" },
      ratio === null
        ? "Costs are forecasts; too few bills are known to correct them."
        : `Costs are forecasts times what bills were of them: of each LLM with 30 bills its own, else ${ratio.toFixed(2)}.`,
      rate ? " Intervals are over requests; how many come is taken as it is." : "",
    ),
  );
}

const signed = (value) => `${value > 0 ? "+" : ""}${usd(value)}`;

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
