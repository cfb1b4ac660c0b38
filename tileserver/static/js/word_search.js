// Finding places by words: the server looks at tiles of what is on screen and tells the best ones as it goes.

import { element } from "./dom.js";
import { imageryZoom, viewBounds } from "./globe.js";
import { formatPlace } from "./readout.js";
import { DEEPEST_ZOOM, ServiceError, findPlaces } from "./service.js";
import { readText } from "./text.js";

const COUNT = 8;
const LIMIT = 64;

/**
 * @typedef {object} SearchActions
 * @property {() => {address: import("./service.js").WorldAddress, zooms: import("./service.js").Zooms} | null} world
 *   that is shown
 * @property {(place: import("./service.js").FoundPlace, name: string) => void} visit
 * @property {(text: string) => void} say to screen readers
 */

/**
 * @param {import("maplibre-gl").Map} map
 * @param {SearchActions} actions
 */
export function bindWordSearch(map, actions) {
  /** @type {AbortController | null} */
  let searching = null;

  async function search() {
    const { text, problem } = readText(element("word-query").value);
    const wrong = text === "" ? "Say what to look for" : problem && `The text ${problem}`;
    element("word-error").textContent = wrong ?? "";
    element("word-query").setAttribute("aria-invalid", String(Boolean(wrong)));
    const world = actions.world();
    if (wrong || !world) return;

    stop();
    const { signal } = (searching = new AbortController());
    showPlaces([]);
    showProgress({ done: 0, total: 0 });
    let last = null;
    try {
      const bounds = viewBounds(map);
      const zoom = searchZoom(map, world.zooms);
      for await (const found of findPlaces(world.address, { q: text, ...bounds, zoom, count: COUNT, limit: LIMIT }, signal)) {
        if (signal.aborted) return;
        last = found;
        showProgress(found);
        showPlaces(found.places);
      }
      if (signal.aborted) return;
      const none = !last || last.places.length === 0;
      if (none) element("word-error").textContent = "Nothing was found here.";
      actions.say(none ? "Nothing was found here" : `${last.places.length} places found`);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ServiceError)) throw error;
      element("word-error").textContent = `The search failed: ${error.message}`;
    } finally {
      if (!signal.aborted) stop();
    }
  }

  /** Give a running search up; what it has found stays. */
  function stop() {
    searching?.abort();
    searching = null;
    element("word-progress").hidden = true;
  }

  /** @param {import("./service.js").FoundPlace[]} places best first */
  function showPlaces(places) {
    const list = element("word-results");
    // Lines are changed in place: the focus may be on one of them while better ones come in.
    while (list.children.length > places.length) list.lastElementChild.remove();
    while (list.children.length < places.length) list.append(resultLine());
    places.forEach((place, index) => {
      const button = list.children[index].firstElementChild;
      const name = formatPlace(place.latitude, place.longitude, 200);
      button.querySelector("span").textContent = name;
      button.querySelector("small").textContent = `z${place.zoom} · ${place.score.toFixed(2)}`;
      button.onclick = () => actions.visit(place, name);
    });
  }

  element("word-form").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  element("word-cancel").addEventListener("click", () => {
    stop();
    actions.say("Search cancelled");
    element("word-query").focus();
  });

  return {
    /** Another world is shown: what was found in the last one is not here. */
    forget() {
      stop();
      showPlaces([]);
      element("word-error").textContent = "";
    },
  };
}

function resultLine() {
  const button = document.createElement("button");
  button.type = "button";
  button.append(document.createElement("span"), document.createElement("small"));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

/** @param {{done: number, total: number}} found */
function showProgress({ done, total }) {
  element("word-progress").hidden = false;
  const bar = element("word-bar");
  if (total > 0) {
    bar.max = total;
    bar.value = done;
  } else {
    bar.removeAttribute("value");
  }
  element("word-progress-text").textContent = total > 0 ? `${done} of ${total} tiles` : "Beginning";
}

/** The zoom of the tiles to look at. @param {import("maplibre-gl").Map} map @param {import("./service.js").Zooms} zooms */
function searchZoom(map, zooms) {
  const chosen = element("word-size").value;
  // One zoom finer than the screen's, a view is about as many tiles as one search looks at.
  const zoom = chosen === "" ? imageryZoom(map) + 1 : Number(chosen);
  return Math.min(DEEPEST_ZOOM, Math.max(zooms.least, zoom));
}
