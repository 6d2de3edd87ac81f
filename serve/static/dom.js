// Making elements. Text is always text, never HTML.

export const $ = (id) => document.getElementById(id);

/** Return a new element with text and a class. */
export function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Return a new SVG element with attributes. */
export function svg(name, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Return the first element of a template's content, copied. */
export function fromTemplate(id) {
  return $(id).content.cloneNode(true).firstElementChild;
}

let numbers = 0;

/** Return an id that no other element has. */
export function newId(prefix) {
  numbers += 1;
  return `${prefix}-${numbers}`;
}

/** Give an element a text, unless it has it: a live region speaks at every change. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
