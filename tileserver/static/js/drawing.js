// Drawing one area on the map with Terra Draw, which is loaded when somebody first draws.

import { wrapLongitude } from "./view_state.js";

const LIBRARY = "../vendor/terra-draw-1.35.0/terra-draw.modern.js";
const ADAPTER = "../vendor/terra-draw-maplibre-gl-adapter-1.4.1/terra-draw-maplibre-gl-adapter.modern.js";
const COLOUR = "#ffd166";
const DECIMALS = 9;

/** How many corners an area has at least. */
export const LEAST_CORNERS = 3;

/**
 * One area at a time: it is drawn corner by corner, and once it is closed its corners can be dragged.
 * "change" tells that `state` or the number of `corners` changed.
 */
export class Drawing extends EventTarget {
  /** @param {import("maplibre-gl").Map} map */
  constructor(map) {
    super();
    this.map = map;
    /** @type {"none" | "loading" | "drawing" | "drawn"} */
    this.state = "none";
    this.draw = null;
    /** Of `corners`, when "change" was told last. */
    this.count = 0;
    /** Counts the areas that were begun or given up: the library may come when its area is no longer wanted. */
    this.turn = 0;
  }

  /**
   * Let the user draw.
   * @returns {Promise<boolean>} false: it was given up before the library was there
   * @throws {TypeError} the library could not be loaded
   */
  async begin() {
    if (!(await this.open())) return false;
    this.draw.setMode("polygon");
    this.become("drawing");
    return true;
  }

  /**
   * Take a ring as if it had been drawn.
   * @param {[number, number][]} ring longitudes and latitudes
   * @throws {TypeError} the library could not be loaded
   */
  async take(ring) {
    if (!(await this.open())) return;
    const coordinates = [[...ring, ring[0]].map((vertex) => vertex.map(round))];
    const geometry = { type: "Polygon", coordinates };
    const [{ id }] = this.draw.addFeatures([{ type: "Feature", geometry, properties: { mode: "polygon" } }]);
    this.finish(id);
  }

  /** Close the area that is being drawn, where it has corners enough; as clicking its first corner again does. */
  async close() {
    if (this.state === "drawing" && this.corners.length >= LEAST_CORNERS) await this.take(this.corners);
  }

  /** Take the last corner back. */
  undo() {
    if (this.state === "drawing" && this.draw.canUndo()) this.draw.undo();
  }

  /** Give the area up. */
  cancel() {
    this.turn += 1;
    const { draw } = this;
    this.draw = null;
    draw?.stop();
    if (this.state !== "none") this.become("none");
  }

  /** The corners that have been set of the area that is being drawn. @returns {[number, number][]} */
  get corners() {
    const area = this.state === "drawing" ? this.area : undefined;
    return area ? area.geometry.coordinates[0].slice(0, area.properties.committedCoordinateCount ?? 0) : [];
  }

  /** The area that was drawn, its last corner not repeated. @returns {[number, number][]} */
  get ring() {
    const { geometry } = this.area;
    return geometry.coordinates[0].slice(0, -1).map(([longitude, latitude]) => [round(wrapLongitude(longitude)), latitude]);
  }

  /** What Terra Draw holds of the area. */
  get area() {
    return this.draw?.getSnapshot().find((feature) => feature.geometry.type === "Polygon");
  }

  /** Begin anew. @returns {Promise<boolean>} false: something else was begun meanwhile, or all was given up */
  async open() {
    this.cancel();
    const { turn } = this;
    this.become("loading");
    let library;
    try {
      library = await Promise.all([import(LIBRARY), import(ADAPTER)]);
    } catch (error) {
      if (turn === this.turn) this.become("none");
      throw error;
    }
    if (turn !== this.turn) return false;
    const [terra, { TerraDrawMapLibreGLAdapter }] = library;
    const outline = { fillColor: COLOUR, fillOpacity: 0.18, outlineColor: COLOUR, outlineWidth: 3 };
    const drawn = {
      selectedPolygonColor: COLOUR,
      selectedPolygonFillOpacity: 0.12,
      selectedPolygonOutlineColor: COLOUR,
      selectedPolygonOutlineWidth: 3,
      selectionPointColor: COLOUR,
      selectionPointWidth: 6,
      selectionPointOutlineColor: "#16212c",
      midPointColor: COLOUR,
      midPointWidth: 4,
      midPointOutlineColor: "#16212c",
    };
    const coordinates = { draggable: true, midpoints: true, deletable: true };
    this.draw = new terra.TerraDraw({
      adapter: new TerraDrawMapLibreGLAdapter({ map: this.map, coordinatePrecision: DECIMALS }),
      undoRedo: { modeLevel: new terra.TerraDrawModeUndoRedo() },
      modes: [
        new terra.TerraDrawPolygonMode({ styles: { ...outline, closingPointColor: COLOUR, closingPointWidth: 7 } }),
        new terra.TerraDrawSelectMode({
          styles: drawn,
          // Without it a click beside the area would hide its corners for good.
          allowManualDeselection: false,
          flags: { polygon: { feature: { draggable: true, coordinates } } },
        }),
      ],
    });
    this.draw.start();
    this.draw.on("finish", (id, { action }) => {
      if (action === "draw") this.finish(id);
    });
    this.draw.on("change", () => {
      if (this.corners.length !== this.count) this.become(this.state);
    });
    return true;
  }

  /** @param {string | number} id */
  finish(id) {
    this.draw.selectFeature(id);
    this.become("drawn");
  }

  /** @param {"none" | "loading" | "drawing" | "drawn"} state */
  become(state) {
    this.state = state;
    this.count = this.corners.length;
    this.dispatchEvent(new Event("change"));
  }
}

/** @param {number} degrees */
function round(degrees) {
  return Number(degrees.toFixed(DECIMALS));
}
