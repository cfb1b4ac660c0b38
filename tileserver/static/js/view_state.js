// What a share link says: which world, on which day, beside what, how it is projected and where the camera is.
// Zooms follow the tile pyramid (256-pixel tiles): at zoom 18 one screen pixel is one pixel of a z18 tile.

import { readText } from "./text.js";

export const MAX_SEED = 2n ** 63n - 1n;
export const MIN_ZOOM = 0.5;
export const MAX_ZOOM = 19.5;
export const MAX_LATITUDE = 85.05;
export const MIN_GSD = 0.3;
export const MAX_GSD = 1200;
export const MAX_GUIDANCE = 20;

/**
 * Which world: a name, and what it takes besides.
 * @typedef {object} WorldFields
 * @property {string} world "earth", "planet", "prompt" or the id of a registered world
 * @property {string} seed decimal digits, 0 .. MAX_SEED (a string, because numbers lose digits above 2**53)
 * @property {string} prompt what is there; of world "prompt", as are the next three
 * @property {string} negative what generation is guided away from
 * @property {number} gsd metres per pixel that the prompt speaks of
 * @property {number} guidance how strongly, 1 .. MAX_GUIDANCE
 */

/**
 * @typedef {WorldFields & Camera & {
 *   date: string | null, quality: Quality, compare: string | null, beside: boolean, projection: "globe" | "flat"}} View
 *   date: ISO day whose edits are shown; null: those that never end
 *   quality: with how much work the server makes detail
 *   compare: what lies on the left: "original", the world without edits, or an ISO day; null: nothing
 *   beside: whether both lie beside each other, and not under a divider
 */

/** @typedef {"draft" | "standard" | "best"} Quality */

/**
 * @typedef {object} Camera
 * @property {number | null} zoom null: where the world is best begun
 * @property {number} latitude degrees
 * @property {number} longitude degrees
 * @property {number} bearing degrees clockwise from north
 * @property {number} pitch degrees from straight down
 */

/** @type {Readonly<View>} */
export const DEFAULT_VIEW = Object.freeze({
  world: "earth",
  seed: "0",
  prompt: "",
  negative: "",
  gsd: 1,
  guidance: 1,
  date: null,
  quality: "standard",
  compare: null,
  beside: false,
  projection: "globe",
  zoom: null,
  latitude: 20,
  longitude: 10,
  bearing: 0,
  pitch: 0,
});

/**
 * Read a seed that somebody typed.
 * @param {string} text
 * @returns {string | null} its canonical digits, or null where it is no seed
 */
export function parseSeed(text) {
  const digits = text.trim();
  if (!/^\d{1,19}$/.test(digits)) return null;
  const value = BigInt(digits);
  return value <= MAX_SEED ? value.toString() : null;
}

/** A seed that is short enough to read aloud. */
export function randomSeed() {
  return String(crypto.getRandomValues(new Uint32Array(1))[0] % 10_000_000);
}

/** Whether a text is a day of the calendar in its one spelling, as 2026-05-01. @param {string} text */
export function isDay(text) {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text) || text < "0001-01-01") return false;
  const time = Date.parse(`${text}T00:00:00Z`);
  // Date.parse takes the 30th of February for the 2nd of March.
  return Number.isFinite(time) && new Date(time).toISOString().startsWith(text);
}

/**
 * Read a link. The part after # wins over the query; what is absent keeps its default.
 * @param {{search: string, hash: string}} location
 * @returns {{view: View, problems: string[]}} problems name each value that could not be used
 */
