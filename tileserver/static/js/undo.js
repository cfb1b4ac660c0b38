// Undo and redo of edits: going back to a world that was there before, and forth again.

import { element, say } from "./dom.js";
import { isNamedRoot } from "./view_state.js";

export class Undo {
  /** @param {import("./view_history.js").ViewHistory} views */
  constructor(views) {
    this.views = views;
    element("undo").addEventListener("click", () => this.back());
    element("redo").addEventListener("click", () => this.forth());
  }

  back() {
    this.step(this.views.steps.past, "Undone");
  }

  forth() {
    this.step(this.views.steps.future, "Redone");
  }

  /** @param {import("./view_state.js").WorldFields[]} worlds of which the last is gone to @param {string} done */
  step(worlds, done) {
    const fields = worlds.at(-1);
    if (!fields) return;
    const { date } = this.views.view;
    this.views.go({ date, ...(isNamedRoot(fields.world) ? fields : { world: fields.world }) });
    say(done);
  }

  /** @param {import("./open_world.js").OpenWorld} world that is on screen */
  show(world) {
    const { past, future } = this.views.steps;
    element("edit-tools").hidden = world.edits.length + past.length + future.length === 0;
    element("undo").disabled = past.length === 0;
    element("redo").disabled = future.length === 0;
  }
}
