// Segmentation over HTTP: a mask of what a phrase names, of what is clicked, or of what a box is drawn around.

import { pathOf, post } from "./service.js";

/**
 * What is looked for: one of the three.
 * @typedef {object} Wanted
 * @property {string} [phrase]
 * @property {{longitude: number, latitude: number, inside: boolean}[]} [clicks]
 * @property {[number, number, number, number]} [box] west, south, east, north
 */

/**
 * What was found: a GeoJSON feature collection, the largest areas first.
 * @typedef {object} Found
 * @property {{properties: {area_m2: number, probability: number}, geometry: {coordinates: [number, number][][]}}[]} features
 * @property {number} left_out how many smaller areas are not among them
 * @property {number} found_m2
 * @property {number} total_m2
 * @property {number | null} predicted_iou of a click or a box
 * @property {number} gsd metres per pixel
 */

/**
 * @param {import("./service.js").WorldAddress} address of the world, on its day
 * @param {{bbox: [number, number, number, number], zoom: number}} area
 * @param {Wanted} wanted
 * @param {AbortSignal} signal
 * @returns {Promise<Blob>} GeoJSON, see `Found`
 */
export async function askForMask(address, area, wanted, signal) {
  const { date, version: _, ...world } = address;
  const body = { ...area, ...wanted, ...(date ? { date } : {}) };
  return (await post(pathOf(world, "perception/segment", { format: "geojson" }), body, signal)).blob();
}
