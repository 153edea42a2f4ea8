// The latest decisions, decided again at every cost weight: drag the slider and see who would have been chosen.

import { go, here, shared } from "../address.js";
import { ask } from "../api.js";
import { axis, chartFigure, short, writeNames } from "../charts.js";
import { colour, colourOf } from "../colours.js";
import { h } from "../dom.js";
import { count, percent, plain, points, probability, usd } from "../format.js";
import { bar, named, noRecords, panel, table, tile } from "../parts.js";

export const title = () => "Trade-off";
export const lead = "What another cost weight λ would have done with the latest requests.";
export const filtered = true;

const PER = 1000;
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
  const input = h("input", { id: "weight", type: "range", min: 0, max: data.ladder.length - 1, step: 1, value: shown.at });
  const moved = () => {
    shown.at = Number(input.value);
    const weight = data.ladder[shown.at].cost_weight;
    output.textContent = `λ = ${plain(weight)}`;
    const step = data.ladder[shown.at];
    input.setAttribute("aria-valuetext", `cost weight ${plain(weight)}: expected accuracy ${probability(step.p_correct)}, ${usd(step.cost_usd * PER)} per 1,000 requests`);
    update();
  };
  input.addEventListener("input", moved);
  input.addEventListener("change", () => history.replaceState(null, "", `#/tradeoff?${new URLSearchParams({ ...here().params, cost_weight: data.ladder[shown.at].cost_weight })}`));
  const back = () => { input.value = startAt(data, {}); moved(); };
  moved();
  const latest = h("select", { id: "latest", onchange: (e) => go("tradeoff", { ...here().params, n: e.target.value }) },
    LATEST.map((n) => h("option", { value: n, selected: n === Number(params.n ?? 1000) }, `the latest ${count(n)}`)));
  return h("section", { class: "panel wide slider" },
    h("div", { class: "row" }, h("label", { for: "weight" }, h("b", {}, "Cost weight λ"), ": accuracy given up per US dollar"), output,
      data.cost_weight !== null && h("button", { type: "button", id: "in-use", onclick: back }, `In use: ${plain(data.cost_weight)}`)),
    input,
    h("div", { class: "ends" }, h("span", {}, "likeliest to be right"), h("span", {}, "cheapest")),
    h("div", { class: "row" }, h("label", { class: "field inline" }, h("span", {}, "Decide again"), latest), h("span", { class: "note" }, `${count(data.requests)} requests, recorded with ${objectives(data)}.`)));
}

const objectives = ({ objectives: found }) => Object.entries(found).map(([words, n]) => `${words} (${count(n)})`).join("; ");

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
  const change = cheaper === null || Math.abs(cheaper) < 0.0005 ? "as much as was chosen" : `${percent(Math.abs(cheaper))} ${cheaper > 0 ? "less" : "more"} than was chosen`;
  return h("div", { class: "tiles two" },
    tile("Expected accuracy", probability(step.p_correct), { id: "p", more: `${points(step.p_correct - now.p_correct)} against what was chosen` }),
    tile("Expected cost of 1,000 requests", usd(step.cost_usd * PER), { id: "cost", more: change }));
}

function mixPanel(step, { names, now }) {
  const total = step.mix.reduce((a, b) => a + b, 0);
  const order = names.map((name, i) => [name, step.mix[i], now.mix[i]]).filter(([, a, b]) => a || b).sort((a, b) => b[2] - a[2] || b[1] - a[1]);
  const rows = order.map(([name, n, before]) => [named(name), bar(n / total, { name }), percent(n / total), percent(before / total)]);
  return panel("Who would be chosen", { id: "mix" }, table("Predicted mix", [{ name: "LLM" }, { name: "share" }, { name: "at this λ", number: true }, { name: "was chosen", number: true }], rows, { id: "mix" }));
}

function frontierChart(shown) {
  const { data } = shown;
  return chartFigure("Expected accuracy against expected cost", {
    id: "frontier", wide: true, tall: true,
    note: "The line is every λ from 0 (right) upwards (left). Up and to the left is better. A single LLM below the line is beaten by routing at its cost.",
    summary: `Routing at λ 0 is expected to be right with ${probability(data.ladder[0].p_correct)} at ${usd(data.ladder[0].cost_usd * PER)} per 1,000 requests; what was chosen with ${probability(data.now.p_correct)} at ${usd(data.now.cost_usd * PER)}.`,
    legend: [{ name: "routing, λ from 0", swatch: "c0" }, { name: "this λ", swatch: "ca" }, { name: "what was chosen", swatch: "ink" }, { name: "one LLM for everything", swatch: "cx" }],
    config: () => frontierConfig(shown),
    onStart: (chart) => { shown.chart = chart; },
    table: { columns: [{ name: "Cost weight λ" }, { name: "expected accuracy", number: true }, { name: "expected cost of 1,000", number: true }], rows: () => data.ladder.map((s) => [plain(s.cost_weight), probability(s.p_correct), usd(s.cost_usd * PER)]) },
  });
}

