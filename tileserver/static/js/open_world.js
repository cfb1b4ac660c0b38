// The world that is on screen, as the server describes it.

import { ServiceError, beginningOf, describeWorld, get, requests, zoomsOf } from "./service.js";
import { DEFAULT_VIEW, isNamedRoot } from "./view_state.js";

/** Stands in where the server describes nothing. */
const NO_DESCRIPTION = { id: "", name: "earth", root: "earth", seed: "0", edits: [] };
const LONGEST_DOUBLING = 4;

/**
 * Tells how the server takes it while a world is being opened:
 *   trouble    it is silent or busy; detail: {overloaded, seconds} until the next attempt
 *   answered   it is there
 */
export class OpenWorld extends EventTarget {
  /** @param {import("./view_state.js").View} view */
  constructor(view) {
    super();
    /** What the server says of it; null: it is being opened. @type {import("./service.js").WorldDescription | null} */
    this.description = null;
    /** The world whose tiles are on the map. @type {import("./service.js").WorldAddress} */
    this.address = addressOf(view);
    /** Where it is looked at from: a place, or null for a whole globe. */
    this.home = null;
    /** The last world that was open. @type {import("./service.js").WorldDescription | null} */
    this.last = null;
    /** Of the world that was opened last; aborted when another one is. */
    this.opening = new AbortController();
    /** Whether the description is an older one, since no server answered. */
    this.isRecalled = false;
    requests.addEventListener("recalled", () => (this.isRecalled = true));
  }

  get isOpening() {
    return this.description === null;
  }

  /** The description where it is a registered world. */
  get registered() {
    return this.description && !isNamedRoot(this.description.name) ? this.description : null;
  }

  get edits() {
    return this.description?.edits ?? [];
  }

  get zooms() {
    return zoomsOf(this.description);
  }

  /**
   * Ask the server for the world of a view; one that is still being opened is given up. What is on screen is
   * unknown from the call on.
   * @param {import("./view_state.js").View} view
   * @returns {Promise<AbortSignal | null>} aborted when yet another world is opened; null where that has happened
   * @throws {ServiceError} the server refuses the world
   */
  async open(view) {
    this.opening.abort();
    const { signal } = (this.opening = new AbortController());
    if (this.description) this.last = this.description;
    this.description = null;
    this.isRecalled = false;
    const address = addressOf(view);
    try {
      const found = await this.describe(address, signal);
      const beginning = found.root === "prompt" ? await beginningOf(address, signal) : null;
      if (signal.aborted) return null;
      this.become(found, { ...address, version: found.version ?? null }, beginning);
      return signal;
    } catch (error) {
      if (signal.aborted) return null;
      throw error;
    }
  }

  /**
   * Take the real Earth for open without asking, where the server has just refused another world.
   * @param {import("./view_state.js").View} view of the Earth
   */
  assumeEarth(view) {
    this.become({ ...NO_DESCRIPTION, seed: view.seed }, addressOf(view), null);
    return this.opening.signal;
  }

  /** Look at the world on another day. @param {string | null} date */
  setDate(date) {
    this.address = { ...this.address, date };
  }

  /** Look at the world made with more or less work. @param {import("./view_state.js").Quality} quality */
  setQuality(quality) {
    this.address = { ...this.address, quality: sent(quality) };
  }

  /**
   * Ask again and again until the server answers, where it was silent and an older description had to do.
   * @param {AbortSignal} signal of the opening
   */
  async untilAnswered(signal) {
    for (let attempt = 0; ; attempt += 1) {
      await pause(2 ** Math.min(attempt, LONGEST_DOUBLING));
      signal.throwIfAborted();
      try {
        await get("healthz", signal);
        return;
      } catch (error) {
        if (!(error instanceof ServiceError)) throw error;
        // Whatever it answers, it is there.
        if (!error.unreachable) return;
      }
    }
  }

  /** @param {import("./service.js").WorldDescription} description @param {import("./service.js").WorldAddress} address */
  become(description, address, home) {
    this.description = description;
    this.address = address;
    this.home = home;
  }

  /** Whether it lies on the ground of the last one, so that the camera may stay; before the first there is a globe. */
  get isOnSameGround() {
    const ground = (world) => (world?.root === "prompt" ? `${world.gsd} ${world.prompt}` : "globe");
    return ground(this.last) === ground(this.description);
  }

  /**
   * Ask for a world's description again and again while the server is silent or busy.
   * @param {import("./service.js").WorldAddress} address
   * @param {AbortSignal} signal
   */
  async describe(address, signal) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const description = await describeWorld(address, signal);
        if (!this.isRecalled) this.dispatchEvent(new CustomEvent("answered"));
        return description;
      } catch (error) {
        if (signal.aborted || !(error instanceof ServiceError) || !(error.unreachable || error.overloaded)) throw error;
        const seconds = error.retryAfter ?? 2 ** Math.min(attempt, LONGEST_DOUBLING);
        this.dispatchEvent(new CustomEvent("trouble", { detail: { overloaded: error.overloaded, seconds } }));
        await pause(seconds);
        signal.throwIfAborted();
      }
    }
  }
}

/** The usual quality goes without saying, so that its tiles have one address. @param {import("./view_state.js").Quality} quality */
function sent(quality) {
  return quality === DEFAULT_VIEW.quality ? null : quality;
}

/** How the service addresses the world of a view. @param {import("./view_state.js").View} view */
function addressOf({ world, seed, prompt, negative, gsd, guidance, date, quality }) {
  const named = { world, seed: isNamedRoot(world) ? seed : null, date, quality: sent(quality), version: null };
  return world === "prompt" ? { ...named, prompt, negative, gsd, guidance } : named;
}

/** Wait for so many seconds, or until the browser has a network again. @param {number} seconds */
function pause(seconds) {
  return new Promise((resolve) => {
    const go = () => {
      clearTimeout(timer);
      removeEventListener("online", go);
      resolve(undefined);
    };
    const timer = setTimeout(go, 1000 * seconds);
    addEventListener("online", go);
  });
}
