// Loads tiles for MapLibre, which itself would ask once and give up: a busy or absent server is asked again
// until the tile is no longer wanted, and what is pending is known at every moment.

import { keepTile, keptTile } from "./kept.js";
import { ROOT_ZOOM, ServiceError, get } from "./service.js";

const PROTOCOL = "earthgen";
// Browsers open six connections to a server; two are left for /activity and the worlds.
const PARALLEL = 4;
const LONGEST_WAIT_S = 30;

/**
 * Tells what happens to tiles:
 *   change        the set of pending tiles changed
 *   failure       a tile cannot be made; detail: {message}
 *   overloaded    the server asked to come back later; detail: {seconds}
 *   unreachable   no answer; detail: {seconds} until the next attempt
 *   answered      a tile came
 *   recalled      a tile came that was kept
 */
export class TileLoader extends EventTarget {
  constructor() {
    super();
    /** @type {Set<Job>} */
    this.jobs = new Set();
    /** @type {Job[]} */
    this.queue = [];
    this.running = 0;
    /** Milliseconds that a tile must stay wanted before it is asked for: in flight most never need to be made. */
    this.patience = 0;
    /** Of the world that is shown. @type {import("./service.js").Zooms} */
    this.zooms = { least: 0, root: ROOT_ZOOM, rootIsFree: true };
  }

  /** Make MapLibre load what `template` addresses through this loader. @param {typeof import("maplibre-gl")} maplibre */
  install(maplibre) {
    maplibre.addProtocol(PROTOCOL, (request, controller) => this.load(request.url, controller.signal));
    // The queue is here, where it can be counted; MapLibre's own must not hold tiles back as well.
    maplibre.setMaxParallelImageRequests(256);
  }

  /** @param {string} path a tile address relative to the page */
  template(path) {
    return `${PROTOCOL}://${path}`;
  }

  get pending() {
    return this.jobs.size;
  }

  /** The zoom that most pending tiles belong to; null when none are pending. */
  get pendingZoom() {
    const counts = new Map();
    for (const job of this.jobs) counts.set(job.zoom, (counts.get(job.zoom) ?? 0) + 1);
    let best = null;
    for (const [zoom, count] of counts) if (best === null || count > counts.get(best)) best = zoom;
    return best;
  }

  /** How many pending tiles wait for a server that was busy or silent. */
  get waiting() {
    return [...this.jobs].filter((job) => job.waiting).length;
  }

  /**
   * @param {string} url
   * @param {AbortSignal} signal aborted when the map no longer wants the tile
   * @returns {Promise<{data: ArrayBuffer}>}
   */
  async load(url, signal) {
    const path = url.slice(`${PROTOCOL}://`.length);
    const zoom = Number(/\/WebMercatorQuad\/(\d+)\//.exec(path)?.[1]);
    const job = { path, zoom, waiting: false };
    this.jobs.add(job);
    this.tell("change");
    try {
      const kept = await keptTile(path);
      signal.throwIfAborted();
      if (kept !== null) {
        this.tell("recalled");
        return { data: kept };
      }
      await this.turn(job, signal);
      try {
        return { data: await this.fetchUntilAnswered(job, signal) };
      } finally {
        this.running -= 1;
        this.next();
      }
    } finally {
      this.jobs.delete(job);
      this.tell("change");
    }
  }

  /** Resolve when it is the job's turn, with one of the running places taken. @param {Job} job @param {AbortSignal} signal */
  turn(job, signal) {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      job.start = resolve;
      const enqueue = () => {
        this.queue.push(job);
        this.next();
      };
      // Tiles of a root that need no generation are what one sees in flight.
      const free = this.zooms.rootIsFree && job.zoom <= this.zooms.root;
      const timer = this.patience > 0 && !free ? setTimeout(enqueue, this.patience) : (enqueue(), 0);
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        const place = this.queue.indexOf(job);
        if (place >= 0) this.queue.splice(place, 1);
        reject(signal.reason);
      });
    });
  }

  next() {
    while (this.running < PARALLEL && this.queue.length > 0) {
      const root = this.queue.findIndex((job) => job.zoom <= this.zooms.root);
      const [job] = this.queue.splice(Math.max(0, root), 1);
      this.running += 1;
      job.start();
    }
  }

  /** @param {Job} job @param {AbortSignal} signal */
  async fetchUntilAnswered(job, signal) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const response = await get(job.path, signal);
        keepTile(job.path, response);
        const data = await response.arrayBuffer();
        this.tell("answered");
        return data;
      } catch (error) {
        if (signal.aborted) throw error;
        const failure = error instanceof ServiceError ? error : new ServiceError("The connection broke", 0);
        if (!failure.overloaded && !failure.unreachable) {
          this.tell("failure", { message: failure.message });
          throw failure;
        }
        // The jitter keeps the tiles of one view from coming back all at once.
        const backoff = Math.min(LONGEST_WAIT_S, failure.retryAfter ?? 2 ** Math.min(attempt, 4));
        const seconds = backoff * (1 + 0.25 * Math.random());
        this.tell(failure.overloaded ? "overloaded" : "unreachable", { seconds });
        job.waiting = true;
        await delay(seconds * 1000, signal);
        job.waiting = false;
      }
    }
  }

  /** @param {string} type @param {object} [detail] */
  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** @typedef {{path: string, zoom: number, waiting: boolean, start?: (value?: unknown) => void}} Job */

/** @param {number} milliseconds @param {AbortSignal} signal */
function delay(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
