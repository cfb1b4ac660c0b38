// Numbers as people read them: ground sampling distance, places, the scale bar.

/** "0.60 m", "9.6 m", "38 m", "4.9 km". @param {number} metres */
export function formatLength(metres) {
  const [value, unit] = metres >= 1000 ? [metres / 1000, "km"] : [metres, "m"];
  const decimals = value >= 10 ? 0 : value >= 1 ? 1 : 2;
  return `${value.toFixed(decimals)} ${unit}`;
}

/** @param {number} metres metres per pixel */
export function formatGsd(metres) {
  return `${formatLength(metres)}/px`;
}

/**
 * "46.5120° N 7.9810° E" with the digits that the screen can tell apart.
 * @param {number} latitude
 * @param {number} longitude
 * @param {number} gsd metres per screen pixel
 */
export function formatPlace(latitude, longitude, gsd) {
  const decimals = Math.min(6, Math.max(1, Math.ceil(Math.log10(111_320 / gsd))));
  const north = `${Math.abs(latitude).toFixed(decimals)}° ${latitude < 0 ? "S" : "N"}`;
  const east = `${Math.abs(longitude).toFixed(decimals)}° ${longitude < 0 ? "W" : "E"}`;
  return `${north}  ${east}`;
}

/**
 * The longest round length that fits into a scale bar.
 * @param {number} gsd metres per screen pixel
 * @param {number} maxWidth pixels
 */
export function scaleBar(gsd, maxWidth) {
  const most = gsd * maxWidth;
  const power = 10 ** Math.floor(Math.log10(most));
  const metres = ([5, 2, 1].find((digit) => digit * power <= most) ?? 1) * power;
  const label = metres >= 1000 ? `${metres / 1000} km` : `${metres} m`;
  return { width: metres / gsd, label };
}

/** "850 m²", "1.2 ha", "34 km²". @param {number} squareMetres */
export function formatArea(squareMetres) {
  const units = /** @type {const} */ ([[1e6, "km²"], [1e4, "ha"], [1, "m²"]]);
  const [size, unit] = units.find(([least]) => squareMetres >= least) ?? [1, "m²"];
  const value = squareMetres / size;
  return `${value.toFixed(value >= 10 || unit === "m²" ? 0 : 1)} ${unit}`;
}
