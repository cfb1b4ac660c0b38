// The gallery: worlds to begin with and those that the server keeps, each with a small picture of it.

import { element } from "./dom.js";
import { DEEPEST_ZOOM, ServiceError, beginningOf, get, listWorlds, tilePath, zoomsOf } from "./service.js";
import { shorten } from "./text.js";
import { isNamedRoot, isSameWorld } from "./view_state.js";

const TITLE_CHARACTERS = 80;
const ATTEMPTS = 4;
const LEAST_WAIT_S = 1;
/** A picture of an edit shows about as much around it. */
const AROUND = 3;
const WORLD_DEFAULTS = { seed: "0", prompt: "", negative: "", gsd: 1, guidance: 1 };

/** @typedef {import("./view_state.js").WorldFields} WorldFields */
/**
 * @typedef {object} Entry
 * @property {WorldFields} fields what a link says of it
 * @property {string} title
 * @property {string} about
 * @property {import("./service.js").WorldDescription | null} kept null: one to begin with
 */

/** @type {Entry[]} */
const BEGINNINGS = [
  begin({ world: "earth" }, "Real Earth", "Real outlines, invented detail"),
  begin({ world: "planet", seed: "7" }, "Planet 7", "Invented from its seed"),
  begin({ world: "planet", seed: "12" }, "Planet 12", "Invented from its seed"),
  begin({ world: "prompt", prompt: "patchwork of fields", gsd: 2 }, "Patchwork of fields", "By prompt, 2 m/px"),
];

/**
 * @typedef {object} GalleryActions
 * @property {(fields: WorldFields) => void} choose
 */

export class Gallery {
  /** @param {GalleryActions} actions */
  constructor(actions) {
    this.actions = actions;
    /** What is offered, by the button that offers it. @type {Map<HTMLButtonElement, Entry>} */
    this.offered = new Map();
    /** Pictures that have come, by the address that names the world. @type {Map<string, string>} */
    this.pictures = new Map();
    /** The world on screen. @type {WorldFields | null} */
    this.shown = null;
    this.painting = new AbortController();
    element("gallery").addEventListener("toggle", () => {
      if (element("gallery").open) this.meetServer();
      else this.painting.abort();
    });
    element("gallery-retry").addEventListener("click", () => this.meetServer());
    // What needs no server is there when it is opened, and is not moved by what comes.
    this.offer([]);
  }

  /** Open it, with the focus on its first world. */
  open() {
    element("gallery").open = true;
    element("gallery-list").querySelector("button").focus();
  }

  /** Mark the world that is on screen. @param {WorldFields} fields */
  show(fields) {
    this.shown = fields;
    for (const [button, entry] of this.offered) {
      if (isSameWorld(fields, entry.fields)) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  async meetServer() {
    try {
      const worlds = await listWorlds();
      this.offer(worlds.filter(({ name }) => !isNamedRoot(name)));
      this.fail("");
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.fail(`The worlds of this server cannot be listed: ${error.message}`);
    }
    await this.paint();
  }

  /** @param {import("./service.js").WorldDescription[]} kept the server's own, in its order */
  offer(kept) {
    const focused = this.offered.get(/** @type {any} */ (document.activeElement));
    this.offered.clear();
    for (const entry of [...BEGINNINGS, ...kept.map(entryOf)]) this.offered.set(this.card(entry), entry);
    element("gallery-list").replaceChildren(...[...this.offered.keys()].map((button) => itemOf(button)));
    element("gallery-hint").hidden = kept.length > 0;
    if (this.shown) this.show(this.shown);
    // Whoever goes through the list by keyboard is not thrown out of it.
    for (const [button, entry] of this.offered) if (focused && isSameWorld(entry.fields, focused.fields)) button.focus();
  }

  /** @param {Entry} entry */
  card(entry) {
    const button = document.createElement("button");
    button.type = "button";
    const picture = document.createElement("span");
    picture.className = "thumbnail";
    const title = document.createElement("span");
    title.className = "gallery-title";
    title.textContent = entry.title;
    const about = document.createElement("small");
    about.textContent = entry.about;
    button.append(picture, title, about);
    button.addEventListener("click", () => this.actions.choose(entry.fields));
    return button;
  }

  /** Have the pictures made that have not come, one after the other: what is on screen must not wait for them. */
  async paint() {
    this.painting.abort();
    const { signal } = (this.painting = new AbortController());
    for (const [button, entry] of [...this.offered]) {
      if (signal.aborted) return;
      const frame = button.querySelector(".thumbnail");
      const key = JSON.stringify(entry.fields);
      try {
        if (!this.pictures.has(key)) this.pictures.set(key, await pictureOf(entry, signal));
        const image = new Image(256, 256);
        image.alt = "";
        image.src = this.pictures.get(key);
        frame.replaceChildren(image);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ServiceError)) throw error;
        frame.textContent = error.unreachable ? "No picture: the server does not answer" : `No picture: ${error.message}`;
      }
    }
  }

