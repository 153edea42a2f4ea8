// Which colour stands for which name. A name keeps its colour through all views of this tab.

const N = 10;
const STORE = "embedllm-colours";
const given = new Map(JSON.parse(sessionStorage.getItem(STORE) ?? "[]"));

/** Class that sets `--c` to the name's colour; grey once all colours are given. */
export function colourClass(name) {
  if (!given.has(name)) {
    given.set(name, given.size);
    sessionStorage.setItem(STORE, JSON.stringify([...given].slice(0, 200)));
  }
  const number = given.get(name);
  return number < N ? `c${number}` : "cx";
}

/** A colour of the style sheet as it is now, such as `--line`. */
export function colour(variable) {
  return getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
}

/** The name's colour as it is now. */
export const colourOf = (name) => colour(`--${colourClass(name)}`);
