// Charts over time: one category per step, labelled where the clock is round.

import { axis } from "./charts.js";
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
