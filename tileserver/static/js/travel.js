// Flights: to places, to edits, to the world's beginning, and to land of a kind that has to be looked for.

import { say } from "./dom.js";
import { flyTo, flyToRing, limitZoom } from "./globe.js";
import { makeRoom } from "./panel.js";
import { ServiceError } from "./service.js";
import { KINDS, findPlace } from "./terrain_search.js";
import { shorten } from "./text.js";
import { DEFAULT_VIEW } from "./view_state.js";

const SPOKEN_CHARACTERS = 60;

export class Travel {
  /**
   * @param {import("maplibre-gl").Map} map
   * @param {import("./tile_loader.js").TileLoader} loader
   * @param {import("./open_world.js").OpenWorld} world
   * @param {import("./notices.js").Notices} notices
   */
  constructor(map, loader, world, notices) {
    this.map = map;
    this.loader = loader;
    this.world = world;
    this.notices = notices;
  }

  /** @param {{longitude: number, latitude: number, zoom: number | null}} place @param {string} name */
  async to(place, name) {
    makeRoom();
    await flyTo(this.map, place, this.loader);
    say(`Arrived at ${name}`);
  }

  /** @param {[number, number][]} ring @param {string} name */
  async toArea(ring, name) {
    makeRoom();
    await flyToRing(this.map, ring, this.loader);
    say(`Arrived at ${shorten(name, SPOKEN_CHARACTERS)}`);
  }

  home() {
    const { home } = this.world;
    return home
      ? this.to(home, "the world’s beginning")
      : this.to({ ...DEFAULT_VIEW, longitude: this.map.getCenter().lng, zoom: null }, "the whole world");
  }

  /**
   * Keep the camera where the world is, and bring it there where that is somewhere else.
   * @param {boolean} isElsewhere
   * @param {AbortSignal} signal aborted when yet another world is opened
   */
  async settle(isElsewhere, signal) {
    const { zooms } = this.world;
    if (isElsewhere) {
      limitZoom(this.map, { ...zooms, least: 0 });
      await this.home();
    }
    if (!signal.aborted) limitZoom(this.map, zooms);
  }

  /** Fly to land of a kind. @param {import("./terrain_search.js").Kind} kind */
  async find(kind) {
    const { address } = this.world;
    const name = KINDS[kind].name.toLowerCase();
    say(`Looking for ${name}`);
    this.notices.clear("find");
    const chip = document.querySelector(`[data-kind="${kind}"]`);
    chip.setAttribute("aria-busy", "true");
    try {
      const place = await findPlace(address, kind);
      if (this.world.address !== address) return;
      if (place) await this.to(place, name);
      else this.notices.show("find", `This world seems to have no ${name}.`);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.notices.show("find", `No ${name} found: ${error.message}`, { label: "Try again", run: () => this.find(kind) });
    } finally {
      chip.removeAttribute("aria-busy");
    }
  }
}
