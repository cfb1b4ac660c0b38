// Drawing one area on the map with Terra Draw, which is loaded when somebody first draws.

import { wrapLongitude } from "./view_state.js";

const LIBRARY = "../vendor/terra-draw-1.35.0/terra-draw.modern.js";
const ADAPTER = "../vendor/terra-draw-maplibre-gl-adapter-1.4.1/terra-draw-maplibre-gl-adapter.modern.js";
const COLOUR = "#ffd166";
const DECIMALS = 9;

/**
 * One area at a time: it is drawn corner by corner, and once it is closed its corners can be dragged.
 * "change" tells that `state` changed.
 */
export class Drawing extends EventTarget {
  /** @param {import("maplibre-gl").Map} map */
  constructor(map) {
    super();
    this.map = map;
    /** @type {"none" | "drawing" | "drawn"} */
    this.state = "none";
    this.draw = null;
  }

  /** Let the user draw. @throws {TypeError} the library could not be loaded */
  async begin() {
    await this.open();
    this.draw.setMode("polygon");
    this.become("drawing");
  }

  /** Take a ring as if it had been drawn. @param {[number, number][]} ring longitudes and latitudes */
  async take(ring) {
    await this.open();
    const coordinates = [[...ring, ring[0]].map((vertex) => vertex.map(round))];
    const geometry = { type: "Polygon", coordinates };
    const [{ id }] = this.draw.addFeatures([{ type: "Feature", geometry, properties: { mode: "polygon" } }]);
    this.finish(id);
  }

  /** Take the last corner back. */
  undo() {
    if (this.state === "drawing" && this.draw.canUndo()) this.draw.undo();
  }

  /** Give the area up. */
  cancel() {
    this.draw?.stop();
    this.draw = null;
    if (this.state !== "none") this.become("none");
  }

  /** The area that was drawn, its last corner not repeated. @returns {[number, number][]} */
  get ring() {
    const { geometry } = this.draw.getSnapshot().find((feature) => feature.geometry.type === "Polygon");
    return geometry.coordinates[0].slice(0, -1).map(([longitude, latitude]) => [round(wrapLongitude(longitude)), latitude]);
  }

  async open() {
    this.cancel();
    const [terra, { TerraDrawMapLibreGLAdapter }] = await Promise.all([import(LIBRARY), import(ADAPTER)]);
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
  }

  /** @param {string | number} id */
  finish(id) {
    this.draw.selectFeature(id);
    this.become("drawn");
  }

  /** @param {"none" | "drawing" | "drawn"} state */
  become(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}

/** @param {number} degrees */
function round(degrees) {
  return Number(degrees.toFixed(DECIMALS));
}
