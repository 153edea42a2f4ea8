// Charts over time: one category per step, labelled where the clock is round.

import { axis } from "./charts.js";
import { colour } from "./colours.js";
import { clockOf, dayOf, fullTime } from "./format.js";

const ROUND_S = [300, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000];

/** Options of a chart whose categories are `starts`, seconds since 1970. */
export function timeOptions(
  starts,
  step,
  y,
  { stacked = false, label = (item) => `${item.dataset.label}: ${y.format(item.parsed.y)}` } = {},
) {
  return {
    interaction: { mode: "index", intersect: false },
    scales: {
      x: {
        stacked,
        border: { display: false },
        grid: { display: false },
        ticks: {
          autoSkip: false,
          maxRotation: 0,
          callback(_, index) {
            return tickLabel(starts, step, index, this.chart?.width ?? 800);
          },
        },
      },
      y: axis(y.title, y.format, { stacked, beginAtZero: true, ...y.more }),
    },
    plugins: {
      tooltip: {
        itemSort: (a, b) => (stacked ? b.parsed.y - a.parsed.y : 0),
        filter: (item) => item.parsed.y !== null && (!stacked || item.parsed.y > 0),
        callbacks: { title: (items) => spanText(starts[items[0].dataIndex], step), label },
      },
    },
  };
}

/** Dotted lines where other weights or another configuration began to decide. */
export function changeMarks({ starts, step_s: step, changes }) {
  return {
    id: "changes",
    afterDatasetsDraw(chart) {
      const { ctx, scales, chartArea: area } = chart;
      ctx.save();
      ctx.strokeStyle = colour("--muted");
      ctx.fillStyle = colour("--muted");
      ctx.setLineDash([2, 3]);
      ctx.font = `10.5px ${Chart.defaults.font.family}`;
      for (const { at, what } of changes) {
        const place = (Date.parse(at) / 1000 - starts[0]) / step - 0.5;
        const [first, second] = [0, 1].map((i) => scales.x.getPixelForValue(i));
        const x = starts.length > 1 ? first + place * (second - first) : (area.left + area.right) / 2;
        if (x < area.left || x > area.right) continue;
        ctx.beginPath();
        ctx.moveTo(x, area.top);
        ctx.lineTo(x, area.bottom);
        ctx.stroke();
        ctx.textAlign = x > area.right - 60 ? "right" : "left";
        ctx.fillText(what === "weights" ? "weights" : "config", x + (ctx.textAlign === "left" ? 3 : -3), area.top + 9);
      }
      ctx.restore();
    },
  };
}

/** Tick text of a step; empty where the clock is not round. */
function tickLabel(starts, step, index, width) {
  const wanted = Math.max(2, Math.floor(width / 80));
  const every = ROUND_S.find((round) => round >= step && (starts.length * step) / round <= wanted) ?? step;
  const local = starts[index] - new Date(starts[index] * 1000).getTimezoneOffset() * 60;
  if (((local % every) + every) % every >= step) return "";
  return every >= 86400 || local % 86400 < step ? dayOf(starts[index]) : clockOf(starts[index]);
}

/** "25 Nov 2026, 14:00:00 – 14:30". */
export function spanText(start, step) {
  return step >= 86400
    ? `${dayOf(start)} – ${dayOf(start + step)}`
    : `${fullTime(start).slice(0, -3)} – ${clockOf(start + step)}`;
}