export function readView(location) {
  const given = new URLSearchParams(location.search);
  for (const [key, value] of new URLSearchParams(location.hash.replace(/^#/, ""))) given.set(key, value);
  /** @type {View} */
  const view = { ...DEFAULT_VIEW };
  /** @type {string[]} */
  const problems = [];
  const shown = (text) => `“${text.slice(0, 40)}”`;

  const world = given.get("world") ?? given.get("root");
  if (world !== null) {
    if (/^[A-Za-z0-9_-]{1,64}$/.test(world)) view.world = world;
    else problems.push(`world ${shown(world)} is not a name of letters, digits, - and _`);
  }
  const seed = given.get("seed");
  if (seed !== null) {
    const parsed = parseSeed(seed);
    if (parsed !== null) view.seed = parsed;
    else problems.push(`seed ${shown(seed)} is not a whole number from 0 to ${MAX_SEED}`);
  }
  const projection = given.get("projection");
  if (projection === "globe" || projection === "flat") view.projection = projection;
  else if (projection !== null) problems.push(`projection ${shown(projection)} is neither globe nor flat`);

  for (const key of /** @type {const} */ (["prompt", "negative"])) {
    const { text, problem } = readText(given.get(key) ?? "");
    if (problem === null) view[key] = text;
    else problems.push(`${key} ${problem}`);
  }
  if (view.world === "prompt" && view.prompt === "") {
    problems.push("world “prompt” needs a prompt that says what is there");
    view.world = DEFAULT_VIEW.world;
  }
  const date = given.get("date");
  if (date !== null) {
    if (isDay(date)) view.date = date;
    else problems.push(`date ${shown(date)} is not a day such as 2026-05-01`);
  }
  const quality = given.get("quality");
  if (quality === "draft" || quality === "standard" || quality === "best") view.quality = quality;
  else if (quality !== null) problems.push(`quality ${shown(quality)} is none of draft, standard and best`);
  const compare = given.get("compare");
  if (compare !== null) {
    if (compare === "original" || isDay(compare)) view.compare = compare;
    else problems.push(`compare ${shown(compare)} is neither original nor a day such as 2026-05-01`);
  }
  const beside = given.get("beside");
  if (beside === "1") view.beside = true;
  else if (beside !== null) problems.push(`beside ${shown(beside)} is not 1`);

  /** @type {[string, keyof View, number, number][]} */
  const numbers = [
    ["gsd", "gsd", MIN_GSD, MAX_GSD],
    ["guidance", "guidance", 1, MAX_GUIDANCE],
    ["z", "zoom", MIN_ZOOM, MAX_ZOOM],
    ["lat", "latitude", -MAX_LATITUDE, MAX_LATITUDE],
    ["lon", "longitude", -180, 180],
    ["bearing", "bearing", -180, 180],
    ["pitch", "pitch", 0, 60],
  ];
  for (const [key, field, low, high] of numbers) {
    const text = given.get(key);
    if (text === null) continue;
    const value = text.trim() === "" ? NaN : Number(text);
    if (value >= low && value <= high) Object.assign(view, { [field]: value });
    else problems.push(`${key} ${shown(text)} is not a number from ${low} to ${high}`);
  }
  return { view, problems };
}

/**
 * The part of a link after the #.
 * @param {View} view
 */
export function formatView(view) {
  const fields = new URLSearchParams({ world: view.world });
  if (isNamedRoot(view.world)) fields.set("seed", view.seed);
  if (view.world === "prompt") {
    fields.set("prompt", view.prompt);
    fields.set("gsd", String(view.gsd));
    if (view.negative !== "") fields.set("negative", view.negative);
    if (view.guidance !== DEFAULT_VIEW.guidance) fields.set("guidance", String(view.guidance));
  }
  if (view.date !== null) fields.set("date", view.date);
  if (view.quality !== DEFAULT_VIEW.quality) fields.set("quality", view.quality);
  if (view.compare !== null) fields.set("compare", view.compare);
  if (view.compare !== null && view.beside) fields.set("beside", "1");
  fields.set("projection", view.projection);
  if (view.zoom !== null) {
    const decimals = view.zoom > 14 ? 6 : 4;
    fields.set("z", view.zoom.toFixed(2));
    fields.set("lat", view.latitude.toFixed(decimals));
    fields.set("lon", wrapLongitude(view.longitude).toFixed(decimals));
    if (Math.abs(view.bearing) >= 0.5) fields.set("bearing", view.bearing.toFixed(0));
    if (view.pitch >= 0.5) fields.set("pitch", view.pitch.toFixed(0));
  }
  return `#${fields}`;
}

/**
 * Which world a view shows, and nothing else of it; what the world does not take has its default.
 * @param {View | WorldFields} view
 * @returns {WorldFields}
 */
export function worldFields({ world, seed, prompt, negative, gsd, guidance }) {
  if (world === "prompt") return { world, seed, prompt, negative, gsd, guidance };
  const own = isNamedRoot(world) ? seed : DEFAULT_VIEW.seed;
  const { prompt: none, negative: nothing, gsd: usual, guidance: weak } = DEFAULT_VIEW;
  return { world, seed: own, prompt: none, negative: nothing, gsd: usual, guidance: weak };
}

/** @param {View | WorldFields} one @param {View | WorldFields} other */
export function isSameWorld(one, other) {
  return JSON.stringify(worldFields(one)) === JSON.stringify(worldFields(other));
}

/** Whether a world is one of those that take a seed; a registered world has its own. @param {string} world */
export function isNamedRoot(world) {
  return world === "earth" || world === "planet" || world === "prompt";
}

/** @param {number} longitude */
export function wrapLongitude(longitude) {
  return ((((longitude + 180) % 360) + 360) % 360) - 180;
}
