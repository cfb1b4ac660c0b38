// Look for things in what is on screen: by a phrase, by clicks on the map, or by a box that is drawn over it.

import { areaLine, countOfAreas, save, shareOf } from "./area_list.js";
import { Asking } from "./asking.js";
import { zoomFor } from "./change_area.js";
import { showAreas } from "./change_layer.js";
import { listModels } from "./change_service.js";
import { element } from "./dom.js";
import { imageryZoom, placeAt, viewBounds } from "./globe.js";
import { formatArea, formatGsd } from "./readout.js";
import { askForMask } from "./segment_service.js";
import { ServiceError } from "./service.js";
import { wrapLongitude } from "./view_state.js";

const MOST_LINES = 6;
const LOOK = { name: "segment", colour: "#b24bf3" };
const WORDS = { doing: "Looking", cancelled: "Search cancelled", failed: "Nothing can be looked for" };
const LEAST_DRAG = 6;
const HINTS = {
  click: "Click the thing on the map; with Shift, click what does not belong to it. Esc ends it.",
  box: "Drag a box around the thing on the map. Esc ends it.",
};

/**
 * @typedef {object} SegmentActions
 * @property {() => {address: import("./service.js").WorldAddress, zooms: import("./service.js").Zooms} | null} world that
 *   is shown; null: it is being opened
 * @property {(ring: [number, number][], name: string) => void} visit
 * @property {(text: string) => void} say to screen readers
 */

export class Segment {
  /** @param {import("maplibre-gl").Map} map @param {SegmentActions} actions */
  constructor(map, actions) {
    this.map = map;
    this.actions = actions;
    /** Pixels that the server takes; null: it has not been asked, or has no weights. @type {number | null} */
    this.mostPixels = null;
    this.asking = new Asking("segment", WORDS, "segment-phrase", () => this.ready);
    /** What was found last: the answer and its bytes. */
    this.found = null;
    /** What the pointer does on the map. @type {"click" | "box" | null} */
    this.picking = null;
    /** @type {{longitude: number, latitude: number, inside: boolean}[]} */
    this.clicks = [];
    /** Where the area lies that the clicks are in: it stays, so that they stay in it. */
    this.area = null;
    /** @type {{x: number, y: number} | null} */
    this.dragFrom = null;
    this.bind();
  }

