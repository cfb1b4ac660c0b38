// Single-key shortcuts, out of the way wherever text is typed or a dialog is open.

/** @param {Record<string, () => void>} actions by key, lower case */
export function bindKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    const target = event.target instanceof HTMLElement ? event.target : document.body;
    if (target.isContentEditable || target.matches("select, textarea, input:not([type=radio])")) return;
    const action = actions[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
