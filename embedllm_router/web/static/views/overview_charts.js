// The overview's charts: all of them over time.

import { chartFigure } from "../charts.js";
import { colour, colourClass } from "../colours.js";
import { brief, count, fullTime, ms, percent, usd } from "../format.js";
import { changeMarks, timeOptions } from "../times.js";

const MOST_IN_MIX = 9;
const share = (part, whole) => (whole ? part / whole : null);

export function mixChart(data) {
  const { starts, step_s: step, llms, by_step: steps } = data;
  const shown = llms.filter((line) => line.chosen.requests > 0);
  const named = shown.length > MOST_IN_MIX + 1 ? shown.slice(0, MOST_IN_MIX) : shown;
  const rest = shown.slice(named.length);
  const series = named.map((line) => ({ name: line.name, values: line.by_step, swatch: colourClass(line.name) }));
  if (rest.length)
    series.push({
      name: `${rest.length} others`,
      values: starts.map((_, i) => rest.reduce((sum, line) => sum + line.by_step[i], 0)),
      swatch: "cx",
    });
  const label = (item) =>
    `${item.dataset.label}: ${count(item.parsed.y)} (${percent(share(item.parsed.y, steps[item.dataIndex].requests))})`;
  return chartFigure("Chosen LLMs over time", {
    id: "mix",
    wide: true,
    legend: series,
    summary: `Requests per step by chosen LLM. In all: ${shown
      .slice(0, 5)
      .map((line) => `${line.name} ${count(line.chosen.requests)}`)
      .join(", ")}.`,
    config: () => ({
      type: "bar",
      data: {
        labels: starts,
        datasets: series.map((s) => ({
          label: s.name,
          data: s.values,
          backgroundColor: colour(`--${s.swatch}`),
          barPercentage: 0.94,
          categoryPercentage: 1,
        })),
      },
      options: timeOptions(starts, step, { title: "requests", format: brief }, { stacked: true, label }),
      plugins: [changeMarks(data)],
    }),
    table: {
      columns: [{ name: "From" }, ...series.map((s) => ({ name: s.name, number: true }))],
      rows: () => starts.map((start, i) => [fullTime(start), ...series.map((s) => count(s.values[i]))]),
    },
  });
}

/** Whether a value stands between gaps: a line has no end there that one could see. */
const isAlone = (values, i) => isNumber(values[i]) && !isNumber(values[i - 1]) && !isNumber(values[i + 1]);
const isNumber = (value) => value !== null && value !== undefined && !Number.isNaN(value);

/** A chart of lines over time; `series` are {name, values, variable, dash}. */
function lines(title, data, series, y, more = {}) {
  const { starts, step_s: step } = data;
  return chartFigure(title, {
    legend: series.map((s) => ({ name: s.name, swatch: s.swatch, dash: Boolean(s.dash) })),
    config: () => ({
      type: "line",
      data: {
        labels: starts,
        datasets: series.map((s) => ({
          label: s.name,
          data: s.values,
          borderColor: colour(`--${s.swatch}`),
          backgroundColor: colour(`--${s.swatch}`),
          borderDash: s.dash ?? [],
          borderWidth: 2,
          pointRadius: s.values.map((_, i) => (starts.length <= 2 || isAlone(s.values, i) ? 3 : 0)),
          pointHitRadius: 8,
          spanGaps: true,
        })),
      },
      options: timeOptions(starts, step, y),
      plugins: [changeMarks(data)],
    }),
    table: {
      columns: [{ name: "From" }, ...series.map((s) => ({ name: s.name, number: true }))],
      rows: () => starts.map((start, i) => [fullTime(start), ...series.map((s) => y.format(s.values[i]))]),
    },
    ...more,
  });
}

/** Whether a step lies wholly in the span; sums of partial steps would look like a drop. */
const isWhole = ({ since, until, step_s: step }, start) =>
  start >= Date.parse(since) / 1000 && start + step <= Date.parse(until) / 1000;

/** Says that steps are missing from a chart of sums, where they have requests. */
const partial = (data) =>
  data.by_step.some(({ requests }, i) => requests > 0 && !isWhole(data, data.starts[i]))
    ? "Without the steps that the time span cuts off, the newest among them."
    : null;

