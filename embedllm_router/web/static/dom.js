// Makes elements. Text always enters as text: there is no way to hand in HTML.

const AS_PROPERTY = new Set(["value", "checked", "disabled", "hidden", "selected"]);

/**
 * An element.
 * @param {string} tag its name
 * @param {object} [traits] `class`, `on…` listeners, and attributes; null and false leave one out
 * @param {...(Node|string|number|null|undefined|Array)} children
 * @returns {HTMLElement}
 */
export function h(tag, traits = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(traits)) setTrait(element, name, value);
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

function setTrait(element, name, value) {
  if (value === null || value === undefined) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (AS_PROPERTY.has(name)) element[name] = value;
  else if (value !== false) element.setAttribute(name, value === true ? "" : String(value));
}

/** Replaces all children. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
}

/** Says something to screen readers without showing it. */
export function say(text) {
  document.getElementById("said").textContent = text;
}