  /** @param {string} sentence what is wrong; empty: nothing */
  fail(sentence) {
    element("gallery-error").textContent = sentence;
    element("gallery-retry").hidden = sentence === "";
  }
}

/** @param {Partial<WorldFields>} fields @param {string} title @param {string} about @returns {Entry} */
function begin(fields, title, about) {
  return { fields: { world: "earth", ...WORLD_DEFAULTS, ...fields }, title, about, kept: null };
}

/** @param {import("./service.js").WorldDescription} kept @returns {Entry} */
function entryOf(kept) {
  const { name, root, seed, prompt, gsd, edits } = kept;
  const count = edits?.length ?? 0;
  const parts = [
    root === "prompt" ? `By prompt, ${gsd} m/px` : prompt ? { earth: "Real Earth", planet: "Planet" }[root] : null,
    seed === "0" ? null : `seed ${seed}`,
    count === 0 ? null : `${count} ${count === 1 ? "edit" : "edits"}`,
    name.slice(0, 8),
  ];
  const title = prompt ? shorten(prompt, TITLE_CHARACTERS) : root === "earth" ? "Real Earth" : "Planet";
  return { fields: { ...WORLD_DEFAULTS, world: name }, title, about: parts.filter(Boolean).join(" · "), kept };
}

/** @param {HTMLElement} button */
function itemOf(button) {
  const item = document.createElement("li");
  item.append(button);
  return item;
}

/**
 * A small picture: of the whole world, of where it begins, or of what its last edit changed.
 * @param {Entry} entry
 * @param {AbortSignal} signal
 * @returns {Promise<string>} its address
 */
async function pictureOf({ fields, kept }, signal) {
  // What was changed last, on the first day on which it is.
  const date = kept?.edits?.at(-1)?.valid_from ?? null;
  const address = kept ? { world: kept.name, date, version: kept.version ?? null } : addressOf(fields);
  const [z, x, y] = await tileOf(address, kept, signal);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return URL.createObjectURL(await (await get(tilePath(address, z, x, y), signal)).blob());
    } catch (error) {
      if (!(error instanceof ServiceError) || !error.overloaded || attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * (error.retryAfter ?? LEAST_WAIT_S)));
      signal.throwIfAborted();
    }
  }
}

/** @param {WorldFields} fields @returns {import("./service.js").WorldAddress} */
function addressOf({ world, seed, prompt, negative, gsd, guidance }) {
  return world === "prompt" ? { world, seed, prompt, negative, gsd, guidance } : { world, seed };
}

/**
 * @param {import("./service.js").WorldAddress} address
 * @param {import("./service.js").WorldDescription | null} kept
 * @param {AbortSignal} signal
 * @returns {Promise<[number, number, number]>} zoom, column, row
 */
async function tileOf(address, kept, signal) {
  const last = kept?.edits?.at(-1);
  if (last) {
    const [west, east] = ends(last.polygon.map(([longitude]) => longitude));
    const [south, north] = ends(last.polygon.map(([, latitude]) => latitude));
    const size = AROUND * Math.max(east - west, north - south, 1e-6);
    const zoom = Math.min(DEEPEST_ZOOM, Math.max(zoomsOf(kept).least, Math.floor(Math.log2(360 / size))));
    return tileAt((west + east) / 2, (south + north) / 2, zoom);
  }
  if ((kept?.root ?? address.world) !== "prompt") return [0, 0, 0];
  const { longitude, latitude, zoom } = await beginningOf(address, signal);
  return tileAt(longitude, latitude, zoom);
}

/** @param {number} longitude @param {number} latitude @param {number} zoom @returns {[number, number, number]} */
function tileAt(longitude, latitude, zoom) {
  const size = 2 ** zoom;
  const y = 0.5 - Math.asinh(Math.tan((latitude * Math.PI) / 180)) / (2 * Math.PI);
  const within = (share) => Math.min(size - 1, Math.max(0, Math.floor(share * size)));
  return [zoom, within((longitude + 180) / 360), within(y)];
}

/** @param {number[]} values */
const ends = (values) => [Math.min(...values), Math.max(...values)];
