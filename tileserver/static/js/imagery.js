// The layers that a world's tiles are drawn in.

import { DEEPEST_ZOOM, tilePath } from "./service.js";

const FADE_MS = 250;
const GROUND = "ground";

/** A world's layers on one map. */
export class Imagery {
  /** @param {import("maplibre-gl").Map} map @param {import("./tile_loader.js").TileLoader} loader */
  constructor(map, loader) {
    this.map = map;
    this.loader = loader;
    /** The layers and sources that are being shown, by their common names. @type {string[]} */
    this.current = [];
    /** Those of the day before, under what has come of the current ones. @type {string[]} */
    this.outgoing = [];
    /** What is shown. @type {import("./service.js").WorldAddress | null} */
    this.address = null;
    this.count = 0;
    map.on("idle", () => this.dropOutgoing());
    // Tiles of a day that nobody asked for are not loaded for the sake of a smooth change.
    map.on("movestart", () => this.dropOutgoing());
  }

  /**
   * Show a world. The sources are replaced, not changed, so that the last one's pending tiles are given up. Nothing of
   * another world stays on screen; another day of the same world stays until the new one has come.
   * @param {import("./service.js").WorldAddress} address
   * @param {import("./service.js").Zooms} zooms
   */
  show(address, zooms) {
    if (this.address !== null && sameButForTheDay(this.address, address)) {
      // Where the last change has not come to its end, the picture from before it is the whole one.
      if (this.outgoing.length > 0) this.remove(this.current);
      else this.outgoing = this.current;
    } else {
      this.dropOutgoing();
      this.remove(this.current);
    }
    this.address = address;
    this.loader.zooms = zooms;
    this.count += 1;
    const [root, detail] = (this.current = [`root-${this.count}`, `detail-${this.count}`]);
    const tiles = [this.loader.template(tilePath(address))];
    const { map } = this;
    // The root's tiles cost little or nothing to make: enlarged, they stand in until the finer ones have been generated.
    map.addSource(root, { type: "raster", tiles, tileSize: 256, minzoom: zooms.least, maxzoom: zooms.root });
    map.addSource(detail, { type: "raster", tiles, tileSize: 256, minzoom: zooms.root + 1, maxzoom: DEEPEST_ZOOM });
    const paint = { "raster-fade-duration": FADE_MS };
    // The day before is sharper than an enlarged root. Outlines and what is being drawn stay on top.
    const layers = map.getLayersOrder().filter((id) => id !== GROUND);
    map.addLayer({ id: root, type: "raster", source: root, paint }, layers[0]);
    map.addLayer({ id: detail, type: "raster", source: detail, paint }, layers.find((id) => !this.outgoing.includes(id)));
  }

  dropOutgoing() {
    this.remove(this.outgoing);
    this.outgoing = [];
  }

  /** @param {string[]} names of layers and their sources */
  remove(names) {
    for (const name of names) {
      this.map.removeLayer(name);
      this.map.removeSource(name);
    }
  }
}

/** @param {import("./service.js").WorldAddress} one @param {import("./service.js").WorldAddress} other */
function sameButForTheDay(one, other) {
  const rest = ({ world, seed, prompt, negative, gsd, guidance, quality, version }) =>
    JSON.stringify([world, seed, prompt, negative, gsd, guidance, quality, version]);
  return rest(one) === rest(other);
}
