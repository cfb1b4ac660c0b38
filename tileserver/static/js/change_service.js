// Change detection over HTTP: which models there are, and what has changed between two pictures of the service.

import { get, pathOf, post } from "./service.js";

/**
 * @typedef {object} Model
 * @property {string} name
 * @property {string} title
 * @property {string} task
 * @property {boolean} available
 * @property {string[]} classes that it looks for by itself; none: it says that something changed, not what
 * @property {boolean} any_classes whether it can look for others
 */

/**
 * What the server can do. Above `free_classes` classes it takes fewer pixels, in proportion.
 * @returns {Promise<{models: Model[], max_pixels: number, max_classes: number, free_classes: number}>}
 */
export async function listModels() {
  return (await get("perception/models")).json();
}

/**
 * Two pictures of one area.
 * @typedef {object} TwoPictures
 * @property {import("./service.js").WorldAddress} before
 * @property {import("./service.js").WorldAddress} after
 * @property {[number, number, number, number]} bbox west, south, east, north
 * @property {number} zoom of the pixels
 */

/**
 * Two pictures, and what looks at them.
 * @typedef {TwoPictures & {model: string, classes: string[]}} ChangeQuestion
 *   classes: none: the model's own
 */

/**
 * A changed area.
 * @typedef {object} ChangedArea
 * @property {{pixels: number, area_m2: number, probability: number, before?: string, after?: string}} properties
 * @property {{coordinates: [number, number][][]}} geometry
 */

/**
 * What was found: a GeoJSON feature collection, the largest areas first.
 * @typedef {object} Changes
 * @property {ChangedArea[]} features
 * @property {number} left_out how many smaller areas are not among them
 * @property {number} changed_m2
 * @property {number} total_m2
 * @property {number} gsd metres per pixel
 */

/**
 * @param {ChangeQuestion} question
 * @param {"geojson" | "tif"} format
 * @param {AbortSignal} [signal]
 * @returns {Promise<Blob>}
 */
export async function askForChanges({ model, classes, ...pictures }, format, signal) {
  const { earlier, body } = comparison(pictures);
  body.model = model;
  if (classes.length > 0) body.classes = classes;
  return (await post(pathOf(earlier, "perception/detect", { format }), body, signal)).blob();
}

/**
 * Two pictures as the service spells them: the world that the address names, and what the body says of both.
 * @param {TwoPictures} pictures
 * @returns {{earlier: import("./service.js").WorldAddress, body: Record<string, unknown>}}
 */
export function comparison({ before, after, bbox, zoom }) {
  const { date: beforeDate, version: _, ...earlier } = before;
  const { date: afterDate, version: __, ...later } = after;
  /** @type {Record<string, unknown>} */
  const body = { bbox, zoom };
  if (beforeDate) body.before_date = beforeDate;
  if (afterDate) body.after_date = afterDate;
  // Two days of one world differ by their dates alone.
  if (JSON.stringify(earlier) !== JSON.stringify(later)) body.after_world = withoutGaps(later);
  return { earlier, body };
}

/** @param {Record<string, unknown>} fields */
function withoutGaps(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined && value !== ""));
}
