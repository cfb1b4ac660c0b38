// Areas on the map: what changed, and what an answer is about.

const NOTHING = { type: "FeatureCollection", features: [] };
// Both are told from any ground, from each other, and from the white outlines of edits.
const CHANGES = { name: "changes", colour: "#ff3d81" };
const ANSWER = { name: "answer", colour: "#ffb000" };
const FRAME = "answer-frame";

/**
 * Show what changed in place of what was shown before.
 * @param {import("maplibre-gl").Map} map
 * @param {import("./change_service.js").Changes | null} changes
 */
export function showChanges(map, changes) {
  showAreas(map, CHANGES, changes);
}

/**
 * Show what an answer is about, and the area that the conversation is about.
 * @param {import("maplibre-gl").Map} map
 * @param {object | null} areas GeoJSON
 * @param {[number, number, number, number] | null} bbox west, south, east, north
 */
export function showAnswer(map, areas, bbox) {
  showAreas(map, ANSWER, areas);
  const data = bbox === null ? null : frame(bbox);
  if (!setData(map, FRAME, data)) return;
  const paint = { "line-color": ANSWER.colour, "line-width": 1.5, "line-dasharray": [3, 2] };
  map.addLayer({ id: FRAME, type: "line", source: FRAME, paint });
}

/** @param {import("maplibre-gl").Map} map @param {{name: string, colour: string}} look @param {object | null} areas */
export function showAreas(map, { name, colour }, areas) {
  if (!setData(map, name, areas)) return;
  map.addLayer({ id: name, type: "fill", source: name, paint: { "fill-color": colour, "fill-opacity": 0.35 } });
  map.addLayer({
    id: `${name}-edge`,
    type: "line",
    source: name,
    layout: { "line-join": "round" },
    paint: { "line-color": colour, "line-width": 2 },
  });
}

/**
 * Give a source its data.
 * @param {import("maplibre-gl").Map} map @param {string} name @param {object | null} data
 * @returns {boolean} whether the source is new, so that its layers have to be added
 */
function setData(map, name, data) {
  const source = map.getSource(name);
  source?.setData(data ?? NOTHING);
  if (source || data === null) return false;
  map.addSource(name, { type: "geojson", data });
  return true;
}

/** The edge of a box. @param {[number, number, number, number]} bbox */
function frame([west, south, east, north]) {
  const ring = [[west, south], [east, south], [east, north], [west, north], [west, south]];
  return { type: "Feature", properties: {}, geometry: { type: "LineString", coordinates: ring } };
}
