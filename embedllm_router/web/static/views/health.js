// The state of the router: weights, configuration, store, virtual models.

import { ask, Refused } from "../api.js";
import { h } from "../dom.js";
import { ago, count, fullTime, percent, plain, until, usd, words } from "../format.js";
import { badge, bar, facts, named, panel, table, tile } from "../parts.js";

export const title = () => "Health";
export const lead = "Weights, configuration, records and virtual models, as the proxy sees them now.";
export const filtered = false;

/** The status; and the records, whose own trouble must not hide it. */
export async function load(_, signal) {
  const records = ask("records", {}, signal).catch((error) => {
    if (error instanceof Refused || error.name === "AbortError") throw error;
    return { problem: error.message };
  });
  const [health, held] = await Promise.all([ask("health", {}, signal), records]);
  return { ...health, held };
}

export function draw({ status: s, not_ready: why, budgets, held }) {
  return [
    verdict(s, why),
    h(
      "div",
      { class: "tiles" },
      tile("Routed since start", count(s.decided), { id: "decided", more: `started ${ago(s.started_at)}` }),
      tile("Failed open", count(s.failed_open), {
        id: "failed-open",
        tone: s.failed_open > s.decided / 100 ? "bad" : null,
        more: "the default answered",
      }),
      tile("Refused", count(s.rejected), { id: "rejected", more: "no candidate met the request’s own limits" }),
      tile("Waiting for an outcome", count(s.pending), { id: "pending" }),
    ),
    h("div", { class: "grid" }, weights(s), reloads(s), store(s.store), records(held)),
    ...(budgets?.length ? [budgetsPanel(budgets)] : []),
    ...(s.adaptation ? [adaptation(s.adaptation)] : []),
    ...(s.judging?.length ? [judging(s.judging)] : []),
    virtualModels(s.virtual_models),
  ];
}

function verdict(s, why) {
  const troubles = [
    why && `Routing does not work: ${why}. The defaults answer.`,
    s.last_reload?.error && `The latest reload was rolled back: ${s.last_reload.error}`,
    s.store.dropped > 0 && `${count(s.store.dropped)} records were lost.`,
    s.store.last_error && `The store: ${s.store.last_error}`,
    s.adaptation?.error && `Learning from feedback: ${s.adaptation.error}`,
  ].filter(Boolean);
  if (!troubles.length)
    return h(
      "p",
      { class: "notice good", id: "verdict" },
      h("b", {}, "All is well. "),
      "Weights are loaded, virtual models are known and records are written.",
    );
  return h(
    "div",
    { class: `notice ${why ? "bad" : "warn"}`, id: "verdict", role: "status" },
    troubles.map((text) => h("p", {}, text)),
  );
}

function weights(s) {
  return panel(
    "Weights",
    { id: "weights" },
    facts([
      ["Artifact", s.artifact ? h("code", {}, s.artifact) : badge("none", "bad")],
      ["Made", s.artifact_created],
      ["LLMs", count(s.n_llms)],
      ["Folder", s.artifact_path && h("code", {}, s.artifact_path)],
      ["Software", `embedllm-router ${s.version}`],
    ]),
  );
}

function reloads(s) {
  const last = s.last_reload;
  return panel(
    "Configuration",
    { id: "reload" },
    facts([
      ["File", s.config_path && h("code", {}, s.config_path)],
      ["Snapshot", `${s.generation}, loaded ${ago(s.loaded_at)}`],
      [
        "Latest reload",
        last
          ? h("span", {}, fullTime(last.at), " ", last.error ? badge("rolled back", "bad") : badge("taken up", "good"))
          : "none since the start",
      ],
      ["Its error", last?.error],
    ]),
  );
}

function store(store) {
  if (store.kind === "off")
    return panel(
      "Record store",
      { id: "store" },
      h("p", {}, badge("off", "warn"), " No records are kept: ", h("code", {}, "store.enabled"), " is false."),
    );
  return panel(
    "Record store",
    { id: "store" },
    facts([
      ["Kind", store.kind],
      ["Where", store.location && h("code", {}, store.location)],
      ["Written", count(store.written)],
      ["Waiting", `${count(store.queued)}, the oldest for ${store.lag_s.toFixed(1)} s`],
      ["Lost", store.dropped ? badge(count(store.dropped), "bad") : "0"],
      ["Failed writes", store.failed ? badge(count(store.failed), "warn") : "0"],
      ["Latest error", store.last_error],
    ]),
  );
}

function records(held) {
  if (held.problem) return panel("Records", { id: "records" }, h("p", { class: "notice bad" }, held.problem));
  return panel(
    "Records",
    { id: "records" },
    facts([
      ["Requests", count(held.requests)],
      ["Feedback", count(held.feedback)],
      ["First", held.oldest && fullTime(held.oldest)],
      ["Latest", held.newest && `${fullTime(held.newest)} (${ago(held.newest)})`],
      ["Read from", h("code", {}, held.where)],
    ]),
  );
}

const OUTCOMES = {
  learned: ["learned", "good"],
  refused: ["refused by the guard", "warn"],
  unchanged: ["nothing new"],
  too_few: ["too few usable"],
  undone: ["undone", "warn"],
};

