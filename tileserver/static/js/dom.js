// The page's elements, and what screen readers are told.

/** @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);

/** Tell screen readers. @param {string} text */
export function say(text) {
  element("live").textContent = text;
}
