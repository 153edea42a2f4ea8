// How well predictions hold: p_correct against feedback, and the weights' own test.

import { shared } from "../address.js";
import { ask } from "../api.js";
import { axis, chartFigure } from "../charts.js";
import { colour } from "../colours.js";
import { h } from "../dom.js";
import { count, percent, points, probability, words } from "../format.js";
import { facts, named, nothing, panel, table, tile } from "../parts.js";

export const title = () => "Calibration";
export const lead = "Predicted p_correct against feedback on the answers.";
export const filtered = true;

const WIDTH = 0.1;

export const load = (params, signal) => ask("calibration", shared(params), signal);

export function draw(data) {
  return [data.answers ? fromFeedback(data) : noFeedback(), ownTest(data.own_test)];
}

const noFeedback = () =>
  nothing(
    "No feedback in this span of time",
    h(
      "span",
      {},
      "Send some with ",
      h("code", {}, "POST /embedllm/feedback"),
      ": a request id, a score from 0 to 1, and its source. It is compared with the prediction.",
    ),
  );

function fromFeedback(data) {
  const off = data.p_correct - data.score;
  const verdict =
    Math.abs(off) < 0.02 ? "on average about right" : off > 0 ? "on average too high" : "on average too low";
  return [
    h(
      "div",
      { class: "tiles" },
      tile("Judged answers", count(data.answers), {
        id: "answers",
        more: Object.entries(data.sources)
          .slice(0, 3)
          .map(([who, n]) => `${who} ${count(n)}`)
          .join(", "),
      }),
      tile("Predicted right", percent(data.p_correct), { id: "predicted" }),
      tile("Judged right", percent(data.score), {
        id: "judged",
        more: `${points(data.score - data.p_correct)}: ${verdict}`,
      }),
      tile("Calibration error", probability(data.ece), { id: "ece", more: `Brier score ${probability(data.brier)}` }),
    ),
    h("div", { class: "grid" }, reliability(data), byLLM(data)),
    h(
      "p",
      { class: "note" },
      "Users who give feedback are not a random sample of all users: dissatisfied ones write more. Read a gap as a hint, not as a measurement.",
    ),
  ];
}

function reliability({ bins }) {
  const interval = (b) => `${probability(b.low)} – ${probability(b.high)}`;
  return chartFigure("Predicted against judged", {
    id: "reliability",
    tall: true,
    note: "One point per tenth of p_correct, with its 95 % interval. On the dashed line, predictions hold.",
    legend: [
      { name: "judged answers", swatch: "c0" },
      { name: "predictions hold", swatch: "cx", dash: true },
    ],
    summary: bins.map((b) => `predicted ${probability(b.p_correct)}, judged ${probability(b.score)}`).join("; "),
    config: () => reliabilityConfig(bins),
    table: {
      columns: [
        { name: "p_correct" },
        ...["answers", "predicted", "judged", "95 % interval"].map((name) => ({ name, number: true })),
      ],
      rows: () =>
        bins.map((b) => [
          `${b.of.toFixed(1)} – ${(b.of + WIDTH).toFixed(1)}`,
          count(b.answers),
          probability(b.p_correct),
          probability(b.score),
          interval(b),
        ]),
    },
  });
}

function reliabilityConfig(bins) {
  const most = Math.max(...bins.map((b) => b.answers));
  return {
    type: "scatter",
    data: {
      datasets: [
        {
          label: "judged",
          data: bins.map((b) => ({ x: b.p_correct, y: b.score, bin: b })),
          borderColor: colour("--c0"),
          backgroundColor: colour("--c0"),
          pointRadius: bins.map((b) => 3 + 5 * Math.sqrt(b.answers / most)),
        },
        {
          label: "holds",
          data: [
            { x: 0, y: 0 },
            { x: 1, y: 1 },
          ],
          showLine: true,
          pointRadius: 0,
          pointHitRadius: 0,
          borderColor: colour("--muted"),
          borderDash: [5, 5],
          borderWidth: 1.5,
        },
      ],
    },
    options: {
      scales: {
        x: axis("predicted p_correct", (v) => v.toFixed(1), { min: 0, max: 1 }),
        y: axis("judged right", (v) => v.toFixed(1), { min: 0, max: 1 }),
      },
      plugins: {
        tooltip: {
          filter: ({ raw }) => Boolean(raw.bin),
          callbacks: {
            label: ({ raw: { bin } }) =>
              `${count(bin.answers)} answers: predicted ${probability(bin.p_correct)}, judged ${probability(bin.score)} (${probability(bin.low)} – ${probability(bin.high)})`,
          },
        },
      },
    },
    plugins: [whiskers],
  };
}

/** Draws the interval of each point. */
const whiskers = {
  id: "whiskers",
  beforeDatasetsDraw(chart) {
    const { ctx, scales } = chart;
    ctx.save();
    ctx.strokeStyle = colour("--c0");
    ctx.lineWidth = 1.5;
    for (const { x, bin } of chart.data.datasets[0].data) {
      const at = scales.x.getPixelForValue(x);
      const [low, high] = [scales.y.getPixelForValue(bin.low), scales.y.getPixelForValue(bin.high)];
      ctx.beginPath();
      for (const [x1, y1, x2, y2] of [
        [at, low, at, high],
        [at - 4, low, at + 4, low],
        [at - 4, high, at + 4, high],
      ]) {
        ctx.moveTo(x1, y1);
        ctx.lineTo(x2, y2);
      }
      ctx.stroke();
    }
    ctx.restore();
  },
};

function byLLM({ llms }) {
  const rows = llms.map((one) => [
    named(one.of),
    count(one.answers),
    probability(one.p_correct),
    probability(one.score),
    `${probability(one.low)} – ${probability(one.high)}`,
  ]);
  return panel(
    "By the LLM that answered",
    { id: "by-llm", note: "A prediction outside the interval is probably off." },
    table(
      "By LLM",
      [
        { name: "LLM" },
        ...["judged", "predicted", "judged right", "95 % interval"].map((name) => ({ name, number: true })),
      ],
      rows,
      { id: "by-llm" },
    ),
  );
}

const NAMES = { auc: "AUC", log_loss: "Log-loss", brier: "Brier score", ece: "Calibration error (ECE)" };

function ownTest(test) {
  if (!test) return null;
  const columns = [...new Set(Object.values(test.by_data).flatMap(Object.keys))];
  const cells = (metrics) => columns.map((name) => (name in metrics ? probability(metrics[name]) : "–"));
  const rows = [
    ["all", ...cells(test.metrics)],
    ...Object.entries(test.by_data).map(([data, metrics]) => [data, ...cells(metrics)]),
  ];
  const others = Object.entries(test.metrics).filter(([name]) => !columns.includes(name));
  return panel(
    "The weights’ own test",
    {
      wide: true,
      id: "own-test",
      note: `${test.artifact}, made on ${test.created.slice(0, 10)}. ${test.measured} Your prompts may differ.`,
    },
    table(
      "The weights’ own test",
      [{ name: "Data" }, ...columns.map((name) => ({ name: NAMES[name] ?? words(name), number: true }))],
      rows,
      { id: "own-test" },
    ),
    facts(
      others.map(([name, value]) => [words(name), Number.isInteger(value) ? count(value) : probability(value)]),
      { many: true },
    ),
  );
}
