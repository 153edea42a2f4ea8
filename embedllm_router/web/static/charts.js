// Charts: Chart.js in this page's colours, each with a title, a legend in HTML and a table behind it.

import { colour, colourClass } from "./colours.js";
import { h } from "./dom.js";
import { foldedTable } from "./parts.js";

const pending = [];
const running = [];
const still = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * A chart to be placed in the page; it is drawn by `startCharts`.
 * @param {string} title
 * @param {object} chart
 * @param {string} chart.summary what it shows, in words
 * @param {() => object} chart.config Chart.js configuration, made when the colours are known
 * @param {Array<{name: string, swatch?: string, dash?: boolean}>} [chart.legend] names; `swatch` is a class, else the name's own
 * @param {{columns: Array, rows: () => Array}} chart.table
 */
export function chartFigure(
  title,
  { summary, config, legend = [], table, note = null, tall = false, wide = false, id = null, onStart = null },
) {
  const canvas = h("canvas", { role: "img", "aria-label": `${title}. ${summary}` });
  pending.push({ canvas, config, onStart });
  return h(
    "figure",
    { class: `panel chart ${wide ? "wide" : ""} ${tall ? "tall" : ""}`, "data-chart": id },
    h("figcaption", {}, h("h2", {}, title), note && h("p", { class: "note" }, note)),
    legend.length > 0 && h("ul", { class: "legend" }, legend.map(legendItem)),
    h("div", { class: "canvas" }, canvas),
    table && foldedTable(title, table.columns, table.rows),
  );
}

function legendItem({ name, swatch = colourClass(name), dash = false }) {
  return h("li", { class: swatch }, h("i", { class: dash ? "swatch dash" : "swatch", "aria-hidden": "true" }), name);
}

/** Draws what was placed since. */
export function startCharts() {
  setDefaults();
  for (const { canvas, config, onStart } of pending.splice(0)) {
    if (!canvas.isConnected) continue;
    const chart = new Chart(canvas, config());
    running.push(chart);
    onStart?.(chart);
  }
}

/** Frees the charts of the page before. */
export function endCharts() {
  for (const chart of running.splice(0)) chart.destroy();
}

/** Forgets charts that were made but never placed. */
export function dropPending() {
  pending.length = 0;
}

function setDefaults() {
  const d = Chart.defaults;
  d.animation = still.matches ? false : { duration: 200 };
  d.font.family = getComputedStyle(document.body).fontFamily;
  d.font.size = 12;
  d.color = colour("--muted");
  d.borderColor = colour("--line");
  d.maintainAspectRatio = false;
  d.plugins.legend.display = false;
  Object.assign(d.plugins.tooltip, {
    backgroundColor: colour("--ink"),
    titleColor: colour("--ground"),
    bodyColor: colour("--ground"),
    padding: 10,
    cornerRadius: 6,
    boxPadding: 4,
    usePointStyle: true,
  });
}

/** Without zeros at the end: 20.00 s → 20 s; cents stay. */
export const short = (text) =>
  text.startsWith("$") ? text.replace(/(\.\d\d\d*?)0+$/, "$1") : text.replace(/\.0+(?= |$)|(\.\d*?)0+(?= |$)/, "$1");

/** Writes names beside points: the weightiest first, none over another. `points` are {x, y, r, name, bold, weight}, `avoid` {x, y, r}. */
export function writeNames({ ctx, chartArea: area }, points, avoid = []) {
  const taken = [...points, ...avoid].map((p) => ({ x: p.x - p.r, y: p.y - p.r, w: 2 * p.r, h: 2 * p.r, own: p }));
  ctx.save();
  ctx.fillStyle = colour("--ink");
  for (const point of [...points].sort((a, b) => b.weight - a.weight)) {
    ctx.font = `${point.bold ? "600 " : ""}11.5px ${Chart.defaults.font.family}`;
    const spot = spotFor(point, ctx.measureText(point.name).width, area, taken);
    if (!spot) continue;
    taken.push(spot);
    ctx.fillText(point.name, spot.x, spot.y + 10);
  }
  ctx.restore();
}

const overlap = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

function spotFor(point, w, area, taken) {
  const gap = point.r + 4;
  const spots = [
    [gap, -7],
    [-gap - w, -7],
    [-w / 2, -gap - 13],
    [-w / 2, gap],
    [gap, -gap - 6],
    [gap, gap - 8],
    [-gap - w, -gap - 8],
    [-gap - w, gap - 4],
    [gap, -gap - 18],
    [gap, gap + 6],
  ].map(([dx, dy]) => ({ x: point.x + dx, y: point.y + dy, w: w + 5, h: 13 }));
  return spots.find(
    (s) =>
      s.x >= area.left &&
      s.x + w <= area.right + 4 &&
      s.y >= area.top - 6 &&
      s.y + 13 <= area.bottom + 6 &&
      !taken.some((other) => other.own !== point && overlap(s, other)),
  );
}

/** Options of an axis. */
export function axis(title, format, more = {}) {
  const { ticks = {}, ...others } = more;
  return {
    title: { display: Boolean(title), text: title },
    border: { display: false },
    grid: { color: colour("--line") },
    ticks: { callback: (value) => short(format(value)), maxTicksLimit: 6, ...ticks },
    ...others,
  };
}
