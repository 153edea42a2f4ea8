// The bar above the views: filters on the requests shown.

import { go, here, shared } from "./address.js";
import { fill, h } from "./dom.js";
import { zoneOf } from "./format.js";

const SPANS = [
  ["1h", "1 h", "1 hour"],
  ["24h", "24 h", "24 hours"],
  ["7d", "7 d", "7 days"],
  ["30d", "30 d", "30 days"],
  ["all", "All", "All records"],
];

/**
 * Shows the bar as the address has it.
 * @param {HTMLElement} place
 * @param {object|null} choices values to filter by; null while they are not known
 * @param {{refresh: () => void, live: boolean, setLive: (on: boolean) => void}} controls
 */
export function showFilters(place, choices, controls) {
  const { params } = here();
  const focused = document.activeElement?.id;
  fill(
    place,
    h(
      "fieldset",
      { class: "spans" },
      h("legend", { class: "unseen" }, "Span of time"),
      SPANS.map(([value, short, name]) => spanChoice(value, short, name, params)),
    ),
    field(
      `Ending (${zoneOf()})`,
      h("input", {
        id: "f-until",
        type: "datetime-local",
        value: localInput(params.until),
        onchange: (e) => set({ until: utcOf(e.target.value) }),
      }),
    ),
    selection("Virtual model", "virtual_model", choices?.virtual_model, params),
    selection("API key", "key_alias", choices?.key_alias, params),
    h("div", { class: "spacer" }),
    h(
      "div",
      { class: "actions" },
      h(
        "label",
        { class: "switch" },
        h("input", {
          id: "f-live",
          type: "checkbox",
          checked: controls.live,
          onchange: (e) => controls.setLive(e.target.checked),
        }),
        "Live",
      ),
      h("button", { id: "f-refresh", type: "button", onclick: controls.refresh }, "Refresh"),
    ),
  );
  if (focused?.startsWith("f-")) document.getElementById(focused)?.focus();
}

function spanChoice(value, short, name, params) {
  const chosen = (params.range ?? "24h") === value;
  const input = h("input", {
    type: "radio",
    name: "span",
    id: `f-span-${value}`,
    value,
    checked: chosen,
    "aria-label": name,
    onchange: () => set({ range: value }),
  });
  return h("label", { for: `f-span-${value}` }, input, h("span", { title: name }, short));
}

const field = (name, input) => h("label", { class: "field" }, h("span", {}, name), input);

/** A choice of one value, or pair of value and text, or any. A value from the address that no record has stays selectable. */
export function selection(
  name,
  parameter,
  values,
  params,
  { any = "Any", onchange = (value) => set({ [parameter]: value }) } = {},
) {
  const now = params[parameter] ?? "";
  const known = (values ?? []).map((one) => (Array.isArray(one) ? one : [one, one]));
  const own = now && !known.some(([value]) => value === now) ? [[now, now]] : [];
  const options = [["", any], ...known, ...own];
  return field(
    name,
    h(
      "select",
      { id: `f-${parameter}`, onchange: (e) => onchange(e.target.value) },
      options.map(([value, text]) => h("option", { value, selected: value === now }, text)),
    ),
  );
}

function set(change) {
  const { view, params } = here();
  const { page, ...kept } = params;
  go(view, { ...kept, ...change });
}

/** The same span and filters, for a link to another view. */
export const carried = () => shared(here().params);

function localInput(until) {
  if (!until) return "";
  const date = new Date(until);
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

const utcOf = (local) => (local ? new Date(local).toISOString() : "");
