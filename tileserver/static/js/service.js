// The tile service over HTTP.

import { keepAnswer, keptAnswer } from "./kept.js";
import { serviceUrl } from "./service_url.js";

export { serviceUrl };

export const ROOT_ZOOM = 4;
export const DEEPEST_ZOOM = 18;
// Zooms coarser than its root at which a world by prompt still has pixels.
const PROMPT_MEANS = 4;

/** A request that the service refused or could not be asked at all. */
export class ServiceError extends Error {
  /**
   * @param {string} message
   * @param {number} status HTTP status; 0 where no answer came
   * @param {number | null} [retryAfter] seconds
   */
  constructor(message, status, retryAfter = null) {
    super(message);
    this.name = "ServiceError";
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** The server is there but has too much to do. */
  get overloaded() {
    return this.status === 503 || this.status === 429;
  }

  /** No answer came. */
  get unreachable() {
    return this.status === 0;
  }
}

/**
 * GET, with every failure turned into a ServiceError that says what happened.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<Response>}
 */
export function get(path, signal) {
  return request(path, { signal });
}

/**
 * GET, or what was answered last where no answer comes now; `requests` tells which.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<Response>}
 */
async function getOrRecall(path, signal) {
  try {
    const response = await get(path, signal);
    keepAnswer(path, response);
    return response;
  } catch (error) {
    const kept = error instanceof ServiceError && error.unreachable ? await keptAnswer(path) : null;
    if (kept === null) throw error;
    requests.dispatchEvent(new CustomEvent("recalled"));
    return kept;
  }
}

/**
 * POST a value, as `get` gets.
 * @param {string} path
 * @param {object} value
 * @param {AbortSignal} [signal]
 * @param {string} [key] of a server that wants one from whoever writes
 * @returns {Promise<Response>}
 */
export function post(path, value, signal, key = "") {
  const headers = { "Content-Type": "application/json", ...holding(key) };
  return request(path, { method: "POST", headers, body: writeJson(value), signal });
}

/**
 * DELETE, as `get` gets.
 * @param {string} path
 * @param {string} [key] as of `post`
 * @returns {Promise<Response>}
 */
export function remove(path, key = "") {
  return request(path, { method: "DELETE", headers: holding(key) });
}

/** @param {string} key @returns {Record<string, string>} */
function holding(key) {
  return key === "" ? {} : { Authorization: `Bearer ${key}` };
}

/**
 * Tells of every request once it has been answered: "answered"; detail: {method, url, status, ms, timing, body}. Tells
 * "recalled" where an older answer had to do.
 */
export const requests = new EventTarget();

/**
 * @param {string} path
 * @param {RequestInit} options
 * @returns {Promise<Response>}
 */
async function request(path, options) {
  const { signal } = options;
  const begun = performance.now();
  const tell = (status, timing) => {
    const { method = "GET", body } = options;
    const detail = { method, url: serviceUrl(path), status, ms: performance.now() - begun, timing, body };
    requests.dispatchEvent(new CustomEvent("answered", { detail }));
  };
  let response;
  try {
    response = await fetch(serviceUrl(path), options);
    tell(response.status, response.headers.get("Server-Timing") ?? "");
  } catch (error) {
    if (signal?.aborted) throw error;
    tell(0, "");
    throw new ServiceError("The server does not answer", 0);
  }
  if (response.ok) return response;
  throw new ServiceError(await failureText(response), response.status, retryAfterSeconds(response));
}

/**
 * A change inside a polygon, as the service spells it; see docs/edits.md.
 * @typedef {object} Edit
 * @property {[number, number][]} polygon longitudes and latitudes
 * @property {string} [action] "prompt" where it is absent
 * @property {string} [prompt]
 * @property {string} [seed] decimal digits
 * @property {string | null} [valid_from] first day
 * @property {string | null} [valid_until] first day on which it no longer holds
 */

/**
 * What a world is: the value that its id is a hash of.
 * @typedef {object} WorldValue
 * @property {"earth" | "planet" | "prompt"} root
 * @property {string} seed decimal digits
 * @property {string} [prompt]
 * @property {string} [negative]
 * @property {number} [guidance]
 * @property {number} [gsd]
 * @property {Edit[]} [edits]
 */

/**
 * @typedef {WorldValue & {id: string, name: string, minzoom?: number, version?: string, qualities?: import("./view_state.js").Quality[]}} WorldDescription
 *   name: a built-in world's, or the id
 *   qualities: those whose pictures differ
 *   version: of the server's pictures: with it in their address, browsers may keep them for ever
 */

/** @returns {Promise<WorldDescription[]>} */
export async function listWorlds() {
  return (await readJson(await getOrRecall("worlds"))).worlds;
}

/**
 * @param {WorldAddress} world
 * @param {AbortSignal} signal
 * @returns {Promise<WorldDescription>}
 */
export async function describeWorld(world, signal) {
  return readJson(await getOrRecall(`worlds/${encodeURIComponent(world.world)}${queryOf(world)}`, signal));
}

/**
 * Where a world by prompt is best begun to look at; other worlds are seen whole.
 * @param {WorldAddress} world
 * @param {AbortSignal} signal
 * @returns {Promise<{longitude: number, latitude: number, zoom: number} | null>}
 */
export async function beginningOf(world, signal) {
  const { center } = await readJson(await getOrRecall(pathOf(world, "WebMercatorQuad/tilejson.json"), signal));
  return center ? { longitude: center[0], latitude: center[1], zoom: center[2] } : null;
}

/**
 * Make a world known under its id.
 * @param {WorldValue} value
 * @returns {Promise<WorldDescription>}
 */
export async function registerWorld(value) {
  return readJson(await post("worlds", value));
}

/**
 * What the zooms of a world are.
 * @typedef {object} Zooms
 * @property {number} least the coarsest at which it has tiles
 * @property {number} root the finest that needs no cascade; its tiles stand in for finer ones
 * @property {boolean} rootIsFree whether the root's tiles need no generation at all
 */

/** @param {WorldValue & {minzoom?: number}} description @returns {Zooms} */
export function zoomsOf(description) {
  const least = description.minzoom ?? 0;
  return description.root === "prompt"
    ? { least, root: least + PROMPT_MEANS, rootIsFree: false }
    : { least, root: ROOT_ZOOM, rootIsFree: true };
}

/**
 * @typedef {object} FoundPlace
 * @property {number} longitude
 * @property {number} latitude
 * @property {number} zoom of the tile that was found
 * @property {number} score
 */

/**
 * Look for places by words. Each item tells how far the search has come and the best places until then.
 * @param {WorldAddress} world
 * @param {{q: string, west: number, south: number, east: number, north: number, zoom: number, count: number, limit: number}} search
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<{done: number, total: number, places: FoundPlace[]}>}
 */
export async function* findPlaces(world, search, signal) {
  yield* readLines(await get(pathOf(world, "find", search), signal), signal);
}

/**
 * What a service streams: a JSON object a line, each as it comes.
 * @param {Response} response
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<any>}
 */
export async function* readLines(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let chunk;
    try {
      chunk = await reader.read();
    } catch (error) {
      if (signal.aborted) throw error;
      throw new ServiceError("The connection broke", 0);
    }
    const lines = (rest + (chunk.value ?? "")).split("\n");
    rest = lines.pop();
    if (chunk.done) lines.push(rest);
    for (const line of lines) {
      if (line.trim() === "") continue;
      const found = JSON.parse(line);
      // What fails on the way cannot change its status any more.
      if (typeof found.detail === "string") throw new ServiceError(found.detail, 500);
      yield found;
    }
    if (chunk.done) return;
  }
}

