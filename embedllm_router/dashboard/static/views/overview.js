// What went where, at what cost, how fast, and what went wrong.

import { linkTo, shared } from "../address.js";
import { ask } from "../api.js";
import { axis, chartFigure } from "../charts.js";
import { colour, colourClass, colourOf } from "../colours.js";
import { h } from "../dom.js";
import { brief, count, fullTime, ms, percent, points, probability, usd, words } from "../format.js";
import { facts, named, noRecords, panel, table, tile } from "../parts.js";
import { timeOptions } from "../times.js";

export const title = () => "Overview";
export const lead = "Where requests went, what that cost, and what it saved.";
export const filtered = true;

const MOST_IN_MIX = 9;
const share = (part, whole) => (whole ? part / whole : null);

export const load = (params, signal) => ask("overview", shared(params), signal);

export function draw(data, params) {
  if (!data.total.requests) return noRecords(params);
  return [
    tiles(data),
    meaning(data.total),
    h("div", { class: "grid" }, mixChart(data), spendChart(data), latencyChart(data), overheadChart(data), troubleChart(data)),
    byLLM(data),
    h("div", { class: "grid" }, reasons(data, params), problems(data, params)),
  ];
}

function tiles({ total, spread }) {
  const saved = total.likeliest_usd - total.expected_usd;
  const bill = share(total.forecast_billed_usd, total.forecast_usd);
  const failing = share(total.failed, total.requests);
  return h("div", { class: "tiles" },
    tile("Requests", count(total.requests), { id: "requests", more: `${percent(share(total.succeeded, total.requests))} answered` }),
    tile("Spend", usd(total.billed_usd), { id: "spend", more: bill === null ? "nothing billed yet" : `billed; ${percent(bill)} of the forecast` }),
    tile("Saved against always-likeliest", total.compared ? percent(share(saved, total.likeliest_usd)) : "–", { id: "saved", tone: saved > 0 ? "good" : null, more: `${usd(saved)} of expected cost` }),
    tile("Gained on always-cheapest", total.compared ? points((total.p_correct - total.cheapest_p_correct) / total.compared) : "–", { id: "gained", more: "of expected accuracy" }),
    tile("Latency, median", ms(spread.latency_p50), { id: "latency", more: `95th percentile ${ms(spread.latency_p95)}` }),
    tile("Added by routing, median", ms(spread.route_p50), { id: "route", more: `95th percentile ${ms(spread.route_p95)}` }),
    tile("Fallbacks", percent(share(total.fallbacks, total.requests)), { id: "fallbacks", more: `${count(total.fallbacks)} answered by another LLM` }),
    tile("Errors", percent(failing), { id: "errors", tone: failing > 0.05 ? "bad" : null, more: `${count(total.failed)} failed; routing itself failed open ${count(total.failed_open)} times` }));
}

function meaning(total) {
  const n = total.compared;
  if (!n) return null;
  const p = total.p_correct / n;
  const best = total.likeliest_p_correct / n;
  const least = total.cheapest_p_correct / n;
  const saved = total.likeliest_usd - total.expected_usd;
  const extra = total.expected_usd - total.cheapest_usd;
  return panel("What routing did to cost and accuracy", { wide: true, id: "meaning" },
    h("p", {}, h("b", {}, "Had every request gone to the LLM likeliest to be right, "), `it would have been expected to cost ${usd(total.likeliest_usd)}. The choices made were expected to cost ${usd(total.expected_usd)}: ${usd(saved)} (${percent(share(saved, total.likeliest_usd))}) less, for ${points(p - best)} of expected accuracy (${probability(best)} → ${probability(p)}).`),
    h("p", {}, h("b", {}, "Had every request gone to the cheapest, "), `it would have cost ${usd(total.cheapest_usd)} with ${probability(least)} expected to be right. Routing spends ${usd(extra)} more for ${points(p - least)}.`),
    h("p", { class: "note" }, `Expected against expected, over ${count(n)} requests: both sides are the router’s own predictions, made before the answer. `,
      total.forecast ? `What providers billed was ${percent(share(total.forecast_billed_usd, total.forecast_usd))} of that forecast, over the ${count(total.forecast)} requests both are known for. ` : "",
      "Whether the probabilities hold is under ", h("a", { href: linkTo("calibration") }, "Calibration"), "."));
}

function mixChart({ starts, step_s: step, llms, by_step: steps }) {
  const shown = llms.filter((line) => line.chosen.requests > 0);
  const named = shown.length > MOST_IN_MIX + 1 ? shown.slice(0, MOST_IN_MIX) : shown;
  const rest = shown.slice(named.length);
  const series = named.map((line) => ({ name: line.name, values: line.by_step, swatch: colourClass(line.name) }));
  if (rest.length) series.push({ name: `${rest.length} others`, values: starts.map((_, i) => rest.reduce((sum, line) => sum + line.by_step[i], 0)), swatch: "cx" });
  const label = (item) => `${item.dataset.label}: ${count(item.parsed.y)} (${percent(share(item.parsed.y, steps[item.dataIndex].requests))})`;
  return chartFigure("Chosen LLMs over time", {
    id: "mix", wide: true, legend: series,
    summary: `Requests per step by chosen LLM. In all: ${shown.slice(0, 5).map((line) => `${line.name} ${count(line.chosen.requests)}`).join(", ")}.`,
    config: () => ({
      type: "bar",
      data: { labels: starts, datasets: series.map((s) => ({ label: s.name, data: s.values, backgroundColor: colour(`--${s.swatch}`), barPercentage: 0.94, categoryPercentage: 1 })) },
      options: timeOptions(starts, step, { title: "requests", format: brief }, { stacked: true, label }),
    }),
    table: { columns: [{ name: "From" }, ...series.map((s) => ({ name: s.name, number: true }))], rows: () => starts.map((start, i) => [fullTime(start), ...series.map((s) => count(s.values[i]))]) },
  });
}

