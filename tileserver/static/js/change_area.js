// Which pixels are compared: what is on screen, no finer than it is shown and no more than the server takes.

const TILE_SIZE = 256;

/**
 * @param {{west: number, south: number, east: number, north: number}} bounds
 * @param {number} zoom
 * @returns {{width: number, height: number}} pixels, at most; the server takes whole ones
 */
export function pixelsOf({ west, south, east, north }, zoom) {
  const size = TILE_SIZE * 2 ** zoom;
  const row = (latitude) => size * (0.5 - Math.asinh(Math.tan((latitude * Math.PI) / 180)) / (2 * Math.PI));
  return {
    width: Math.min(size, Math.ceil(((east - west) / 360) * size) + 1),
    height: Math.min(size, Math.ceil(row(south) - row(north)) + 1),
  };
}

/**
 * The finest zoom, no finer than the screen's, at which an area has no more pixels than are allowed.
 * @param {{west: number, south: number, east: number, north: number}} bounds
 * @param {number} finest
 * @param {number} coarsest at which the worlds have pixels
 * @param {number} most pixels
 * @returns {number | null} null: even the coarsest has too many
 */
export function zoomFor(bounds, finest, coarsest, most) {
  for (let zoom = Math.max(finest, coarsest); zoom >= coarsest; zoom -= 1) {
    const { width, height } = pixelsOf(bounds, zoom);
    if (width * height <= most) return zoom;
  }
  return null;
}
