// What would have changed one decision: the settings of its objective and the LLM that each of them chooses.

import { colourClass } from "../colours.js";
import { h } from "../dom.js";
import { plain, probability, usd } from "../format.js";
import { badge, named, panel, table } from "../parts.js";

const KNOBS = { cost_weight: "λ", min_p_correct: "min_p_correct", within: "within" };
const ROUND = 3;

const at = (value) => plain(Number(value.toPrecision(ROUND)));

/** The panel that says it in words, in a strip and in a table. */
export function wouldChange(e, r) {
  if (!e?.knob) return null;
  const name = KNOBS[e.knob];
  return panel(
    "What would change it",
    { wide: true, id: "flips" },
    h("p", {}, sentences(e, r, name)),
    e.spans.length > 1 && strip(e, name),
    e.spans.length > 1 &&
      table(
        "Chosen LLM by setting",
        [{ name: `${name} from` }, { name: "to" }, { name: "chooses" }],
        e.spans.map((span) => [
          at(span.low),
          span.high === null ? "no end" : at(span.high),
          h("span", {}, named(span.name), span === here(e) && badge("now", "good")),
        ]),
      ),
  );
}

function sentences(e, r, name) {
  const parts = [`${name} stood at ${plain(e.setting)}, which chooses ${e.best}.`];
  if (e.best !== r.chosen)
    parts.push(`The request was still sent to ${r.chosen}: the reason above decided, not the objective alone.`);
  if (e.below) parts.push(`Below ${at(e.below.at)} it would have been ${e.below.name}.`);
  if (e.above) parts.push(`Above ${at(e.above.at)} it would have been ${e.above.name}.`);
  if (!e.below && !e.above) parts.push("No other setting would have changed that.");
  return parts.join(" ");
}

const here = ({ spans, setting }) => spans.findLast((span) => span.low <= setting) ?? spans[0];

/** The settings from left to right, cost weights on a logarithmic scale. */
function strip(e, name) {
  const scale = e.knob === "cost_weight" ? (value) => Math.log10(1 + value) : (value) => value;
  const last = Math.max(e.spans.at(-1).low, e.setting) * 3 || 1;
  const widths = e.spans.map(({ low, high }) => Math.max(scale(high ?? last) - scale(low), 0));
  const whole = widths.reduce((sum, width) => sum + width, 0) || 1;
  const segment = (span, i) => {
    const part = h("span", {
      class: `segment ${colourClass(span.name)} ${span === here(e) ? "now" : ""}`,
      title: `${span.name}: ${name} ${at(span.low)} to ${span.high === null ? "no end" : at(span.high)}`,
    });
    part.style.flexGrow = String(Math.max(widths[i] / whole, 0.02));
    return part;
  };
  return h("div", { class: "strip", "aria-hidden": "true" }, e.spans.map(segment));
}

const settings = ({ low, high }, name) =>
  high === null
    ? `${name} > ${at(low)}`
    : low === 0
      ? `${name} < ${at(high)}`
      : `${name} from ${at(low)} to ${at(high)}`;

/** What one candidate would have needed to be chosen. */
export function toWin(e, index) {
  const one = e?.candidates?.[index];
  if (!one || one.name === e.best) return "";
  if (one.excluded) return one.would_win ? "if it were not excluded" : "";
  const ways = [];
  for (const span of e.spans.filter(({ name }) => name === one.name)) ways.push(settings(span, KNOBS[e.knob]));
  if (one.p_to_win !== null) ways.push(`p ≥ ${probability(one.p_to_win)}`);
  if (one.cost_to_win_usd !== null) ways.push(`cost < ${usd(one.cost_to_win_usd)}`);
  return h(
    "span",
    { class: "ways" },
    (ways.length ? ways : ["never"]).map((way, i) => h("span", {}, i ? `or ${way}` : way)),
  );
}
