// Messages over the map that stay until they are settled or dismissed.

const MOST = 3;

export class Notices {
  /** @param {HTMLElement} list */
  constructor(list) {
    this.list = list;
    /** @type {Map<string, HTMLElement>} */
    this.shown = new Map();
  }

  /**
   * Show a message; one with the same key takes its place.
   * @param {string} key
   * @param {string} message
   * @param {{label: string, run: () => void} | null} [action]
   */
  show(key, message, action = null) {
    const shown = this.shown.get(key);
    if (shown) {
      shown.querySelector(".notice-text").textContent = message;
      return;
    }
    const item = document.createElement("div");
    item.className = "notice";
    item.dataset.key = key;
    item.setAttribute("role", "alert");
    const text = document.createElement("p");
    text.className = "notice-text";
    text.textContent = message;
    item.append(text);
    if (action) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "notice-action";
      button.textContent = action.label;
      button.addEventListener("click", () => {
        this.clear(key);
        action.run();
      });
      item.append(button);
    }
    const close = document.createElement("button");
    close.type = "button";
    close.className = "notice-close";
    close.setAttribute("aria-label", "Dismiss this message");
    close.textContent = "×";
    close.addEventListener("click", () => this.clear(key));
    item.append(close);
    this.list.append(item);
    this.shown.set(key, item);
    if (this.shown.size > MOST) this.clear(this.shown.keys().next().value);
  }

  /** @param {string} key */
  clear(key) {
    this.shown.get(key)?.remove();
    this.shown.delete(key);
  }

  clearAll() {
    for (const key of [...this.shown.keys()]) this.clear(key);
  }
}
