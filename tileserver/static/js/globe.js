// The MapLibre map: a globe or a plane, its camera, and outlines on it.

import * as maplibre from "../vendor/maplibre-gl-6.17.0/maplibre-gl.mjs";
import { DEEPEST_ZOOM } from "./service.js";
import { MAX_LATITUDE, MAX_ZOOM, MIN_ZOOM, wrapLongitude } from "./view_state.js";

// MapLibre counts zooms for 512-pixel tiles; the pyramid's are 256 pixels wide.
const TILE_ZOOM_OFFSET = 1;
const EQUATOR_GSD = (2 * Math.PI * 6378137) / 256;
const OUTLINES = "outlines";

/** Why the browser cannot draw the map. */
export const { GPUInitializationError } = maplibre;

/**
 * @param {HTMLElement} container
 * @param {import("./view_state.js").View} view
 * @param {import("./tile_loader.js").TileLoader} loader
 * @throws {GPUInitializationError} without WebGL 2
 */
export function createMap(container, view, loader) {
  loader.install(maplibre);
  const map = new maplibre.Map({
    ...options(container, view.projection),
    center: [view.longitude, view.latitude],
    zoom: (view.zoom ?? fittingZoom(container, view.latitude)) - TILE_ZOOM_OFFSET,
    bearing: view.bearing,
    pitch: view.pitch,
    minZoom: MIN_ZOOM - TILE_ZOOM_OFFSET,
    locale: {
      "Map.Title": "Map of the world. Arrow keys move it, plus and minus zoom.",
      "NavigationControl.ResetBearing": "Turn north up",
    },
  });
  map.addControl(new maplibre.NavigationControl({ visualizePitch: true }), "bottom-right");
  return map;
}

/**
 * A second map that shows another world; both look at the same place, whichever of them is moved. `moveend` of the
 * leader has `mirrored` set while the follower is still being moved.
 * @param {HTMLElement} container
 * @param {maplibre.Map} leader
 * @param {"globe" | "flat"} projection
 */
export function createFollower(container, leader, projection) {
  const follower = new maplibre.Map({ ...options(container, projection), ...rawCamera(leader) });
  let copying = false;
  const copy = (from, to, said) => {
    // What it does to the other one comes back here.
    if (copying) return;
    copying = true;
    to.jumpTo(rawCamera(from), said);
    copying = false;
  };
  const follow = () => copy(leader, follower);
  leader.on("move", follow);
  follower.on("move", () => copy(follower, leader, { mirrored: true }));
  follower.on("moveend", () => copy(follower, leader));
  follower.on("remove", () => leader.off("move", follow));
  return follower;
}

/** @param {HTMLElement} container @param {"globe" | "flat"} projection @returns {maplibre.MapOptions} */
function options(container, projection) {
  return {
    container,
    style: emptyStyle(projection),
    minZoom: MIN_ZOOM - TILE_ZOOM_OFFSET,
    maxZoom: MAX_ZOOM - TILE_ZOOM_OFFSET,
    maxPitch: 60,
    attributionControl: false,
    // A tile's address names its bytes, so it never expires.
    refreshExpiredTiles: false,
    cancelPendingTileRequestsWhileZooming: true,
    maxTileCacheZoomLevels: 6,
    fadeDuration: 0,
  };
}

/** @param {maplibre.Map} map */
function rawCamera(map) {
  return { center: map.getCenter(), zoom: map.getZoom(), bearing: map.getBearing(), pitch: map.getPitch() };
}

/** Keep the camera where a world has pixels. @param {maplibre.Map} map @param {import("./service.js").Zooms} zooms */
export function limitZoom(map, zooms) {
  map.setMinZoom(Math.max(MIN_ZOOM, zooms.least) - TILE_ZOOM_OFFSET);
}

