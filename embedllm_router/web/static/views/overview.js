// The three questions first; then what went where, at what cost, how fast, and what went wrong.

import { linkTo, shared } from "../address.js";
import { ask } from "../api.js";
import { h } from "../dom.js";
import { count, fullTime, ms, percent, points, probability, usd, words } from "../format.js";
import { badge, facts, named, noRecords, panel, table, tile } from "../parts.js";
import { answersTo, askAnswers } from "./answers.js";
import { billsChart, latencyChart, mixChart, overheadChart, spendChart, troubleChart } from "./overview_charts.js";

export const title = () => "Overview";
export const lead = "What routing saved, whether quality is held, and what to change.";
export const filtered = true;

const share = (part, whole) => (whole ? part / whole : null);

export async function load(params, signal) {
  const data = await ask("overview", shared(params), signal);
  return { ...data, asked: data.total.requests ? askAnswers(params, signal) : null };
}

export function draw(data, params) {
  if (!data.total.requests) return noRecords(params);
  const { cards, quality } = answersTo(data.asked, params);
  return [
    cards,
    tiles(data, quality),
    meaning(data.total),
    h(
      "div",
      { class: "grid" },
      mixChart(data),
      spendChart(data),
      billsChart(data),
      latencyChart(data),
      overheadChart(data),
      troubleChart(data),
    ),
    byLLM(data),
    bills(data),
    h("div", { class: "grid" }, reasons(data, params), problems(data, params), changes(data)),
  ];
}

function tiles({ total, spread }, quality) {
  const saved = total.likeliest_usd - total.expected_usd;
  const bill = share(total.forecast_billed_usd, total.forecast_usd);
  const failing = share(total.failed, total.requests);
  return h(
    "div",
    { class: "tiles" },
    quality,
    tile("Requests", count(total.requests), {
      id: "requests",
      more: `${percent(share(total.succeeded, total.requests))} answered`,
    }),
    tile("Spend", usd(total.billed_usd), {
      id: "spend",
      more: bill === null ? "nothing billed yet" : `billed; ${percent(bill)} of the forecast`,
    }),
    tile("Saved against always the most accurate", total.compared ? percent(share(saved, total.likeliest_usd)) : "–", {
      id: "saved",
      tone: saved > 0 ? "good" : null,
      more: `${usd(saved)} of expected cost`,
    }),
    againstBaseline(total),
    tile(
      "Gained on always the cheapest",
      total.compared ? points((total.p_correct - total.cheapest_p_correct) / total.compared) : "–",
      { id: "gained", more: "of expected accuracy" },
    ),
    tile("Clients waited, median", ms(spread.total_p50 ?? spread.latency_p50), {
      id: "waited",
      more: `95th percentile ${ms(spread.total_p95 ?? spread.latency_p95)}; the last call alone ${ms(spread.latency_p50)}`,
    }),
    tile("Needed more than one attempt", percent(share(total.retried, total.requests)), {
      id: "retried",
      more: `${count(total.failed_attempts)} calls failed in ${count(total.retried)} requests`,
    }),
    tile("Added by routing, median", ms(spread.route_p50), {
      id: "route",
      more: `95th percentile ${ms(spread.route_p95)}`,
    }),
    tile("Fallbacks", percent(share(total.fallbacks, total.requests)), {
      id: "fallbacks",
      more: `${count(total.fallbacks)} answered by another LLM`,
    }),
    tile("Errors", percent(failing), {
      id: "errors",
      tone: failing > 0.05 ? "bad" : null,
      more: `${count(total.failed)} failed; routing itself failed open ${count(total.failed_open)} times`,
    }),
  );
}

function againstBaseline(total) {
  if (!total.baseline) return null;
  const gained = total.baseline_expected_p_correct - total.baseline_p_correct;
  return tile("Gained on the baseline", points(gained / total.baseline), {
    id: "baseline",
    more: `of expected accuracy; at ${percent(share(total.baseline_expected_usd, total.baseline_usd))} of its expected cost`,
  });
}