export function spendChart(data) {
  const of = (name) => data.by_step.map((sums, i) => (isWhole(data, data.starts[i]) ? sums[name] : null));
  const series = [
    { name: "billed", swatch: "c0", values: of("billed_usd") },
    { name: "always the most accurate, expected", swatch: "c1", dash: [6, 4], values: of("likeliest_usd") },
    { name: "always the cheapest, expected", swatch: "c2", dash: [2, 3], values: of("cheapest_usd") },
  ];
  return lines(
    "Spend over time",
    data,
    series,
    { title: "USD per step", format: usd },
    {
      id: "spend",
      note: partial(data),
      summary: `Billed ${usd(data.total.billed_usd)} in total; the expected cost of always choosing the most accurate LLM is ${usd(data.total.likeliest_usd)}.`,
    },
  );
}

export function billsChart(data) {
  const of = (name) => data.by_step.map((sums, i) => (isWhole(data, data.starts[i]) ? sums[name] : null));
  const series = [
    { name: "billed", swatch: "c0", values: of("forecast_billed_usd") },
    { name: "forecast for the same answers", swatch: "c1", dash: [6, 4], values: of("forecast_usd") },
  ];
  const { total } = data;
  return lines(
    "Bills against forecasts over time",
    data,
    series,
    { title: "USD per step", format: usd },
    {
      id: "bills",
      note: partial(data),
      summary: `Of answers that have both, ${usd(total.forecast_billed_usd)} was billed and ${usd(total.forecast_usd)} forecast.`,
    },
  );
}

const thinned = ({ every }) => (every > 1 ? `Over one in ${count(every)} of the requests.` : null);

export function latencyChart(data) {
  const of = (name) => data.spread_by_step.map((s) => s[name]);
  const waited = [
    { name: "clients waited, median", swatch: "c0", values: of("total_p50") },
    { name: "95th percentile", swatch: "c1", dash: [6, 4], values: of("total_p95") },
  ];
  const series = [
    ...(data.spread.total_p50 === null ? [] : waited), // records of earlier versions do not say
    { name: "last call alone, median", swatch: "c2", dash: [2, 3], values: of("latency_p50") },
    { name: "95th percentile of it", swatch: "c3", dash: [8, 3, 2, 3], values: of("latency_p95") },
  ];
  return lines(
    "How long clients waited",
    data,
    series,
    { title: "", format: ms },
    {
      id: "latency",
      note: thinned(data),
      summary: `From the request’s arrival to the last byte, with attempts that failed. Median ${ms(data.spread.total_p50)}, 95th percentile ${ms(data.spread.total_p95)}; the last call alone ${ms(data.spread.latency_p50)} and ${ms(data.spread.latency_p95)}.`,
    },
  );
}

export function overheadChart(data) {
  const of = (name) => data.spread_by_step.map((s) => s[name]);
  const series = [
    { name: "median", swatch: "c0", values: of("route_p50") },
    { name: "95th percentile", swatch: "c1", dash: [6, 4], values: of("route_p95") },
  ];
  return lines(
    "Time added by routing",
    data,
    series,
    { title: "", format: ms },
    {
      id: "overhead",
      note: thinned(data),
      summary: `Median ${ms(data.spread.route_p50)}, 95th percentile ${ms(data.spread.route_p95)}.`,
    },
  );
}

export function troubleChart(data) {
  const of = (name) => data.by_step.map((sums) => share(sums[name], sums.requests));
  const series = [
    { name: "fallbacks", swatch: "c0", values: of("fallbacks") },
    { name: "failed", swatch: "c9", dash: [6, 4], values: of("failed") },
    { name: "routing failed open", swatch: "c3", dash: [2, 3], values: of("failed_open") },
  ];
  const { total } = data;
  return lines(
    "Fallbacks and failures",
    data,
    series,
    { title: "share of requests", format: percent, more: { suggestedMax: 0.02 } },
    {
      id: "trouble",
      summary: `Of all requests ${percent(share(total.fallbacks, total.requests))} fell back, ${percent(share(total.failed, total.requests))} failed, ${percent(share(total.failed_open, total.requests))} failed open.`,
    },
  );
}
