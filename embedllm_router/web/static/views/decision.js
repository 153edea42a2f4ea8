// One decision: everything that was weighed, why it came out so, what would change it, and what came of it.

import { linkTo } from "../address.js";
import { ask } from "../api.js";
import { h } from "../dom.js";
import { count, fullTime, ms, percent, plain, probability, usd, words } from "../format.js";
import { badge, bar, facts, named, panel, table, tile } from "../parts.js";
import { wouldChange, toWin } from "./flips.js";
import { outcome } from "./decisions.js";

export const title = (params) => `Decision ${(params.id ?? "").slice(0, 12)}`;
export const lead = "What was weighed, why it came out so, and what came of it.";
export const filtered = false;

export const load = (params, signal) => ask("decision", { request_id: params.id, at: params.at }, signal);

export function draw({ record: r, feedback, explanation }) {
  return [
    h("p", {}, h("a", { href: "#/decisions", onclick: back }, "← All decisions")),
    tiles(r),
    wouldChange(explanation, r),
    candidates(r, explanation),
    h("div", { class: "grid" }, request(r), cameOfIt(r), objective(r), timings(r), shadow(r), opinions(feedback)),
    r.prompt &&
      panel(
        "Prompt",
        { wide: true, note: "Kept because the settings ask for it." },
        h("pre", { tabindex: "0" }, r.prompt),
      ),
  ];
}

function back(event) {
  if (history.length < 2) return;
  event.preventDefault();
  history.back();
}

function tiles(r) {
  return h(
    "div",
    { class: "tiles" },
    tile("Chosen", named(r.chosen), { id: "chosen", more: r.llm && r.llm !== r.chosen ? r.llm : words(r.reason) }),
    tile("p_correct", probability(r.p_correct), {
      id: "p",
      more:
        r.likeliest && r.likeliest !== r.chosen
          ? `most accurate: ${r.likeliest}, ${probability(r.likeliest_p_correct)}`
          : "no candidate was more accurate",
    }),
    tile("Expected cost", usd(r.expected_cost_usd), {
      id: "cost",
      more: r.billed_cost_usd === null ? "not billed" : `billed ${usd(r.billed_cost_usd)}`,
    }),
    tile("Outcome", outcome(r), { id: "outcome", more: waited(r) === null ? null : `after ${ms(waited(r))}` }),
  );
}

function candidates(r, explanation) {
  if (!r.candidates?.length)
    return panel(
      "Candidates",
      { wide: true },
      h(
        "p",
        {},
        `Routing failed open (${r.failed_open ?? "unknown"}), so no candidates were compared and the default answered.`,
      ),
    );
  const columns = [
    { name: "LLM" },
    { name: "p_correct", number: true },
    { name: "Expected cost", number: true },
    { name: "Output tokens", number: true },
    { name: "Utility", number: true },
    { name: "Chosen if" },
    { name: "Role" },
  ];
  const dearest = Math.max(...r.candidates.map((c) => c.cost_usd ?? 0)) || 1;
  return panel(
    "Candidates",
    { wide: true, id: "candidates", note: "Best first, then the excluded candidates with the reason." },
    table(
      "Candidates",
      columns,
      r.candidates.map((c, i) => candidate(c, r, dearest, toWin(explanation, i))),
      { cards: true, id: "candidates" },
    ),
  );
}

function candidate(c, r, dearest, winning) {
  const marks = [
    c.name === r.chosen && badge("chosen", "good"),
    c.name === r.served && r.fallback && badge("answered", "warn"),
    c.name === r.runner_up && badge("runner-up"),
    c.name === r.likeliest && badge("most accurate"),
    c.name === r.cheapest && badge("cheapest"),
    c.known_by && c.known_by !== "labels" && badge(`known by ${c.known_by}`, "warn"),
    c.excluded && badge(words(c.excluded), "bad"),
  ];
  const low = c.p_correct_low ?? null;
  return [
    h("span", {}, named(c.name), c.llm && c.llm !== c.name && h("small", {}, ` ${c.llm}`)),
    h(
      "span",
      { class: "with-bar" },
      c.p_correct !== null && bar(c.p_correct, { name: c.name }),
      probability(c.p_correct),
      low !== null && h("small", { title: "95 % interval, by how well the LLM is known" }, ` ${probability(low)}–${probability(c.p_correct_high)}`),
    ),
    h(
      "span",
      { class: "with-bar" },
      c.cost_usd !== null && bar(c.cost_usd / dearest, { tone: "money" }),
      usd(c.cost_usd),
    ),
    c.expected_output_tokens === null ? "–" : count(c.expected_output_tokens),
    c.utility === null ? "–" : c.utility.toFixed(4),
    winning,
    h("span", {}, marks.filter(Boolean)),
  ];
}