/** Limits of the logarithmic axis, with room for names on the right. */
const room = (costs) => ({ min: Math.min(...costs) / 1.4, max: Math.max(...costs) * 2.2 });

function frontierConfig({ data, at }) {
  const xy = (o) => ({ x: o.cost_usd * PER, y: o.p_correct, name: o.name ?? (o.cost_weight === null ? "what was chosen" : `λ = ${plain(o.cost_weight)}`) });
  const positive = (o) => o.cost_usd > 0 && o.p_correct !== null;
  const curve = data.ladder.filter(positive).map(xy);
  const singles = data.singles.filter(positive).map(xy);
  const dot = (label, points, style) => ({ label, data: points, showLine: false, ...style });
  return {
    type: "scatter",
    data: { datasets: [
      dot("slider", [xy(data.ladder[at])], { pointRadius: 8, backgroundColor: colour("--ca"), borderColor: colour("--surface"), borderWidth: 2 }),
      dot("now", positive(data.now) ? [xy(data.now)] : [], { pointRadius: 9, pointStyle: "crossRot", borderColor: colour("--ink"), borderWidth: 3 }),
      { label: "routing", data: curve, showLine: true, borderColor: colour("--c0"), backgroundColor: colour("--c0"), borderWidth: 2, pointRadius: 2 },
      dot("singles", singles, { pointRadius: 6, pointStyle: "rectRot", backgroundColor: singles.map((s) => colourOf(s.name)), borderColor: colour("--surface") }),
    ] },
    options: {
      layout: { padding: { right: 12, top: 12 } },
      scales: { x: axis("expected cost of 1,000 requests, USD, logarithmic", usd, { type: "logarithmic", ...room([...curve, ...singles].map((p) => p.x)), ticks: { maxTicksLimit: 30, maxRotation: 0, callback: oneTwoFive } }), y: axis("expected accuracy", probability) },
      plugins: { tooltip: { callbacks: { label: ({ raw }) => `${raw.name ?? "this λ"}: ${probability(raw.y)} at ${usd(raw.x)}` } } },
    },
    plugins: [pointNames("singles")],
  };
}

/** Ticks at 1, 2 and 5 times a power of ten; on a narrow chart at the powers alone. */
function oneTwoFive(value) {
  const first = Number(value.toExponential(3).split("e")[0]);
  return (this.chart.width > 480 ? [1, 2, 5] : [1]).includes(first) ? short(usd(value)) : null;
}

/** Writes names beside the points of a data set. */
function pointNames(label) {
  return {
    id: "names",
    afterDatasetsDraw(chart) {
      const index = chart.data.datasets.findIndex((set) => set.label === label);
      const points = chart.getDatasetMeta(index).data.map(({ x, y }, i) => ({ x, y, r: 6, name: chart.data.datasets[index].data[i].name, weight: -i }));
      const curve = chart.getDatasetMeta(chart.data.datasets.findIndex((set) => set.label === "routing")).data;
      writeNames(chart, points, curve.map(({ x, y }) => ({ x, y, r: 4 })));
    },
  };
}

function singlesPanel({ singles, requests }) {
  const rows = singles.map((s) => [named(s.name), probability(s.p_correct), usd(s.cost_usd * PER), s.could_take === requests ? "all" : `${count(s.could_take)} of ${count(requests)}`]);
  return panel("One LLM for everything", { wide: true, id: "singles" }, table("One LLM for everything", [{ name: "LLM" }, { name: "expected accuracy", number: true }, { name: "expected cost of 1,000", number: true }, { name: "requests it could take", number: true }], rows, { id: "singles" }));
}

const honesty = ({ singles, requests }) => h("p", { class: "note" },
  "All of this is predicted, by the same weights that choose, so a choice looks a little better here than it will turn out. Each request keeps its own limit on cost. ",
  singles.some((s) => s.could_take < requests) ? "A single LLM is averaged over the requests it could have taken, which are not the same for all." : "");