function meaning(total) {
  const n = total.compared;
  if (!n) return null;
  const p = total.p_correct / n;
  const best = total.likeliest_p_correct / n;
  const least = total.cheapest_p_correct / n;
  const saved = total.likeliest_usd - total.expected_usd;
  const extra = total.expected_usd - total.cheapest_usd;
  return panel(
    "What routing did to cost and accuracy",
    { wide: true, id: "meaning" },
    h(
      "p",
      {},
      h("b", {}, "Had every request gone to the most accurate LLM for it, "),
      `it would have been expected to cost ${usd(total.likeliest_usd)}. The choices made were expected to cost ${usd(total.expected_usd)}: ${usd(saved)} (${percent(share(saved, total.likeliest_usd))}) less, for ${points(p - best)} of expected accuracy (${probability(best)} → ${probability(p)}).`,
    ),
    h(
      "p",
      {},
      h("b", {}, "Had every request gone to the cheapest, "),
      `it would have cost ${usd(total.cheapest_usd)} with ${probability(least)} expected to be right. Routing spends ${usd(extra)} more for ${points(p - least)}.`,
    ),
    h(
      "p",
      { class: "note" },
      `Both sides are the router’s own predictions, made before the answer, over ${count(n)} requests. `,
      total.forecast
        ? `Providers billed ${percent(share(total.forecast_billed_usd, total.forecast_usd))} of that forecast, over the ${count(total.forecast)} requests with a forecast and a bill. `
        : "",
      "How well the probabilities hold is shown under ",
      h("a", { href: linkTo("calibration") }, "Calibration"),
      ".",
    ),
  );
}

function byLLM({ llms, total }) {
  const columns = [
    { name: "LLM" },
    ...["chosen", "share", "p_correct", "expected / request", "answered", "billed", "median", "95th"].map((name) => ({
      name,
      number: true,
    })),
  ];
  const rows = llms.map((line) => [
    named(line.name),
    count(line.chosen.requests),
    percent(share(line.chosen.requests, total.requests)),
    probability(share(line.chosen.p_correct, line.chosen.compared)),
    usd(share(line.chosen.expected_usd, line.chosen.compared)),
    count(line.answered),
    usd(line.answered_usd),
    ms(line.spread.latency_p50),
    ms(line.spread.latency_p95),
  ]);
  return panel(
    "By LLM",
    {
      wide: true,
      note: "Chosen: the LLM that routing chose. Answered, billed and latency: the LLM that answered, fallbacks included.",
      id: "llms",
    },
    table("By LLM", columns, rows, { id: "llms" }),
  );
}

function bills({ llms, total }) {
  if (!total.forecast) return null;
  const line = (name, sums) => [
    name,
    count(sums.forecast),
    usd(sums.forecast_usd),
    usd(sums.forecast_billed_usd),
    percent(share(sums.forecast_billed_usd, sums.forecast_usd)),
  ];
  const rows = llms.filter((one) => one.chosen.forecast).map((one) => line(named(one.name), one.chosen));
  const columns = [
    { name: "LLM" },
    ...["answers", "forecast", "billed", "billed of forecast"].map((name) => ({ name, number: true })),
  ];
  return panel(
    "Bills against forecasts",
    {
      wide: true,
      id: "bills",
      note: "Of answers that have both. Above 100 %, answers are dearer than the router expects.",
    },
    table("Bills against forecasts", columns, [line(h("b", {}, "all"), total), ...rows], { id: "bills" }),
  );
}

const CHANGED = { weights: ["other weights", "info"], configuration: ["configuration read again", "plain"] };

function changes({ changes: found }) {
  if (!found.length) return null;
  const rows = found.map((one) => [
    fullTime(one.at),
    badge(...CHANGED[one.what]),
    h("code", {}, one.artifact),
    count(one.generation),
  ]);
  return panel(
    "Changes of weights and configuration",
    { id: "changes", note: "By the first request that they decided; dotted lines in the charts." },
    table(
      "Changes of weights and configuration",
      [{ name: "From" }, { name: "What" }, { name: "Weights" }, { name: "Snapshot", number: true }],
      rows,
      { id: "changes" },
    ),
  );
}

function reasons({ reasons: found, total }, params) {
  const linked = (reason) => h("a", { href: linkTo("decisions", { ...shared(params), reason }) }, words(reason));
  return panel(
    "Reasons for the choices",
    { id: "reasons" },
    facts(
      Object.entries(found).map(([reason, n]) => [
        linked(reason),
        `${count(n)} (${percent(share(n, total.requests))})`,
      ]),
    ),
  );
}

function problems({ problems: found }, params) {
  const linked = (error) => h("a", { href: linkTo("decisions", { ...shared(params), q: error }) }, error);
  const listed = Object.entries(found);
  return panel(
    "Errors",
    { id: "problems" },
    listed.length ? facts(listed.map(([error, n]) => [linked(error), count(n)])) : h("p", {}, "None."),
  );
}
