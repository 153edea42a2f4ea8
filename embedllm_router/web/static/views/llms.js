// The learned LLMs on a map, and in a list that can be searched.

import { shared } from "../address.js";
import { ask } from "../api.js";
import { axis, chartFigure, writeNames } from "../charts.js";
import { colour, faded } from "../colours.js";
import { fill, h, say } from "../dom.js";
import { count, percent, probability, usd } from "../format.js";
import { badge, facts, nothing, panel, table } from "../parts.js";

export const title = () => "LLMs";
export const lead = "The LLMs of the weights. LLMs near each other get the same prompts right.";
export const filtered = true;

export const load = (params, signal) => ask("llms", shared(params), signal);

export function draw(data) {
  if (!data.artifact) return nothing("No weights are loaded", "The defaults answer. Health says what is wrong.");
  const shown = { data, chart: null, text: "", picked: null };
  const detail = h("div", { id: "llm-detail", "aria-live": "polite" });
  const list = h("div");
  const refresh = () => {
    paint(shown);
    fill(list, listOf(shown, pick));
    fill(detail, details(shown, pick));
  };
  const pick = (id) => {
    shown.picked = id;
    refresh();
    if (id) say(`${id} selected`);
  };
  const search = h("input", {
    id: "llm-search",
    type: "search",
    placeholder: "name or vendor",
    oninput: (e) => {
      shown.text = e.target.value.trim().toLowerCase();
      refresh();
    },
  });
  const map = mapChart(shown, pick);
  refresh();
  return [
    h("div", { class: "filters inner" }, h("label", { class: "field grow" }, h("span", {}, "Find an LLM"), search)),
    h("div", { class: "map" }, map, detail),
    list,
  ];
}

const N_COLOURS = 10;

const found = ({ text }, llm) =>
  !text || llm.id.toLowerCase().includes(text) || llm.vendor.toLowerCase().includes(text);
const lit = (shown, llm) => (shown.picked ? llm.id === shown.picked || near(shown, llm) : found(shown, llm));
const near = ({ data, picked }, llm) =>
  data.llms.find((one) => one.id === picked)?.nearest.some(([id]) => id === llm.id);

/** Vendors, those with the most LLMs first. */
function vendorsOf(llms) {
  const n = new Map();
  for (const { vendor } of llms) n.set(vendor, (n.get(vendor) ?? 0) + 1);
  return [...n].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([vendor]) => vendor);
}

function mapChart(shown, pick) {
  const { llms, explained, artifact } = shown.data;
  const vendors = vendorsOf(llms);
  return chartFigure("Map of LLMs", {
    id: "map",
    tall: true,
    wide: true,
    legend: [
      ...vendors.slice(0, N_COLOURS).map((name, i) => ({ name, swatch: `c${i}` })),
      ...(vendors.length > N_COLOURS ? [{ name: "others", swatch: "cx" }] : []),
    ],
    note: `Two principal axes of the LLM embeddings of ${artifact}; they hold ${percent(explained[0] + explained[1])} of the differences. Size: graded answers it was learned from. Ringed: chosen in this span of time.`,
    summary: `${llms.length} LLMs of ${vendors.length} vendors. The list below says the same in words.`,
    config: () => mapConfig(shown, pick),
    onStart: (chart) => {
      shown.chart = chart;
      paint(shown);
    },
  });
}

function margins(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = (high - low || 1) * 0.08;
  return { min: low - margin, max: high + margin };
}

function mapConfig({ data }, pick) {
  const points = data.llms.map((llm) => ({ x: llm.x, y: llm.y, r: 3 + Math.sqrt(llm.labels) / 22, llm }));
  const label = ({ raw: { llm } }) => [
    `${llm.id} (${llm.vendor})`,
    `${count(llm.labels)} graded answers, ${percent(llm.mean_correctness)} right`,
  ];
  const bare = (name) => ({ ticks: { display: false }, ...margins(data.llms.map((llm) => llm[name])) });
  return {
    type: "bubble",
    data: { datasets: [{ label: "LLMs", data: points }] },
    options: {
      onClick: (_, hits, chart) => pick(hits.length ? chart.data.datasets[0].data[hits[0].index].llm.id : null),
      layout: { padding: 12 },
      scales: {
        x: axis(`first axis, ${percent(data.explained[0])}`, String, bare("x")),
        y: axis(`second axis, ${percent(data.explained[1])}`, String, bare("y")),
      },
      plugins: { tooltip: { callbacks: { label } } },
    },
    plugins: [mapNames],
  };
}

