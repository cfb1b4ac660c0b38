// What a share link says: which world, how it is projected and where the camera is.
// Zooms follow the tile pyramid (256-pixel tiles): at zoom 18 one screen pixel is one pixel of a z18 tile.

export const MAX_SEED = 2n ** 63n - 1n;
export const MIN_ZOOM = 0.5;
export const MAX_ZOOM = 19.5;
export const MAX_LATITUDE = 85.05;

/**
 * @typedef {object} View
 * @property {string} world "earth", "planet" or the id of a registered world
 * @property {string} seed decimal digits, 0 .. MAX_SEED (a string, because numbers lose digits above 2**53)
 * @property {"globe" | "flat"} projection
 * @property {number | null} zoom null: as far out as the window asks for
 * @property {number} latitude degrees
 * @property {number} longitude degrees
 * @property {number} bearing degrees clockwise from north
 * @property {number} pitch degrees from straight down
 */

/** @type {Readonly<View>} */
export const DEFAULT_VIEW = Object.freeze({
  world: "earth",
  seed: "0",
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

  const world = given.get("world") ?? given.get("root");
  if (world !== null) {
    if (/^[A-Za-z0-9_-]{1,64}$/.test(world)) view.world = world;
    else problems.push(`world “${world.slice(0, 40)}” is not a name of letters, digits, - and _`);
  }
  const seed = given.get("seed");
  if (seed !== null) {
    const parsed = parseSeed(seed);
    if (parsed !== null) view.seed = parsed;
    else problems.push(`seed “${seed.slice(0, 40)}” is not a whole number from 0 to ${MAX_SEED}`);
  }
  const projection = given.get("projection");
  if (projection === "globe" || projection === "flat") view.projection = projection;
  else if (projection !== null) problems.push(`projection “${projection.slice(0, 40)}” is neither globe nor flat`);

  /** @type {[string, keyof View, number, number][]} */
  const numbers = [
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
    else problems.push(`${key} “${text.slice(0, 40)}” is not a number from ${low} to ${high}`);
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

/** Whether a world is one of the two that take a seed; a registered world has its own. @param {string} world */
export function isNamedRoot(world) {
  return world === "earth" || world === "planet";
}

/** @param {number} longitude */
export function wrapLongitude(longitude) {
  return ((((longitude + 180) % 360) + 360) % 360) - 180;
}