  bind() {
    element("segment").addEventListener("toggle", () => {
      if (element("segment").open) this.meetServer();
      else this.pick(null);
    });
    element("segment-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.findPhrase();
    });
    for (const way of ["click", "box"]) {
      element(`segment-${way}`).addEventListener("click", () => this.pick(this.picking === way ? null : way));
    }
    element("segment-overlay").addEventListener("change", () => this.draw());
    element("segment-geojson").addEventListener("click", () => this.found && save(this.found.blob, "mask.geojson"));
    element("segment-clear").addEventListener("click", () => {
      this.forget();
      this.actions.say("Mask removed from the map");
      element("segment-phrase").focus();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.picking !== null) this.pick(null);
    });
    this.map.on("mousedown", (event) => this.press(event));
    this.map.on("mousemove", (event) => this.drag(event));
    this.map.on("mouseup", (event) => this.release(event));
    this.map.on("click", (event) => this.click(event));
  }

  /** Learn whether the server can segment, when the section is first looked at. */
  async meetServer() {
    if (this.mostPixels !== null) return;
    try {
      const { models, max_pixels: most } = await listModels();
      if (models.some(({ task, available }) => task === "referring segmentation" && available)) this.mostPixels = most;
      this.asking.fail(this.mostPixels === null ? "This server has no weights of a model that segments." : "");
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.asking.fail(`The models cannot be read: ${error.message}`);
    }
    this.show();
  }

  /** Another world is being opened: what was found in the last one is not here. */
  forget() {
    this.asking.stop();
    this.asking.fail("");
    this.pick(null);
    this.found = null;
    this.showFound();
  }

  get ready() {
    return this.mostPixels !== null && this.actions.world() !== null;
  }

  /** Say whether something can be looked for. */
  show() {
    this.asking.show();
    for (const way of ["click", "box"]) element(`segment-${way}`).disabled = !this.ready;
  }

  /** Let the pointer click or box things, or move the map again. @param {"click" | "box" | null} way */
  pick(way) {
    if (way !== null && this.mostPixels === null) return;
    this.picking = way;
    this.clicks = [];
    this.area = null;
    this.endDrag();
    for (const name of ["click", "box"]) element(`segment-${name}`).setAttribute("aria-pressed", String(name === way));
    element("segment-hint").textContent = way === null ? "" : HINTS[way];
    this.map.getCanvas().style.cursor = way === null ? "" : "crosshair";
    // Shift and a second click say something about the thing while it is picked, not about the view.
    for (const gesture of [this.map.boxZoom, this.map.doubleClickZoom]) way === null ? gesture.enable() : gesture.disable();
    if (way !== null) this.actions.say(HINTS[way]);
  }

  findPhrase() {
    const phrase = element("segment-phrase").value.trim();
    element("segment-phrase").setAttribute("aria-invalid", String(phrase === ""));
    if (phrase === "") {
      this.asking.fail("Say what to look for, such as “the river”");
      element("segment-phrase").focus();
      return;
    }
    this.pick(null);
    this.find({ phrase }, this.areaOnScreen());
  }

  /** What is on screen, in as many pixels as the server takes; null where that is too much. */
  areaOnScreen() {
    const world = this.actions.world();
    if (world === null || this.mostPixels === null) return null;
    const bounds = viewBounds(this.map);
    const zoom = zoomFor(bounds, imageryZoom(this.map), world.zooms.least, this.mostPixels);
    const { west, south, east, north } = bounds;
    return zoom === null ? null : { bbox: /** @type {[number, number, number, number]} */ ([west, south, east, north]), zoom };
  }

  /** @param {any} event of the map */
  click({ point, originalEvent }) {
    if (this.picking !== "click") return;
    const place = placeAt(this.map, point);
    if (place === null) return;
    this.area ??= this.areaOnScreen();
    const inside = !originalEvent.shiftKey || this.clicks.length === 0;
    this.clicks.push({ longitude: wrapLongitude(place.longitude), latitude: place.latitude, inside });
    this.find({ clicks: this.clicks }, this.area);
  }

  /** @param {any} event of the map */
  press({ point, originalEvent }) {
    if (this.picking !== "box" || originalEvent.button !== 0) return;
    originalEvent.preventDefault();
    this.map.dragPan.disable();
    this.dragFrom = point;
  }

  /** @param {any} event of the map */
  drag({ point }) {
    if (this.dragFrom === null) return;
    const frame = element("segment-frame");
    const { left, top } = this.map.getCanvas().getBoundingClientRect();
    frame.hidden = false;
    frame.style.left = `${left + Math.min(point.x, this.dragFrom.x)}px`;
    frame.style.top = `${top + Math.min(point.y, this.dragFrom.y)}px`;
    frame.style.width = `${Math.abs(point.x - this.dragFrom.x)}px`;
    frame.style.height = `${Math.abs(point.y - this.dragFrom.y)}px`;
  }

  /** @param {any} event of the map */
  release({ point }) {
    const from = this.dragFrom;
    if (from === null) return;
    this.endDrag();
    if (Math.abs(point.x - from.x) < LEAST_DRAG || Math.abs(point.y - from.y) < LEAST_DRAG) return;
    const corners = [from, point].map((corner) => placeAt(this.map, corner));
    if (corners.includes(null)) return;
    const longitudes = corners.map(({ longitude }) => wrapLongitude(longitude));
    const latitudes = corners.map(({ latitude }) => latitude);
    const box = [Math.min(...longitudes), Math.min(...latitudes), Math.max(...longitudes), Math.max(...latitudes)];
    this.find({ box: /** @type {[number, number, number, number]} */ (box) }, this.areaOnScreen());
  }

  endDrag() {
    if (this.dragFrom !== null) this.map.dragPan.enable();
    this.dragFrom = null;
    element("segment-frame").hidden = true;
  }

  /** @param {import("./segment_service.js").Wanted} wanted @param {ReturnType<Segment["areaOnScreen"]>} area */
  async find(wanted, area) {
    const world = this.actions.world();
    if (world === null || this.mostPixels === null) return;
    if (area === null) {
      this.asking.fail("Too much is on screen; zoom in");
      return;
    }
    this.found = null;
    this.showFound();
    await this.asking.ask(
      async (signal) => {
        const blob = await askForMask(world.address, area, wanted, signal);
        return { blob, mask: JSON.parse(await blob.text()) };
      },
      (found) => {
        this.found = found;
        this.showFound();
        this.actions.say(element("segment-summary").textContent);
      },
    );
  }

  /** Show what was found, in the panel and on the map. */
  showFound() {
    const { mask } = this.found ?? {};
    element("segment-result").hidden = !mask;
    this.draw();
    if (!mask) return;
    element("segment-summary").textContent = summaryOf(mask);
    element("segment-list").replaceChildren(...mask.features.slice(0, MOST_LINES).map((area) => this.line(area)));
  }

  draw() {
    const mask = element("segment-overlay").checked ? (this.found?.mask ?? null) : null;
    if (this.map.getStyle()) showAreas(this.map, LOOK, mask);
  }

  /** @param {import("./segment_service.js").Found["features"][number]} area */
  line({ properties, geometry }) {
    const size = formatArea(properties.area_m2);
    const probability = `${Math.round(100 * properties.probability)} %`;
    return areaLine(size, probability, () => this.actions.visit(geometry.coordinates[0], size));
  }
}

/** @param {import("./segment_service.js").Found} found */
function summaryOf({ features, left_out: leftOut, found_m2: area, total_m2: total, predicted_iou: guess, gsd }) {
  const count = features.length + leftOut;
  if (count === 0) return `Nothing of the kind found at ${formatGsd(gsd)}`;
  const sure = guess === null ? "" : `; the model expects an overlap of ${Math.round(100 * guess)} %`;
  return `${countOfAreas(count)}: ${formatArea(area)}, ${shareOf(area, total)} of what is on screen at ${formatGsd(gsd)}${sure}`;
}