function adaptation(a) {
  const counted = a.n_new === null ? "not counted yet" : `${count(a.n_new)} of ${count(a.every)}`;
  const columns = [
    { name: "When" },
    { name: "Outcome" },
    { name: "New verdicts", number: true },
    { name: "Learned from", number: true },
    { name: "Log-loss, held out" },
    { name: "Weights since" },
  ];
  return panel(
    "Learning from feedback",
    { wide: true, id: "adaptation" },
    facts([
      ["New verdicts", a.learning ? h("span", {}, counted, " ", badge("learning now", "good")) : counted],
      ["Folder", h("code", {}, a.folder)],
    ]),
    a.attempts.length
      ? table("Attempts to learn", columns, a.attempts.map(attempt), { cards: true, id: "attempts" })
      : h("p", {}, "Nothing was learned yet."),
  );
}

function budgetsPanel(budgets) {
  const columns = [
    { name: "Budget" },
    { name: "Spent", number: true },
    { name: "Of", number: true },
    { name: "Time left", number: true },
    { name: "λ it asks for", number: true },
    { name: "Expected at the end", number: true },
    { name: "State" },
  ];
  return panel(
    "Budgets",
    {
      wide: true,
      id: "budgets",
      note: "Spent: in this period, by all proxies together, with what is under way. λ: the price of a dollar that makes the money last; 0 asks for nothing.",
    },
    table("Budgets", columns, budgets.map(budgetLine), { cards: true, id: "budgets" }),
  );
}

function budgetLine(b) {
  const whose = b.scope === "virtual_model" ? "everybody" : `one ${b.scope}${b.holder ? `, ${b.holder.slice(0, 12)}` : ""}`;
  const state = b.exhausted
    ? badge("spent: the cheapest answers", "bad")
    : b.forecast_usd !== null && b.forecast_usd > b.usd * 1.02
      ? badge("likely to be exceeded", "warn")
      : badge("within", "good");
  return [
    h("span", {}, h("b", {}, b.virtual_model), ` ${b.period}`, h("small", {}, ` ${whose}`)),
    h("span", { class: "with-bar" }, bar(b.spent_usd / b.usd, { tone: "money" }), usd(b.spent_usd)),
    `${usd(b.usd)} a ${b.per}`,
    until(b.ends_at),
    b.cost_weight === null ? "–" : plain(b.cost_weight),
    usd(b.forecast_usd),
    state,
  ];
}

function judging(models) {
  const columns = [
    { name: "Virtual model" },
    { name: "Share", number: true },
    { name: "Spent today", number: true },
    { name: "Limit a day", number: true },
    { name: "Judged", number: true },
    { name: "Verdicts", number: true },
    { name: "Drawn, not judged" },
  ];
  const rows = models.map((one) => [
    one.virtual_model,
    percent(one.share),
    usd(one.spent_usd),
    usd(one.usd_per_day),
    count(one.n_judged),
    count(one.n_verdicts),
    Object.entries(one.left_out)
      .map(([reason, n]) => `${reason} ${count(n)}`)
      .join(", ") || "–",
  ]);
  return panel(
    "Judged evaluation",
    { wide: true, id: "judging" },
    h("p", {}, "Other LLMs answer a share of the requests after the user has the answer, and a judge scores the answers."),
    table("Since this process started; spent today: by all proxies", columns, rows, { cards: true, id: "judged" }),
  );
}

function attempt(one) {
  const loss = (value) => value.toFixed(4);
  const interval = one.change_low === null ? null : `${signed(one.change_low)} to ${signed(one.change_high)}`;
  return [
    fullTime(one.at),
    h("span", {}, badge(...OUTCOMES[one.outcome]), one.reasons.map((reason) => h("p", {}, reason))),
    one.outcome === "undone" ? "–" : count(one.n_verdicts),
    one.outcome === "undone" ? "–" : `${count(one.n_answers)} answers`,
    interval ? `${loss(one.log_loss_before)} → ${loss(one.log_loss_after)} (95 %: ${interval})` : "–",
    one.artifact ? h("code", {}, one.artifact) : "unchanged",
  ];
}

/** With its sign, since it is a difference. */
const signed = (value) => `${value > 0 ? "+" : ""}${value.toFixed(4)}`;

function virtualModels(models) {
  if (!models.length)
    return panel(
      "Virtual models",
      { wide: true, id: "virtual-models" },
      h("p", {}, "The deployments are not known yet."),
    );
  const columns = [
    { name: "Virtual model" },
    { name: "Objective" },
    { name: "Default" },
    { name: "Candidates" },
    { name: "Never chosen" },
    { name: "Trial" },
  ];
  return panel(
    "Virtual models",
    { wide: true, id: "virtual-models" },
    table("Virtual models", columns, models.map(model), { cards: true, id: "virtual-models" }),
  );
}

function model(m) {
  const out = Object.entries(m.excluded);
  const usable = m.candidates.filter((name) => !(name in m.excluded));
  const trials = [m.shadow && "shadow", m.canary_share > 0 && `canary ${percent(m.canary_share)}`].filter(Boolean);
  return [
    h("b", {}, m.name),
    Object.entries(m.objective)
      .map(([name, value]) => `${name} ${plain(value)}`)
      .join(", ") || "cost_weight 0",
    named(m.default),
    usable.length ? h("span", { class: "names" }, usable.map(named)) : badge("none can be chosen", "bad"),
    out.length
      ? h(
          "ul",
          { class: "list" },
          out.map(([name, reason]) => h("li", {}, name, " ", badge(words(reason), "warn"))),
        )
      : "–",
    trials.join(", ") || "–",
  ];
}