function paint(shown) {
  if (!shown.chart) return;
  const set = shown.chart.data.datasets[0];
  const vendors = vendorsOf(shown.data.llms);
  const hue = ({ vendor }) => colour(vendors.indexOf(vendor) < N_COLOURS ? `--c${vendors.indexOf(vendor)}` : "--cx");
  const lights = shown.data.llms.map((llm) => lit(shown, llm));
  set.data.forEach((point, i) => {
    point.lit = lights[i];
    point.bold = point.llm.id === shown.picked;
  });
  set.backgroundColor = shown.data.llms.map((llm, i) => faded(hue(llm), lights[i] ? 0.75 : 0.12));
  set.borderColor = shown.data.llms.map((llm, i) =>
    llm.chosen && lights[i] ? colour("--ink") : faded(hue(llm), lights[i] ? 1 : 0.2),
  );
  set.borderWidth = shown.data.llms.map((llm) => (llm.chosen ? 2.5 : 1));
  shown.chart.update("none");
}

const mapNames = {
  id: "names",
  afterDatasetsDraw(chart) {
    const meta = chart.getDatasetMeta(0).data;
    const weight = ({ bold, llm }) => (bold ? 1e9 : 0) + (llm.chosen ? 1e6 : 0) + llm.labels;
    const points = chart.data.datasets[0].data.map((p, i) => ({
      x: meta[i].x,
      y: meta[i].y,
      r: p.r,
      name: p.llm.id,
      bold: p.bold || p.llm.chosen > 0,
      weight: weight(p),
      lit: p.lit,
    }));
    writeNames(
      chart,
      points.filter((p) => p.lit),
    );
  },
};

function details(shown, pick) {
  const llm = shown.data.llms.find((one) => one.id === shown.picked);
  if (!llm)
    return h(
      "p",
      { class: "panel note" },
      "Choose an LLM on the map or in the list to see the most similar ones.",
    );
  const price =
    llm.input_usd_per_mtok === null
      ? "unknown"
      : `${usd(llm.input_usd_per_mtok)} in, ${usd(llm.output_usd_per_mtok)} out`;
  return panel(
    llm.id,
    { wide: true, id: "llm" },
    facts([
      ["Vendor", llm.vendor],
      ["Thinks before it answers", llm.thinking ? "yes" : "no"],
      ["Graded answers", `${count(llm.labels)}, ${percent(llm.mean_correctness)} right`],
      ["List price per million tokens", price],
      ["Chosen in this span", count(llm.chosen)],
    ]),
    h("h3", {}, "Most similar LLMs"),
    h(
      "ol",
      { class: "list" },
      llm.nearest.map(([id, cosine]) =>
        h(
          "li",
          {},
          h("button", { type: "button", class: "link", onclick: () => pick(id) }, id),
          ` ${cosine.toFixed(2)}`,
        ),
      ),
    ),
    h("button", { type: "button", onclick: () => pick(null) }, "Show all"),
  );
}

function listOf(shown, pick) {
  const rows = shown.data.llms
    .filter((llm) => found(shown, llm))
    .sort((a, b) => b.chosen - a.chosen || b.mean_correctness - a.mean_correctness);
  const columns = [
    { name: "LLM" },
    { name: "Vendor" },
    { name: "Graded answers", number: true },
    { name: "Right", number: true },
    { name: "USD in / out per M", number: true },
    { name: "Chosen", number: true },
  ];
  const name = (llm) =>
    h(
      "span",
      {},
      h("button", { type: "button", class: "link", onclick: () => pick(llm.id) }, llm.id),
      llm.thinking && badge("thinks"),
    );
  const price = (llm) =>
    llm.input_usd_per_mtok === null ? "–" : `${llm.input_usd_per_mtok} / ${llm.output_usd_per_mtok}`;
  return panel(
    `${count(rows.length)} LLMs`,
    { wide: true, id: "llm-list" },
    table(
      "LLMs",
      columns,
      rows.map((llm) => [
        name(llm),
        llm.vendor,
        count(llm.labels),
        probability(llm.mean_correctness),
        price(llm),
        count(llm.chosen),
      ]),
      { id: "llm-list" },
    ),
  );
}
