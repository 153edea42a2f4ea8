// Whether to route at all, by feedback on recorded answers: the answer first, then what it rests on.

import { shared } from "../address.js";
import { ask } from "../api.js";
import { h } from "../dom.js";
import { change, count, interval, percent, points, probability, usd } from "../format.js";
import { named, nothing, panel, table } from "../parts.js";

export const title = () => "Verdict";
export const lead = "Whether routing pays, by feedback on the newest answers.";
export const filtered = true;

export const load = (params, signal) => ask("verdict", shared(params), signal);

export function draw({ verdict, sentence }) {
  if (!verdict) return nothing("Not known yet", h("span", {}, sentence));
  return [
    against("Against the best single LLM", verdict.best, "best"),
    verdict.baseline && against("Against the baseline", verdict.baseline, "baseline"),
    byTopic(verdict),
    uses(verdict),
    notes(verdict),
  ];
}

function against(name, one, id) {
  const figures = one.judgement.for_accuracy;
  return panel(
    name,
    { wide: true, id },
    h("p", {}, h("b", {}, one.headline)),
    table(
      name,
      [{ name: "" }, { name: "right", number: true }, { name: "USD a request", number: true }],
      [
        ["as routed", probability(figures.accuracy), usd(figures.cost_usd)],
        [named(one.llm), probability(figures.fixed_accuracy), usd(figures.fixed_cost_usd)],
        [
          "difference, 95 % interval",
          interval(figures.accuracy_change, points),
          interval(figures.cost_change_share, change),
        ],
      ],
    ),
    one.known ? null : h("p", { class: "note" }, "Where nothing was observed, these figures are predictions."),
  );
}

function byTopic({ topics, best }) {
  const figures = ["requests", "routed right", `${best.llm} right`, "difference", "cost"];
  const columns = [{ name: "Topic" }, ...figures.map((name) => ({ name, number: true }))];
  const rows = topics.map(({ topic, n, comparison: c }) => [
    topic,
    count(n),
    probability(c.accuracy),
    probability(c.fixed_accuracy),
    interval(c.accuracy_change, points),
    interval(c.cost_change_share, change),
  ]);
  return topics.length ? panel("By topic", { wide: true, id: "topics" }, table("By topic", columns, rows)) : null;
}

function uses({ llms }) {
  const figures = ["chosen at most", "at cost weight", "expected right"];
  const columns = [{ name: "LLM" }, { name: "role" }, ...figures.map((name) => ({ name, number: true }))];
  const rows = llms.map((one) => [
    named(one.llm),
    one.role,
    percent(one.chosen_at_most),
    one.cost_weight === null ? "–" : String(Number(one.cost_weight.toPrecision(3))),
    probability(one.accuracy),
  ]);
  return panel(
    "What each LLM is for",
    { wide: true, id: "uses", note: "By predictions, over cost weights from 0 to 10,000." },
    table("What each LLM is for", columns, rows),
  );
}

const notes = ({ notes: said }) =>
  h(
    "div",
    {},
    said.map((one) => h("p", { class: "note" }, one)),
  );
