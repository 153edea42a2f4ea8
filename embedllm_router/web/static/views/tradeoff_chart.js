// Expected accuracy against expected cost: the line of all cost weights, and what lies beside it.

import { axis, chartFigure, short, writeNames } from "../charts.js";
import { colour, colourOf } from "../colours.js";
import { interval, plain, probability, usd } from "../format.js";

/** Requests that costs are shown for: those of one are too small to read. */
export const PER = 1000;

export function frontierChart(shown) {
  const { data } = shown;
  return chartFigure("Expected accuracy against expected cost", {
    id: "frontier",
    wide: true,
    tall: true,
    note: "The line is every λ from 0 (right) upwards (left). Up and to the left is better. A single LLM below the line is beaten by routing at its cost.",
    summary: `Routing at λ 0 is expected to be right with ${probability(data.ladder[0].p_correct)} at ${usd(data.ladder[0].cost_usd * PER)} per 1,000 requests; what was chosen with ${probability(data.now.p_correct)} at ${usd(data.now.cost_usd * PER)}.`,
    legend: [
      { name: "routing, λ from 0", swatch: "c0" },
      { name: "this λ", swatch: "ca" },
      { name: "what was chosen", swatch: "ink" },
      { name: "one LLM for everything", swatch: "cx" },
    ],
    config: () => frontierConfig(shown),
    onStart: (chart) => {
      shown.chart = chart;
    },
    table: {
      columns: [
        { name: "Cost weight λ" },
        { name: "expected accuracy", number: true },
        { name: "expected cost of 1,000", number: true },
        { name: "a month, 95 %", number: true },
      ],
      rows: () =>
        data.ladder.map((s) => [
          plain(s.cost_weight),
          interval(s.accuracy, probability),
          usd(s.cost_usd * PER),
          interval(s.usd_per_month, usd),
        ]),
    },
  });
}

/** Limits of the logarithmic axis, with room for names on the right. */
const room = (costs) => ({ min: Math.min(...costs) / 1.4, max: Math.max(...costs) * 2.2 });

function frontierConfig({ data, at }) {
  const xy = (o) => ({
    x: o.cost_usd * PER,
    y: o.p_correct,
    name: o.name ?? (o.cost_weight === null ? "what was chosen" : `λ = ${plain(o.cost_weight)}`),
  });
  const positive = (o) => o.cost_usd > 0 && o.p_correct !== null;
  const curve = data.ladder.filter(positive).map(xy);
  const singles = data.singles.filter(positive).map(xy);
  const dot = (label, points, style) => ({ label, data: points, showLine: false, ...style });
  return {
    type: "scatter",
    data: {
      datasets: [
        dot("slider", [xy(data.ladder[at])], {
          pointRadius: 8,
          backgroundColor: colour("--ca"),
          borderColor: colour("--surface"),
          borderWidth: 2,
        }),
        dot("now", positive(data.now) ? [xy(data.now)] : [], {
          pointRadius: 9,
          pointStyle: "crossRot",
          borderColor: colour("--ink"),
          borderWidth: 3,
        }),
        {
          label: "routing",
          data: curve,
          showLine: true,
          borderColor: colour("--c0"),
          backgroundColor: colour("--c0"),
          borderWidth: 2,
          pointRadius: 2,
        },
        dot("singles", singles, {
          pointRadius: 6,
          pointStyle: "rectRot",
          backgroundColor: singles.map((s) => colourOf(s.name)),
          borderColor: colour("--surface"),
        }),
      ],
    },
    options: {
      layout: { padding: { right: 12, top: 12 } },
      scales: {
        x: axis("expected cost of 1,000 requests, USD, logarithmic", usd, {
          type: "logarithmic",
          ...room([...curve, ...singles].map((p) => p.x)),
          ticks: { maxTicksLimit: 30, maxRotation: 0, callback: oneTwoFive },
        }),
        y: axis("expected accuracy", probability),
      },
      plugins: {
        tooltip: {
          callbacks: { label: ({ raw }) => `${raw.name ?? "this λ"}: ${probability(raw.y)} at ${usd(raw.x)}` },
        },
      },
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
      const points = chart
        .getDatasetMeta(index)
        .data.map(({ x, y }, i) => ({ x, y, r: 6, name: chart.data.datasets[index].data[i].name, weight: -i }));
      const curve = chart.getDatasetMeta(chart.data.datasets.findIndex((set) => set.label === "routing")).data;
      writeNames(
        chart,
        points,
        curve.map(({ x, y }) => ({ x, y, r: 4 })),
      );
    },
  };
}