/** Outline areas. @param {maplibre.Map} map @param {[number, number][][]} rings longitudes and latitudes */
export function showOutlines(map, rings) {
  const features = rings.map((ring) => ({
    type: "Feature",
    properties: {},
    geometry: { type: "LineString", coordinates: closed(unwrapped(ring)) },
  }));
  const data = { type: "FeatureCollection", features };
  if (map.getSource(OUTLINES)) {
    map.getSource(OUTLINES).setData(data);
    return;
  }
  map.addSource(OUTLINES, { type: "geojson", data });
  const layout = { "line-join": "round" };
  map.addLayer({
    id: `${OUTLINES}-shade`,
    type: "line",
    source: OUTLINES,
    layout,
    paint: { "line-color": "#05080d", "line-opacity": 0.55, "line-width": 4 },
  });
  map.addLayer({ id: OUTLINES, type: "line", source: OUTLINES, layout, paint: { "line-color": "#fff", "line-width": 1.5 } });
}

/** A ring whose longitudes do not jump at 180 degrees. @param {[number, number][]} ring @returns {[number, number][]} */
function unwrapped(ring) {
  let last = ring[0][0];
  return ring.map(([longitude, latitude]) => [(last += wrapLongitude(longitude - last)), latitude]);
}

/** @template T @param {T[]} ring */
function closed(ring) {
  return [...ring, ring[0]];
}

/** @param {maplibre.Map} map @param {"globe" | "flat"} projection */
export function setProjection(map, projection) {
  map.setProjection({ type: projection === "globe" ? "globe" : "mercator" });
}

/** @param {maplibre.Map} map */
export function cameraOf(map) {
  const { lat, lng } = map.getCenter();
  return {
    zoom: tileZoom(map),
    latitude: lat,
    longitude: lng,
    bearing: map.getBearing(),
    pitch: map.getPitch(),
  };
}

/**
 * Move the camera there at once.
 * @param {maplibre.Map} map
 * @param {import("./view_state.js").View} view
 */
export function jumpTo(map, view) {
  map.jumpTo({
    center: [view.longitude, view.latitude],
    zoom: (view.zoom ?? fittingZoom(map.getContainer(), view.latitude)) - TILE_ZOOM_OFFSET,
    bearing: view.bearing,
    pitch: view.pitch,
  });
}

/**
 * Fly there; the promise resolves when the flight has ended, even where something else ended it.
 * @param {maplibre.Map} map
 * @param {{longitude: number, latitude: number, zoom: number | null}} place
 * @param {import("./tile_loader.js").TileLoader} loader
 */
export async function flyTo(map, place, loader) {
  const zoom = (place.zoom ?? fittingZoom(map.getContainer(), place.latitude)) - TILE_ZOOM_OFFSET;
  loader.patience = 250;
  map.flyTo({ center: [place.longitude, place.latitude], zoom, bearing: 0, pitch: 0, maxDuration: 5000 });
  if (map.isMoving()) await new Promise((resolve) => map.once("moveend", resolve));
  loader.patience = 0;
}

/**
 * Fly to where a ring fills the window.
 * @param {maplibre.Map} map
 * @param {[number, number][]} ring
 * @param {import("./tile_loader.js").TileLoader} loader
 */
export function flyToRing(map, ring, loader) {
  const bounds = new maplibre.LngLatBounds();
  for (const vertex of unwrapped(ring)) bounds.extend(vertex);
  const { width, height } = map.getContainer().getBoundingClientRect();
  const { center, zoom } = map.cameraForBounds(bounds, { padding: 0.2 * Math.min(width, height) });
  const { lng, lat } = maplibre.LngLat.convert(center);
  return flyTo(map, { longitude: lng, latitude: lat, zoom: Math.min(MAX_ZOOM, zoom + TILE_ZOOM_OFFSET) }, loader);
}

/**
 * A ring around the middle of what is on screen.
 * @param {maplibre.Map} map
 * @returns {[number, number][]}
 */
