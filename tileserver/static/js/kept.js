// What was seen once stays in the browser, for when no server answers: tiles, whose address names their bytes, and the
// last answers about worlds. Where a browser keeps nothing (no HTTPS, a private window) all of it is simply absent.

import { serviceUrl } from "./service_url.js";

const MOST_TILES = 3000;
const LOOK_EVERY = 100;
// One origin may hold several servers, each under a path of its own.
const NAME = `earthgen ${new URL(".", document.baseURI).pathname}`;
const TILES = `${NAME} tiles`;
const ANSWERS = `${NAME} answers`;

let written = 0;

/** @param {string} path @returns {Promise<ArrayBuffer | null>} */
export async function keptTile(path) {
  // Without a version in it, an address may mean other bytes tomorrow.
  if (!/[?&]v=/.test(path)) return null;
  const kept = await look(TILES, path);
  return kept === null ? null : kept.arrayBuffer();
}

/** Keep a tile where its server says that its address stands for it. @param {string} path @param {Response} response */
export function keepTile(path, response) {
  if (!/immutable/.test(response.headers.get("Cache-Control") ?? "")) return;
  const copy = response.clone();
  attempt(async () => {
    const cache = await caches.open(TILES);
    await cache.put(serviceUrl(path), copy);
    written += 1;
    if (written % LOOK_EVERY === 0) await makeRoom(cache);
  });
}

/** @param {string} path @returns {Promise<Response | null>} */
export function keptAnswer(path) {
  return look(ANSWERS, path);
}

/** Keep the last answer to a question about worlds. @param {string} path @param {Response} response */
export function keepAnswer(path, response) {
  const copy = response.clone();
  attempt(async () => (await caches.open(ANSWERS)).put(serviceUrl(path), copy));
}

/** Have the page itself kept, so that it opens without a server. */
export function keepPage() {
  attempt(() => navigator.serviceWorker.register(serviceUrl("service-worker.js")));
}

/** @param {string} name @param {string} path @returns {Promise<Response | null>} */
async function look(name, path) {
  return (await attempt(async () => (await caches.open(name)).match(serviceUrl(path)))) ?? null;
}

/** Throw the oldest away. @param {Cache} cache */
async function makeRoom(cache) {
  const keys = await cache.keys();
  for (const key of keys.slice(0, Math.max(0, keys.length - MOST_TILES))) await cache.delete(key);
}

/** @template T @param {() => Promise<T>} use @returns {Promise<T | undefined>} undefined: this browser keeps nothing */
async function attempt(use) {
  try {
    return await use();
  } catch {
    return undefined;
  }
}