/** A chart of lines over time; `series` are {name, values, variable, dash}. */
function lines(title, { starts, step_s: step }, series, y, more = {}) {
  return chartFigure(title, {
    legend: series.map((s) => ({ name: s.name, swatch: s.swatch, dash: Boolean(s.dash) })),
    config: () => ({
      type: "line",
      data: { labels: starts, datasets: series.map((s) => ({ label: s.name, data: s.values, borderColor: colour(`--${s.swatch}`), backgroundColor: colour(`--${s.swatch}`), borderDash: s.dash ?? [], borderWidth: 2, pointRadius: starts.length > 2 ? 0 : 3, pointHitRadius: 8, spanGaps: true })) },
      options: timeOptions(starts, step, y),
    }),
    table: { columns: [{ name: "From" }, ...series.map((s) => ({ name: s.name, number: true }))], rows: () => starts.map((start, i) => [fullTime(start), ...series.map((s) => y.format(s.values[i]))]) },
    ...more,
  });
}

/** Whether a step lies wholly in the span; sums of the others look like a drop that is none. */
const isWhole = ({ since, until, step_s: step }, start) => start >= Date.parse(since) / 1000 && start + step <= Date.parse(until) / 1000;

function spendChart(data) {
  const of = (name) => data.by_step.map((sums, i) => (isWhole(data, data.starts[i]) ? sums[name] : null));
  const series = [
    { name: "billed", swatch: "c0", values: of("billed_usd") },
    { name: "always-likeliest, expected", swatch: "c1", dash: [6, 4], values: of("likeliest_usd") },
    { name: "always-cheapest, expected", swatch: "c2", dash: [2, 3], values: of("cheapest_usd") },
  ];
  return lines("Spend over time", data, series, { title: "USD per step", format: usd }, { id: "spend", summary: `Billed ${usd(data.total.billed_usd)} in all; always the likeliest would have been expected to cost ${usd(data.total.likeliest_usd)}.` });
}

const thinned = ({ every }) => (every > 1 ? `Over one in ${count(every)} of the requests.` : null);

function latencyChart(data) {
  const of = (name) => data.spread_by_step.map((s) => s[name]);
  const series = [{ name: "median", swatch: "c0", values: of("latency_p50") }, { name: "95th percentile", swatch: "c1", dash: [6, 4], values: of("latency_p95") }];
  return lines("Latency", data, series, { title: "", format: ms }, { id: "latency", note: thinned(data), summary: `From call to last byte. Median ${ms(data.spread.latency_p50)}, 95th percentile ${ms(data.spread.latency_p95)}.` });
}

function overheadChart(data) {
  const of = (name) => data.spread_by_step.map((s) => s[name]);
  const series = [{ name: "median", swatch: "c0", values: of("route_p50") }, { name: "95th percentile", swatch: "c1", dash: [6, 4], values: of("route_p95") }];
  return lines("Time added by routing", data, series, { title: "", format: ms }, { id: "overhead", note: thinned(data), summary: `Median ${ms(data.spread.route_p50)}, 95th percentile ${ms(data.spread.route_p95)}.` });
}

function troubleChart(data) {
  const of = (name) => data.by_step.map((sums) => share(sums[name], sums.requests));
  const series = [
    { name: "fallbacks", swatch: "c0", values: of("fallbacks") },
    { name: "failed", swatch: "c9", dash: [6, 4], values: of("failed") },
    { name: "routing failed open", swatch: "c3", dash: [2, 3], values: of("failed_open") },
  ];
  const { total } = data;
  return lines("Fallbacks and failures", data, series, { title: "share of requests", format: percent, more: { suggestedMax: 0.02 } }, { id: "trouble", summary: `Of all requests ${percent(share(total.fallbacks, total.requests))} fell back, ${percent(share(total.failed, total.requests))} failed, ${percent(share(total.failed_open, total.requests))} failed open.` });
}

function byLLM({ llms, total }) {
  const columns = [{ name: "LLM" }, ...["chosen", "share", "p_correct", "expected / request", "answered", "billed", "median", "95th"].map((name) => ({ name, number: true }))];
  const rows = llms.map((line) => [
    named(line.name), count(line.chosen.requests), percent(share(line.chosen.requests, total.requests)),
    probability(share(line.chosen.p_correct, line.chosen.compared)), usd(share(line.chosen.expected_usd, line.chosen.compared)),
    count(line.answered), usd(line.answered_usd), ms(line.spread.latency_p50), ms(line.spread.latency_p95),
  ]);
  return panel("By LLM", { wide: true, note: "Chosen: what routing picked. Answered, billed and latency: what really answered, fallbacks included.", id: "llms" }, table("By LLM", columns, rows, { id: "llms" }));
}

function reasons({ reasons: found, total }, params) {
  const linked = (reason) => h("a", { href: linkTo("decisions", { ...shared(params), reason }) }, words(reason));
  return panel("Why they were chosen", { id: "reasons" }, facts(Object.entries(found).map(([reason, n]) => [linked(reason), `${count(n)} (${percent(share(n, total.requests))})`])));
}

function problems({ problems: found }, params) {
  const linked = (error) => h("a", { href: linkTo("decisions", { ...shared(params), q: error }) }, error);
  const listed = Object.entries(found);
  return panel("What went wrong", { id: "problems" }, listed.length ? facts(listed.map(([error, n]) => [linked(error), count(n)])) : h("p", {}, "Nothing."));
}