export function middleOfView(map) {
  const { width, height } = map.getContainer().getBoundingClientRect();
  // Corners that lie on the globe even where it is small.
  const reach = Math.min(width, height) / 5;
  const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]];
  return corners.map(([x, y]) => {
    const { lng, lat } = map.unproject([width / 2 + x * reach, height / 2 + y * reach]);
    return [wrapLongitude(lng), lat];
  });
}

/**
 * What is on screen, as a box that does not cross 180 degrees: where the view does, the side with its centre.
 * @param {maplibre.Map} map
 */
export function viewBounds(map) {
  const limit = (value, most) => Math.min(most, Math.max(-most, value));
  const [box, centre] = [map.getBounds(), map.getCenter()];
  const [south, north] = [limit(box.getSouth(), MAX_LATITUDE), limit(box.getNorth(), MAX_LATITUDE)];
  const turns = 360 * Math.floor((centre.lng + 180) / 360);
  const [west, east] = [limit(box.getWest() - turns, 180), limit(box.getEast() - turns, 180)];
  // From afar a globe shows half of itself, whose box says little.
  return tileZoom(map) < 3 || west >= east || south >= north
    ? { west: -180, south: -MAX_LATITUDE, east: 180, north: MAX_LATITUDE }
    : { west, south, east, north };
}

/** The screen's zoom in the pyramid's counting. @param {maplibre.Map} map */
export function tileZoom(map) {
  return map.getZoom() + TILE_ZOOM_OFFSET;
}

/** The zoom of the tiles that are on screen. @param {maplibre.Map} map */
export function imageryZoom(map) {
  return Math.min(DEEPEST_ZOOM, Math.max(0, Math.round(tileZoom(map))));
}

/**
 * True metres per pixel.
 * @param {number} zoom
 * @param {number} latitude degrees
 */
export function groundSamplingDistance(zoom, latitude) {
  return (EQUATOR_GSD * Math.cos((latitude * Math.PI) / 180)) / 2 ** zoom;
}

/**
 * The place under a point of the screen, or null beside the globe.
 * @param {maplibre.Map} map
 * @param {{x: number, y: number}} point
 */
export function placeAt(map, point) {
  const place = map.unproject([point.x, point.y]);
  // Beside the globe MapLibre answers with the nearest place on its rim, which lies elsewhere on screen.
  const back = map.project(place);
  if (Math.hypot(back.x - point.x, back.y - point.y) > 2 || Math.abs(place.lat) > 90) return null;
  return { latitude: place.lat, longitude: place.lng };
}

/** The zoom at which the whole globe stands free in the window. @param {HTMLElement} container @param {number} latitude */
function fittingZoom(container, latitude) {
  const side = Math.min(container.clientWidth, container.clientHeight) || 600;
  // Perspective draws the sphere about a fifth smaller than a plane at its centre would be.
  const radius = 0.48 * side;
  const zoom = Math.log2((2 * Math.PI * radius * Math.cos((latitude * Math.PI) / 180)) / 256);
  return Math.max(MIN_ZOOM, zoom);
}

/** @param {"globe" | "flat"} projection */
function emptyStyle(projection) {
  return {
    version: 8,
    projection: { type: projection === "globe" ? "globe" : "mercator" },
    sources: {},
    layers: [{ id: "ground", type: "background", paint: { "background-color": "#0d1a26" } }],
    // A sun behind the limb: a rim of light, and no haze over the imagery, whose colours are the point.
    light: { anchor: "viewport", position: [1.5, 210, 27] },
    sky: {
      "sky-color": "#0b1622",
      "horizon-color": "#9fc4e8",
      "fog-color": "#9fc4e8",
      "sky-horizon-blend": 0.6,
      "horizon-fog-blend": 0.6,
      "fog-ground-blend": 0.9,
      "atmosphere-blend": ["interpolate", ["linear"], ["zoom"], 0, 1, 4, 0.9, 6, 0],
    },
  };
}
