// Scale bar, zoom, ground sampling distance and the place under the pointer, kept up to date.

import { element } from "./dom.js";
import { groundSamplingDistance, imageryZoom, placeAt, tileZoom } from "./globe.js";
import { formatGsd, formatPlace, scaleBar } from "./readout.js";
import { wrapLongitude } from "./view_state.js";

const SCALE_BAR_PIXELS = 88;

/** @param {import("maplibre-gl").Map} map */
export function watchReadout(map) {
  /** @type {{x: number, y: number} | null} */
  let pointer = null;
  const update = () => showReadout(map, pointer);
  map.on("mousemove", (event) => {
    pointer = event.point;
    update();
  });
  map.getCanvasContainer().addEventListener("mouseleave", () => {
    pointer = null;
    update();
  });
  map.on("move", update);
  map.on("resize", update);
  map.on("projectiontransition", update);
  map.getCanvas().setAttribute("aria-describedby", "place gsd");
  update();
}

/** @param {import("maplibre-gl").Map} map @param {{x: number, y: number} | null} pointer null: not over the map */
function showReadout(map, pointer) {
  const centre = map.getCenter();
  const zoom = tileZoom(map);
  const bar = scaleBar(groundSamplingDistance(zoom, centre.lat), SCALE_BAR_PIXELS);
  element("scale-label").textContent = bar.label;
  element("scale-bar").style.width = `${bar.width.toFixed(1)}px`;
  element("zoom").textContent = `z ${zoom.toFixed(1)}`;
  const place = pointer ? placeAt(map, pointer) : { latitude: centre.lat, longitude: centre.lng };
  element("place-label").textContent = pointer ? "Place under the pointer" : "Place at the centre";
  element("place-readout").classList.toggle("centre", !pointer);
  if (place) {
    element("gsd").textContent = formatGsd(groundSamplingDistance(imageryZoom(map), place.latitude));
    element("place").textContent = formatPlace(place.latitude, wrapLongitude(place.longitude), groundSamplingDistance(zoom, 0));
  } else {
    element("gsd").textContent = "-";
    element("place").textContent = "off the globe";
  }
}
