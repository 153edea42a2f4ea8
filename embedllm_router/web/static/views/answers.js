// The questions that the overview opens with, answered in sentences: what was saved, whether quality is held, what to change.

import { linkTo, shared } from "../address.js";
import { ask, Refused } from "../api.js";
import { fill, h } from "../dom.js";
import { count, interval, percent, usd } from "../format.js";
import { tile } from "../parts.js";

const kept = { of: null, found: {} };

/** Asks after the figures are there, since these answers take longest; each comes as it is ready, or as its problem. */
export function askAnswers(params, signal) {
  const one = (name) =>
    ask(name, shared(params), signal).catch((error) => {
      if (error.name === "AbortError" || error instanceof Refused) return new Promise(() => {});
      return { problem: error.message };
    });
  return { of: JSON.stringify(shared(params)), saved: one("saved"), answers: one("answers") };
}

/** The three cards and the quality tile; they fill when their answers come. */
export function answersTo(asked, params) {
  const cards = h("section", { class: "answers", "data-panel": "answers", "aria-label": "In short", "aria-busy": "true" });
  const quality = h("div", { class: "lone" }, qualityTile(null));
  const now = kept.of === asked.of ? kept.found : {};
  Object.assign(kept, { of: asked.of, found: now });
  const show = () => {
    fill(cards, savedCard(now.saved, params), qualityCard(now.answers, params), changeCard(now.answers, params));
    fill(quality, qualityTile(now.answers));
  };
  show();
  for (const name of ["saved", "answers"])
    asked[name].then((found) => {
      now[name] = found;
      show();
    });
  Promise.all([asked.saved, asked.answers]).then(() => cards.removeAttribute("aria-busy"));
  return { cards, quality };
}

function card(question, answer, { id, more = [], tone = "", link = null }) {
  return h(
    "article",
    { class: `answer ${tone}`, "data-answer": id },
    h("h2", {}, question),
    h("p", { class: "said" }, withCode(answer)),
    more.filter(Boolean).map((text) => h("p", { class: "note" }, text)),
    link && h("p", {}, link),
  );
}

/** What stands between backticks, as code. */
const withCode = (text) => text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));

const waiting = (question, id) => card(question, "Working it out …", { id });
const problem = (question, id, found) => card(question, "This could not be worked out.", { id, more: [found.problem] });
const to = (view, text, params, more = {}) => h("a", { href: linkTo(view, { ...shared(params), ...more }) }, text);

const SAVED = "What did I save against my baseline?";

function savedCard(found, params) {
  if (!found) return waiting(SAVED, "saved");
  if (found.problem) return problem(SAVED, "saved", found);
  const link = to("tradeoff", "Trade-off: what other settings would cost", params);
  if (!found.usd)
    return card(SAVED, "Not known: no request here has a baseline.", {
      id: "saved",
      more: ["Set baseline in the virtual model to the LLM that you used before; savings count from then on."],
      link,
    });
  return card(SAVED, savedSentence(found), {
    id: "saved",
    tone: found.usd.low > 0 ? "good" : found.usd.high < 0 ? "bad" : "",
    more: [countedOn(found), footing(found), without(found)],
    link,
  });
}

function savedSentence({ usd: one, share, baselines }) {
  const against = `always ${baselines.join(" or ")}`;
  const part = share ? `, ${interval(share, percent)} of what that would have cost` : "";
  if (one.low > 0) return `${interval(one, usd)} against ${against}${part}.`;
  const less = { value: -one.value, low: -one.high, high: -one.low };
  if (one.high < 0) return `Nothing: routing cost ${interval(less, usd)} more than ${against} would have.`;
  return `Nothing that shows: ${interval(one, usd)} against ${against}.`;
}

function countedOn({ n, n_billed: billed }) {
  if (billed === n) return `Counted on the bills of all ${count(n)} requests.`;
  if (!billed) return `Counted on forecasts: none of the ${count(n)} requests has a bill.`;
  return `Counted on the bills of ${count(billed)} requests, and on forecasts for the other ${count(n - billed)}.`;
}

function footing({ ratio, ratio_of: of, baselines }) {
  if (ratio === null) return "What the baseline would have cost is its forecast.";
  const whose = of === "baseline" ? `${baselines[0]}’s own bills` : "bills of all LLMs";
  return `What the baseline would have cost is its forecast times ${ratio.toFixed(2)}: what ${whose} were of their forecasts.`;
}

const without = ({ n_without: n }) => (n ? `${count(n)} requests have no baseline and are left out.` : null);

const HELD = "Is quality held?";
const TONES = { yes: "good", no: "bad", "as predicted": "good" };

function qualityCard(found, params) {
  if (!found) return waiting(HELD, "quality");
  if (found.problem) return problem(HELD, "quality", found);
  const { quality } = found;
  return card(HELD, quality.sentence, {
    id: "quality",
    tone: TONES[quality.held] ?? "",
    more: [quality.lacking],
    link: to("calibration", "Calibration: predictions beside feedback", params),
  });
}

const CHANGE = "What should I change?";
const PAGES = {
  health: "Health: the budgets",
  calibration: "Calibration: predictions beside feedback",
  verdict: "Verdict: whether routing pays",
  tradeoff: "Trade-off: that setting, and its YAML",
};

function changeCard(found, params) {
  if (!found) return waiting(CHANGE, "change");
  if (found.problem) return problem(CHANGE, "change", found);
  const { advice } = found;
  return card(CHANGE, advice.sentence, {
    id: "change",
    tone: advice.rule === "nothing" ? "good" : ["budget", "calibration"].includes(advice.rule) ? "bad" : "",
    more: [`By the newest ${count(found.n)} requests of this view.`],
    link: to(advice.page, PAGES[advice.page], params, { cost_weight: advice.cost_weight }),
  });
}

const BROKEN = { "too high": "predictions are too high", "too low": "predictions are too low" };

/** Warns where the mean prediction lies outside the interval of the mean verdict. */
function qualityTile(found) {
  const quality = found?.quality;
  if (!quality?.score)
    return tile("Right, by feedback", quality || found?.problem ? "–" : "…", {
      id: "quality",
      more: quality ? "no feedback here" : null,
    });
  const broken = BROKEN[quality.predictions];
  const predicted = `predicted ${percent(quality.p_correct)}`;
  return tile("Right, by feedback", percent(quality.score.value), {
    id: "quality",
    tone: broken ? "bad" : null,
    more: `95 %: ${percent(quality.score.low)} to ${percent(quality.score.high)}; ${predicted}${broken ? `: ${broken}` : ""}`,
  });
}
