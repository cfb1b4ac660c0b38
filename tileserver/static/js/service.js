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
 * @property {string} name
 * @property {"earth" | "planet"} root
 * @property {number} seed
 */

/** @returns {Promise<WorldDescription[]>} */
export async function listWorlds() {
  return (await (await get("worlds")).json()).worlds;
}

/**
 * @param {string} name
 * @returns {Promise<WorldDescription>}
 */
export async function describeWorld(name) {
  return (await get(`worlds/${encodeURIComponent(name)}`)).json();
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
 * Address of a tile, or of all of them where z, x and y are left as placeholders.
 * @param {{world: string, seed: string | null}} world seed null: a registered world
 * @param {number | string} z
 * @param {number | string} x
 * @param {number | string} y
 */
export function tilePath(world, z = "{z}", x = "{x}", y = "{y}") {
  const query = world.seed === null ? "" : `?seed=${world.seed}`;
  return `worlds/${encodeURIComponent(world.world)}/tiles/WebMercatorQuad/${z}/${x}/${y}.webp${query}`;
}

/** @param {{world: string, seed: string | null}} world */
export function previewPath(world) {
  const query = world.seed === null ? "" : `?seed=${world.seed}`;
  return `worlds/${encodeURIComponent(world.world)}/preview.png${query}`;
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
