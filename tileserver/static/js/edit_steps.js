// Edits of worlds as worlds: an edited world is another world, so undoing is going back to one.

import { isSameWorld } from "./view_state.js";

/** @typedef {import("./view_state.js").WorldFields} WorldFields */
/** @typedef {import("./service.js").WorldValue} WorldValue */

/**
 * Only what belongs to a world's value; a description says more.
 * @param {WorldValue} description
 * @returns {WorldValue}
 */
export function valueOf({ root, seed, prompt, negative, guidance, gsd, edits }) {
  const value = { root, seed, prompt: prompt ?? "", edits: edits ?? [] };
  const rest = { negative, guidance, gsd };
  for (const [name, item] of Object.entries(rest)) if (item !== undefined) value[name] = item;
  return value;
}

/**
 * A world without its edits, as what the page's own address says: nothing has to be registered for it.
 * @param {WorldValue} value
 * @returns {import("./service.js").WorldAddress}
 */
export function withoutEdits({ root, seed, prompt, negative, guidance, gsd }) {
  return { world: root, seed, prompt, negative, guidance, gsd };
}

/**
 * What a link says of a world that was made by editing another one.
 * @param {WorldValue} value
 * @param {import("./service.js").WorldDescription} made what the server says of it
 * @returns {Partial<WorldFields>}
 */
export function linkFields(value, made) {
  const { root, seed, edits, prompt, negative, guidance, gsd } = value;
  const isPlain = edits.length === 0 && (root === "prompt" || !(prompt || negative || guidance > 1));
  if (!isPlain) return { world: made.name };
  // Without edits the page's own address says it all, and reads better than an id.
  return root === "prompt" ? { world: root, seed, prompt, gsd, negative: negative ?? "", guidance: guidance ?? 1 } : { world: root, seed };
}

/**
 * The days on which a world changes, in order, with the day before the first of them.
 * @param {import("./service.js").Edit[]} edits
 * @returns {string[]} ISO days; none where no edit has a date
 */
export function daysOf(edits) {
  const days = new Set(edits.flatMap((edit) => [edit.valid_from, edit.valid_until]).filter(Boolean));
  const sorted = [...days].sort();
  const before = sorted.length > 0 ? dayBefore(sorted[0]) : null;
  return before === null ? sorted : [before, ...sorted];
}

/** @param {string} day @returns {string | null} null: there is none in the calendar */
function dayBefore(day) {
  const date = new Date(`${day}T00:00:00Z`);
  date.setUTCDate(date.getUTCDate() - 1);
  return date.getUTCFullYear() >= 1 ? date.toISOString().slice(0, 10) : null;
}

/** The worlds that one can go back to, and forth again. */
export class EditSteps {
  constructor() {
    /** @type {WorldFields[]} */
    this.past = [];
    /** @type {WorldFields[]} */
    this.future = [];
  }

  /**
   * Note that another world is shown, however one came there.
   * @param {WorldFields} from
   * @param {WorldFields} to
   * @param {boolean} edited whether `to` was made from `from` just now
   */
  go(from, to, edited) {
    if (edited) {
      this.past.push(from);
      this.future = [];
    } else if (this.past.length > 0 && isSameWorld(to, this.past.at(-1))) {
      this.past.pop();
      this.future.push(from);
    } else if (this.future.length > 0 && isSameWorld(to, this.future.at(-1))) {
      this.future.pop();
      this.past.push(from);
    } else {
      this.past = [];
      this.future = [];
    }
  }
}
