// Where the reader is: the view and its parameters live in the URL's hash, so every state can be linked to.

const RENAMED = { llms: "topics" };

/** `#/decisions?range=7d` → {view: "decisions", params: {range: "7d"}}. */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { view: RENAMED[path] ?? (path || "overview"), params: Object.fromEntries(new URLSearchParams(query)) };
}

/** The hash of a view; empty parameters are left out. */
export function linkTo(view, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `#/${view}?${new URLSearchParams(given)}` : `#/${view}`;
}

/** Goes there; `replace` leaves no step in the history. */
export function go(view, params, { replace = false } = {}) {
  const link = linkTo(view, params);
  if (replace) history.replaceState(null, "", link);
  else history.pushState(null, "", link);
  dispatchEvent(new Event("hashchange"));
}

const SHARED = ["range", "until", "virtual_model", "key_alias"];

/** The parameters that every view understands. */
export function shared(params) {
  return Object.fromEntries(Object.entries(params).filter(([name]) => SHARED.includes(name)));
}
