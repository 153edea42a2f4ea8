// The decisions, newest first: search, filters, pages.

import { go, here, linkTo, shared } from "../address.js";
import { ask, askText } from "../api.js";
import { download } from "../csv.js";
import { h, say } from "../dom.js";
import { selection } from "../filters.js";
import { count, ms, plain, probability, time, usd, words } from "../format.js";
import { badge, bar, named, noRecords, nothing, table } from "../parts.js";

export const title = () => "Decisions";
export const lead = "Every routed request, with its decision and its outcome.";
export const filtered = true;

const PER_PAGE = 50;
const OWN = ["q", "llm", "reason", "status", "arm", "only", "page"];
const ENDS = [
  ["fallback", "fell back"],
  ["failed_open", "routing failed open"],
];

const own = (params) => ({ ...shared(params), ...Object.fromEntries(OWN.map((name) => [name, params[name]])) });

export const load = (params, signal) => ask("decisions", { ...own(params), per_page: PER_PAGE }, signal);

/** All pages, not this one alone; at most the 10,000 newest. */
async function downloadAll(params) {
  say("Downloading");
  try {
    download("decisions", await askText("decisions.csv", { ...own(params), page: "" }));
    say("Downloaded");
  } catch (error) {
    say(`The download failed: ${error.message}`);
    document.getElementById("found").textContent = `The download failed: ${error.message}`;
  }
}

export function draw(page, params, choices) {
  const sought = OWN.some((name) => name !== "page" && params[name]);
  return [
    searchBar(params, choices),
    page.rows.length ? list(page, params) : sought ? nothingFound() : noRecords(params),
  ];
}

function searchBar(params, choices) {
  const change = (name) => (value) => go("decisions", { ...here().params, [name]: value, page: "" });
  const input = h("input", {
    id: "q",
    type: "search",
    value: params.q ?? "",
    placeholder: "id, LLM, category, error, prompt hash",
    maxlength: 200,
  });
  const submit = (event) => {
    event.preventDefault();
    change("q")(input.value.trim());
  };
  const llms = [...new Set([...(choices?.chosen ?? []), ...(choices?.served ?? [])])];
  const select = (name, parameter, values) =>
    selection(name, parameter, values, params, { onchange: change(parameter) });
  return h(
    "form",
    { class: "filters inner", role: "search", "aria-label": "Search decisions", onsubmit: submit },
    h("label", { class: "field grow" }, h("span", {}, "Search"), input),
    select("LLM", "llm", llms),
    select("Reason", "reason", choices?.reason),
    select("Status", "status", choices?.status),
    select("Only", "only", ENDS),
    choices?.arm?.length > 1 && select("Arm", "arm", choices.arm),
    h("button", { type: "submit" }, "Search"),
  );
}

const nothingFound = () =>
  nothing(
    "Nothing found",
    "No decision in this span of time matches. Loosen the search, or choose a longer span above.",
  );

function list(page, params) {
  const columns = [
    { name: "Time" },
    { name: "Request" },
    { name: "Virtual model" },
    { name: "Chosen" },
    { name: "Outcome" },
    { name: "p_correct", number: true },
    { name: "Expected", number: true },
    { name: "Billed", number: true },
    { name: "Waited", number: true },
    { name: "Feedback", number: true },
  ];
  return [
    table("Decisions, newest first", columns, page.rows.map(line), {
      cards: true,
      id: "decisions",
      onCsv: () => downloadAll(params),
    }),
    pages(page, params),
  ];
}

function line(row) {
  const open = linkTo("decision", { id: row.request_id, at: row.at });
  return [
    time(row.at),
    h(
      "a",
      { href: open, class: "mono", title: row.request_id },
      row.request_id.length > 11 ? `${row.request_id.slice(0, 10)}…` : row.request_id,
    ),
    h(
      "span",
      { class: "asked" },
      row.virtual_model,
      row.key_alias && h("small", {}, ` ${row.key_alias}`),
      row.arm !== "live" && badge(row.arm, "info"),
    ),
    named(row.chosen),
    outcome(row),
    h(
      "span",
      { class: "with-bar" },
      row.p_correct !== null && bar(row.p_correct, { name: row.chosen }),
      probability(row.p_correct),
    ),
    usd(row.expected_cost_usd),
    usd(row.billed_cost_usd),
    ms(row.total_ms ?? row.latency_ms),
    row.feedback === null ? "–" : plain(row.feedback),
  ];
}

/** The outcome of a request, in a word or two. */
export function outcome(row) {
  if (row.status === "failure") return badge(row.error ?? "failed", "bad");
  const marks = [];
  if (row.failed_open) marks.push(badge(`failed open: ${row.failed_open}`, "warn"));
  if (row.fallback) marks.push(badge(`fell back to ${row.served}`, "warn"));
  if (row.reason === "floor_unreached") marks.push(badge(words(row.reason), "warn"));
  if (marks.length) return h("span", {}, marks);
  return row.status === "success" ? badge("answered", "good") : badge("unknown", "plain");
}

function pages({ total, offset, rows }, params) {
  const page = Number(params.page ?? 1);
  const to = (number) => linkTo("decisions", { ...here().params, page: number > 1 ? number : "" });
  const link = (text, number, there) =>
    there
      ? h("a", { href: to(number), class: "button" }, text)
      : h("span", { class: "button off", "aria-disabled": "true" }, text);
  return h(
    "nav",
    { class: "pages", "aria-label": "Pages" },
    h("span", { id: "found" }, `${count(offset + 1)}–${count(offset + rows.length)} of ${count(total)}`),
    link("Newer", page - 1, page > 1),
    link("Older", page + 1, offset + rows.length < Math.min(total, 10_000)),
  );
}