function request(r) {
  return panel(
    "Request",
    {},
    facts([
      ["Time", fullTime(r.at)],
      ["Request id", h("code", {}, r.request_id)],
      ["Response id", r.response_id && h("code", {}, r.response_id)],
      ["Asked for", r.virtual_model],
      ["Endpoint", r.call_type],
      ["API key", r.key_alias],
      ["Team", r.team_alias],
      ["Nearest category", r.category],
      ["Tokens", r.input_tokens === null ? null : count(r.input_tokens)],
      ["Limit on the answer", r.max_output_tokens],
      ["Needs", r.needs?.join(", ")],
      [
        "Same prompt",
        r.prompt_hash && h("a", { href: linkTo("decisions", { q: r.prompt_hash, range: "all" }) }, r.prompt_hash),
      ],
    ]),
  );
}

function cameOfIt(r) {
  const ratio =
    r.expected_cost_usd && r.billed_cost_usd !== null && !r.fallback
      ? ` (${percent(r.billed_cost_usd / r.expected_cost_usd)} of the forecast)`
      : "";
  return panel(
    "Outcome",
    {},
    facts([
      ["Status", r.status],
      ["Answered by", r.served && named(r.served)],
      ["Error", r.error],
      ["Billed", r.billed_cost_usd === null ? null : `${usd(r.billed_cost_usd)}${ratio}`],
      ["Input tokens", r.billed_input_tokens === null ? null : count(r.billed_input_tokens)],
      [
        "Output tokens",
        r.billed_output_tokens === null
          ? null
          : `${count(r.billed_output_tokens)}${r.expected_output_tokens ? ` (expected ${count(r.expected_output_tokens)})` : ""}`,
      ],
      ["The client waited", r.total_ms === null ? null : ms(r.total_ms)],
      ["Of that, the call that answered", r.latency_ms === null ? null : ms(r.latency_ms)],
      ["Calls", r.status === "unknown" ? null : callsOf(r)],
    ]),
  );
}

/** From the request's arrival to the last byte where that is on record, else the last call alone. */
const waited = (r) => r.total_ms ?? r.latency_ms;

function callsOf({ failed_attempts: failed, status }) {
  const n = (failed?.length ?? 0) + (status === "success" ? 1 : 0);
  if (!failed?.length) return count(n);
  return h(
    "span",
    {},
    `${count(n)}, of which ${count(failed.length)} failed:`,
    h(
      "ol",
      { class: "list", id: "failed-attempts" },
      failed.map((one) => h("li", {}, one)),
    ),
  );
}

function objective(r) {
  return panel(
    "Objective and weights",
    {},
    facts([
      ["Set by", r.objective_from],
      ["Cost weight λ", r.cost_weight === null ? null : plain(r.cost_weight)],
      ["min_p_correct", r.min_p_correct],
      ["within", r.within],
      ["max_cost_usd", r.max_cost_usd === null ? null : usd(r.max_cost_usd)],
      ["Floor reached", r.floor_met === null ? null : r.floor_met ? "yes" : "no"],
      ["Reason", words(r.reason)],
      ["Arm", r.arm],
      ["Propensity", r.propensity],
      ["Weights", r.artifact && h("code", {}, r.artifact)],
      ["Snapshot", r.generation],
    ]),
  );
}

function timings(r) {
  const parts = [
    ["Embedding the prompt", r.encode_ms],
    ["Predicting", r.score_ms],
    ["Deciding", r.decide_ms],
  ].filter(([, value]) => value !== null);
  const rows = [...parts, ["Total in the hook", r.route_ms]].map(([name, value]) => [
    name,
    h("span", { class: "with-bar" }, bar(value / (r.route_ms || 1)), ms(value)),
  ]);
  return panel(
    "Time routing took",
    {},
    table("Time routing took", [{ name: "Step" }, { name: "Time", number: true }], rows),
  );
}

function shadow(r) {
  if (!r.shadow_chosen) return null;
  return panel(
    "In the shadow",
    { note: "What other weights or another objective would have chosen; never served." },
    facts([
      ["Would have chosen", named(r.shadow_chosen)],
      ["p_correct", probability(r.shadow_p_correct)],
      ["Expected cost", usd(r.shadow_cost_usd)],
      ["Weights", r.shadow_artifact && h("code", {}, r.shadow_artifact)],
    ]),
  );
}

function opinions(feedback) {
  const rows = feedback.map((one) => [fullTime(one.at), probability(one.score), one.source, one.key_alias ?? "–"]);
  const none = h("p", {}, "None yet. ", h("code", {}, "POST /embedllm/feedback"), " with this request id adds some.");
  return panel(
    "Feedback",
    { id: "feedback" },
    rows.length
      ? table("Feedback", [{ name: "Time" }, { name: "Score", number: true }, { name: "From" }, { name: "Key" }], rows)
      : none,
  );
}
