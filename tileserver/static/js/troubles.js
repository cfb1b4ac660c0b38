// Tells people what goes wrong with tiles, the server and the graphics card.

import { element } from "./dom.js";
import { ServiceError, requests } from "./service.js";

const OFFLINE = "The server does not answer. What you have seen before is still here; new places come when it is back.";

export class Troubles {
  /**
   * @param {import("./notices.js").Notices} notices
   * @param {import("./open_world.js").OpenWorld} world
   * @param {import("./tile_loader.js").TileLoader} loader
   * @param {() => void} retry show the world's tiles again
   */
  constructor(notices, world, loader, retry) {
    this.notices = notices;
    /** Whether a tile of the world has come. */
    this.seen = false;
    loader.addEventListener("failure", ({ detail: { message } }) => {
      if (world.description?.root === "prompt" && !this.seen) {
        // Nothing stands in for the root of such a world: say it where its picture would be.
        element("empty-reason").textContent = `${message}.`;
        element("empty").hidden = false;
      } else {
        notices.show("tiles", `A tile could not be made: ${message}`, { label: "Try again", run: retry });
      }
    });
    loader.addEventListener("overloaded", ({ detail }) => this.server(true, detail.seconds));
    loader.addEventListener("unreachable", ({ detail }) => this.server(false, detail.seconds));
    loader.addEventListener("answered", () => {
      this.seen = true;
      element("empty").hidden = true;
      notices.clear("server");
    });
    loader.addEventListener("recalled", () => {
      this.seen = true;
      element("empty").hidden = true;
    });
    requests.addEventListener("recalled", () => notices.show("server", OFFLINE));
    world.addEventListener("trouble", ({ detail }) => this.server(detail.overloaded, detail.seconds));
    world.addEventListener("answered", () => notices.clear("server"));
  }

  /** @param {import("maplibre-gl").Map} map */
  watch(map) {
    // Failures of tiles are told above; anything else is a mistake worth seeing in the console.
    map.on("error", (event) => {
      if (!(event.error instanceof ServiceError)) console.error(event.error);
    });
    map.on("webglcontextlost", () =>
      this.notices.show("gpu", "The graphics driver dropped the map; it comes back by itself when it can."),
    );
    map.on("webglcontextrestored", () => this.notices.clear("gpu"));
  }

  /** Other tiles are about to be shown: nothing has gone wrong with them yet. */
  forgetTiles() {
    this.seen = false;
    this.notices.clear("tiles");
    element("empty").hidden = true;
  }

  /** @param {string[]} problems of the link */
  link(problems) {
    if (problems.length > 0) this.notices.show("link", `Part of the link could not be used: ${problems.join("; ")}.`);
  }

  /** @param {boolean} overloaded @param {number} seconds until the next attempt */
  server(overloaded, seconds) {
    const again = `${Math.ceil(seconds)} s`;
    this.notices.show(
      "server",
      overloaded
        ? `The server has more to do than it can take. Asking again in ${again}.`
        : `The server does not answer. Trying again in ${again}; what is on screen stays.`,
    );
  }
}
