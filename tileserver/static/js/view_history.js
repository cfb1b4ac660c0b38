// The view that the page's link says, and the browser's history of views. Nothing else writes the address.

import { EditSteps } from "./edit_steps.js";
import { formatView, isSameWorld, readView, worldFields } from "./view_state.js";

/**
 * Tells of each change by "change"; detail: {@link ViewChange}.
 *
 * @typedef {object} ViewChange
 * @property {import("./view_state.js").View} before
 * @property {boolean} travel whether the camera may go where another world begins
 * @property {boolean} moveCamera whether the camera of the new view is not yet where the map's is
 */
export class ViewHistory extends EventTarget {
  constructor() {
    super();
    const { view, problems } = readView(location);
    this.view = view;
    /** What of the link could not be used. */
    this.problems = problems;
    this.steps = new EditSteps();
    /** Where the map looks from; the link's own camera until there is a map. @type {() => object} */
    this.camera = () => ({});
    addEventListener("popstate", () => this.read());
  }

  /**
   * Show something else, as one step of the browser's history.
   * @param {Partial<import("./view_state.js").View>} change
   * @param {{edited?: boolean}} [how] whether it is the world on screen with other edits
   */
  go(change, { edited = false } = {}) {
    const before = { ...this.view, ...this.camera() };
    const after = { ...before, ...change };
    const another = !isSameWorld(before, after);
    // Days and comparisons belong to the edits of a world.
    if (another && !edited && !("date" in change)) Object.assign(after, { date: null, compare: null });
    if (formatView(after) === formatView(before)) return;
    this.view = after;
    history.pushState(null, "", formatView(after));
    if (another) this.steps.go(worldFields(before), worldFields(after), edited);
    this.tell({ before, travel: true, moveCamera: false });
  }

  /** Correct the view without a step of the history, and without telling. @param {Partial<import("./view_state.js").View>} change */
  correct(change) {
    this.view = { ...this.view, ...change };
    history.replaceState(null, "", formatView(this.view));
  }

  /** Put the map's camera into the link. */
  rememberCamera() {
    this.correct(this.camera());
  }

  /** Follow the link where the browser went back or forth, or somebody typed. */
  read() {
    const before = this.view;
    ({ view: this.view, problems: this.problems } = readView(location));
    if (!isSameWorld(this.view, before)) this.steps.go(worldFields(before), worldFields(this.view), false);
    this.tell({ before, travel: this.view.zoom === null, moveCamera: true });
  }

  /** @param {ViewChange} detail */
  tell(detail) {
    this.dispatchEvent(new CustomEvent("change", { detail }));
  }
}