/**
 * @typedef {object} Activity
 * @property {{zoom: number, row: number, column: number}[]} running
 * @property {number} queued
 * @property {number} done
 * @property {number} seconds_per_window
 */

/**
 * @param {AbortSignal} signal
 * @returns {Promise<Activity>}
 */
export async function getActivity(signal) {
  return (await get("activity", signal)).json();
}

/**
 * How the service addresses a world. What is absent, null or empty is not sent.
 * @typedef {object} WorldAddress
 * @property {string} world "earth", "planet", "prompt" or the id of a registered world
 * @property {string | null} [seed] null: a registered world, which has its own
 * @property {string} [prompt]
 * @property {string} [negative]
 * @property {number} [gsd]
 * @property {number} [guidance]
 * @property {string | null} [date] the day whose edits are shown
 * @property {import("./view_state.js").Quality | null} [quality] null: standard
 * @property {string | null} [version] of the pictures; null: not known
 */

/**
 * Address of a tile, or of all of them where z, x and y are left as placeholders.
 * @param {WorldAddress} world
 * @param {number | string} z
 * @param {number | string} x
 * @param {number | string} y
 */
export function tilePath(world, z = "{z}", x = "{x}", y = "{y}") {
  return pathOf(world, `tiles/WebMercatorQuad/${z}/${x}/${y}.webp`);
}

/** @param {WorldAddress} world */
export function previewPath(world) {
  return pathOf(world, "preview.png");
}

/**
 * Address of anything else that the service has of a world.
 * @param {WorldAddress} world
 * @param {string} what
 * @param {Record<string, string | number>} [more] of its query
 */
export function pathOf(world, what, more = {}) {
  return `worlds/${encodeURIComponent(world.world)}/${what}${queryOf(world, more)}`;
}

/** @param {WorldAddress} world @param {Record<string, string | number>} [more] */
function queryOf(world, more = {}) {
  const { seed, prompt, negative, gsd, guidance, date, quality, version } = world;
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ seed, prompt, negative, gsd, guidance, date, quality, v: version, ...more })) {
    if (value !== null && value !== undefined && value !== "") query.set(name, String(value));
  }
  return query.size > 0 ? `?${query}` : "";
}

/** @param {Response} response */
async function readJson(response) {
  // Seeds reach 2**63 and JavaScript's numbers lose digits above 2**53, so seeds are read as text. In a text that
  // holds the same characters the quotation marks are escaped.
  return JSON.parse((await response.text()).replace(/"seed":\s*(\d+)/g, '"seed":"$1"'));
}

/** @param {WorldValue} value */
function writeJson(value) {
  return JSON.stringify(value).replace(/"seed":"(\d+)"/g, '"seed":$1');
}

/** @param {Response} response */
async function failureText(response) {
  try {
    const { detail } = await response.json();
    if (typeof detail === "string") return detail;
    // FastAPI's own validation errors are a list of {loc, msg}.
    if (Array.isArray(detail)) return detail.map((item) => `${(item.loc ?? []).join(".")}: ${item.msg}`).join("; ");
  } catch {
    // Not JSON: a proxy's page, say. The status has to do.
  }
  return `The server answered ${response.status} ${response.statusText}`.trim();
}

/** @param {Response} response */
function retryAfterSeconds(response) {
  const text = response.headers.get("Retry-After");
  if (text === null) return null;
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : null;
}
