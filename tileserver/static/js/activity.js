// What the busy pill says, from the tiles that this page waits for and from what the server is working on.

import { groundSamplingDistance } from "./globe.js";
import { formatGsd } from "./readout.js";
import { getActivity } from "./service.js";

const POLL_MS = 700;
// Shorter waits are over before one could read about them.
const SHOW_AFTER_MS = 300;

/**
 * @param {number} pending tiles
 * @param {number} zoom of those tiles
 * @param {number} waiting tiles that wait to be asked for again
 * @param {import("./service.js").Activity | null} activity null: not known
 * @param {number} latitude degrees, for the level's GSD
 * @param {boolean} shaping a generated planet of which nothing has been seen yet
 */
export function busySentence(pending, zoom, waiting, activity, latitude, shaping) {
  const tiles = `${pending} ${pending === 1 ? "tile" : "tiles"}`;
  if (waiting === pending) return `Waiting for the server · ${tiles}`;
  if (!activity || activity.running.length === 0) {
    return shaping && activity ? `Shaping the planet · ${tiles} to come` : `Loading ${tiles} · z${zoom}`;
  }
  const level = Math.max(...activity.running.map((window) => window.zoom));
  const parts = [`Generating ${tiles}`, `level z${level} (${formatGsd(groundSamplingDistance(level, latitude))})`];
  if (activity.seconds_per_window > 0) parts.push(`${formatSeconds(activity.seconds_per_window)} each`);
  return parts.join(" · ");
}

/** @param {number} seconds */
function formatSeconds(seconds) {
  return seconds < 0.1 ? `${(seconds * 1000).toFixed(0)} ms` : `${seconds.toFixed(1)} s`;
}

/**
 * Keep the pill up to date. The server is asked only while tiles are pending.
 * @param {import("./tile_loader.js").TileLoader} loader
 * @param {HTMLElement} pill
 * @param {HTMLElement} text
 * @param {() => number} latitude of the map's centre, degrees
 * @param {() => boolean} shaping whether a planet is being shaped, for all that is known here
 */
export function watchActivity(loader, pill, text, latitude, shaping) {
  /** @type {import("./service.js").Activity | null} */
  let activity = null;
  /** @type {AbortController | null} */
  let polling = null;
  let showTimer = 0;

  function render() {
    if (loader.pending === 0) return;
    const { pending, pendingZoom, waiting } = loader;
    text.textContent = busySentence(pending, pendingZoom, waiting, activity, latitude(), shaping());
  }

  async function poll(signal) {
    while (!signal.aborted) {
      try {
        activity = await getActivity(signal);
      } catch {
        // A server that cannot say what it does is no reason to disturb anybody: the tiles tell what is wrong.
        activity = null;
      }
      if (signal.aborted) return;
      render();
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  loader.addEventListener("change", () => {
    if (loader.pending > 0) {
      if (!polling) {
        polling = new AbortController();
        const { signal } = polling;
        showTimer = setTimeout(() => {
          pill.hidden = false;
          poll(signal);
        }, SHOW_AFTER_MS);
      }
      render();
    } else if (polling) {
      clearTimeout(showTimer);
      polling.abort();
      polling = null;
      activity = null;
      pill.hidden = true;
    }
  });
}
