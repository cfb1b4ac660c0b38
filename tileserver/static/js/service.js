// The tile service over HTTP. Addresses are relative to the page, so that it also works behind a path prefix.

export const ROOT_ZOOM = 4;
export const DEEPEST_ZOOM = 18;

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

/** @param {string} path relative to the page */
export function serviceUrl(path) {
  return new URL(path, document.baseURI).href;
}

/**
 * GET, with every failure turned into a ServiceError that says what happened.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<Response>}
 */
export async function get(path, signal) {
  let response;
  try {
    response = await fetch(serviceUrl(path), { signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ServiceError("The server does not answer", 0);
  }
  if (response.ok) return response;
  throw new ServiceError(await failureText(response), response.status, retryAfterSeconds(response));
}

/**
 * @typedef {object} WorldDescription
 * @property {string} id
 * @property {string} name "earth", "planet" or the id
 * @property {"earth" | "planet"} root
 * @property {string} seed decimal digits
 * @property {string} [version] of the server's pictures: with it in their address, browsers may keep them for ever
 */

/** @returns {Promise<WorldDescription[]>} */
export async function listWorlds() {
  return (await readJson(await get("worlds"))).worlds;
}

/**
 * @param {WorldAddress} world
 * @param {AbortSignal} signal
 * @returns {Promise<WorldDescription>}
 */
export async function describeWorld(world, signal) {
  return readJson(await get(`worlds/${encodeURIComponent(world.world)}${queryOf(world)}`, signal));
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
 * How the service addresses a world.
 * @typedef {object} WorldAddress
 * @property {string} world "earth", "planet" or the id of a registered world
 * @property {string | null} seed null: a registered world, which has its own
 * @property {string | null} version of the pictures; null: not known
 */

/**
 * Address of a tile, or of all of them where z, x and y are left as placeholders.
 * @param {WorldAddress} world
 * @param {number | string} z
 * @param {number | string} x
 * @param {number | string} y
 */
export function tilePath(world, z = "{z}", x = "{x}", y = "{y}") {
  return `worlds/${encodeURIComponent(world.world)}/tiles/WebMercatorQuad/${z}/${x}/${y}.webp${queryOf(world)}`;
}

/** @param {WorldAddress} world */
export function previewPath(world) {
  return `worlds/${encodeURIComponent(world.world)}/preview.png${queryOf(world)}`;
}

/** @param {WorldAddress} world */
function queryOf(world) {
  const query = new URLSearchParams();
  if (world.seed !== null) query.set("seed", world.seed);
  if (world.version !== null) query.set("v", world.version);
  return query.size > 0 ? `?${query}` : "";
}

/** @param {Response} response */
async function readJson(response) {
  // Seeds reach 2**63 and JavaScript's numbers lose digits above 2**53, so seeds are read as text.
  return JSON.parse((await response.text()).replace(/"seed":\s*(\d+)/g, '"seed":"$1"'));
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
