// Changed areas on the map.

const CHANGES = "changes";
const NOTHING = { type: "FeatureCollection", features: [] };
// Told from any ground, and from the white outlines of edits.
const COLOUR = "#ff3d81";

/**
 * Show areas in place of those that were shown before.
 * @param {import("maplibre-gl").Map} map
 * @param {import("./change_service.js").Changes | null} changes
 */
export function showChanges(map, changes) {
  const data = changes ?? NOTHING;
  if (map.getSource(CHANGES)) {
    map.getSource(CHANGES).setData(data);
    return;
  }
  if (changes === null) return;
  map.addSource(CHANGES, { type: "geojson", data });
  const source = CHANGES;
  map.addLayer({ id: CHANGES, type: "fill", source, paint: { "fill-color": COLOUR, "fill-opacity": 0.35 } });
  map.addLayer({
    id: `${CHANGES}-edge`,
    type: "line",
    source,
    layout: { "line-join": "round" },
    paint: { "line-color": COLOUR, "line-width": 2 },
  });
}
