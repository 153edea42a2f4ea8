// Pieces that several views are made of.

import { colourClass } from "./colours.js";
import { csvOf, download } from "./csv.js";
import { h } from "./dom.js";

/** A figure with its name and what to make of it. */
export function tile(name, value, { more = null, tone = null, id = null } = {}) {
  return h(
    "div",
    { class: `tile ${tone ?? ""}`, "data-tile": id },
    h("h2", {}, name),
    h("p", { class: "value" }, value),
    more && h("p", { class: "more" }, more),
  );
}

/** A part of a page. */
export function panel(title, { note = null, wide = false, id = null } = {}, ...children) {
  return h(
    "section",
    { class: wide ? "panel wide" : "panel", "data-panel": id },
    title && h("h2", {}, title),
    note && h("p", { class: "note" }, note),
    children,
  );
}

/**
 * A table, with a button that downloads it as it is shown.
 * @param {string} caption read out by screen readers
 * @param {Array<{name: string, number?: boolean}>} columns
 * @param {Array<Array<Node|string>>} rows
 * @param {() => void} [more.onCsv] what the button does instead
 */
export function table(caption, columns, rows, { cards = false, id = null, onCsv = null } = {}) {
  const shown = scrolling(caption, columns, rows, { cards, id });
  const save = onCsv ?? (() => download(id ?? caption, csvOf(textsOf(shown))));
  const label = `Download “${caption}” as CSV`;
  const button = h("button", { type: "button", class: "csv", "aria-label": label, title: label, onclick: save }, "CSV");
  return h("div", { class: "tabled" }, shown, rows.length > 0 && button);
}

const textsOf = (shown) =>
  [...shown.querySelectorAll("tr")].map((row) => [...row.children].map((one) => one.textContent.trim()));

function scrolling(caption, columns, rows, { cards, id }) {
  const cells = (row) =>
    row.map((cell, i) =>
      h(
        i === 0 ? "th" : "td",
        { scope: i === 0 ? "row" : null, class: columns[i].number ? "number" : null, "data-label": columns[i].name },
        cell,
      ),
    );
  return h(
    "div",
    { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    h(
      "table",
      { class: cards ? "cards" : null, "data-table": id },
      h("caption", { class: "unseen" }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map((c) => h("th", { scope: "col", class: c.number ? "number" : null }, c.name)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) => h("tr", {}, cells(row))),
      ),
    ),
  );
}

/** A table that is folded away, for those who cannot see the chart beside it. */
export function foldedTable(caption, columns, rows) {
  const body = h("div");
  const unfold = (event) => {
    if (event.target.open && !body.firstChild) body.append(table(caption, columns, rows()));
  };
  return h("details", { class: "folded", ontoggle: unfold }, h("summary", {}, "Show as a table"), body);
}

/** A name with its colour. */
export const named = (name) =>
  h("span", { class: `named ${colourClass(name)}` }, h("i", { class: "dot", "aria-hidden": "true" }), name);

/** A bar for a share in [0, 1]; the number stands beside it, so it is hidden from screen readers. */
export function bar(share, { name = null, tone = null } = {}) {
  const inner = h("i");
  inner.style.width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  return h("span", { class: `bar ${name === null ? (tone ?? "") : colourClass(name)}`, "aria-hidden": "true" }, inner);
}

/** A word in a coloured box; the word says it, the colour helps. */
export const badge = (text, tone = "plain") => h("span", { class: `badge ${tone}` }, text);

/** Name and value, one under another; many of them beside each other. */
export function facts(pairs, { many = false } = {}) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const pair = ([name, value]) => [h("dt", {}, name), h("dd", {}, value)];
  return h(
    "dl",
    { class: many ? "facts many" : "facts" },
    shown.map((one) => (many ? h("div", {}, pair(one)) : pair(one))),
  );
}

/** What stands where there is nothing to show. */
export function nothing(title, ...lines) {
  return h(
    "section",
    { class: "nothing" },
    h("h2", {}, title),
    lines.map((line) => h("p", {}, line)),
  );
}

/** The empty page of views that need records. */
export function noRecords(params) {
  const filtered = params.virtual_model || params.key_alias || params.until;
  return nothing(
    "No records yet in this span of time",
    h(
      "span",
      {},
      "Ask the proxy for ",
      h("code", {}, 'model="auto"'),
      ", or another virtual model of its configuration, and the request appears here within a few seconds.",
    ),
    filtered
      ? "The filters above may hide what there is: clear them."
      : "Older requests may lie outside: choose a longer span above.",
    h("span", {}, h("a", { href: "#/health" }, "Health"), " says whether records are kept at all."),
  );
}
