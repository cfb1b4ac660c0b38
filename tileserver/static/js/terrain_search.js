// Finds places of a kind in any world by the colours of its root: the z2 mosaic first, then one z4 tile.
// Root tiles need no generation, so a search costs seventeen small requests.

import { get, tilePath } from "./service.js";

const TILE = 256;
const COARSE_ZOOM = 2;
const FINE_ZOOM = 4;
// Mercator's far ends are stretched and mostly ice or night.
const MAX_LATITUDE = 72;
// A whole mosaic is sampled on a grid of about so many pixels, which takes a fraction of a second.
const MOST_CANDIDATES = 40_000;

/**
 * @typedef {"coast" | "mountains" | "forest" | "farmland" | "desert" | "ice" | "sea"} Kind
 * @typedef {"water" | "ice" | "green" | "pale" | "bare" | "other"} Cover
 */

/** @type {Record<Kind, {name: string, zoom: number}>} */
export const KINDS = {
  coast: { name: "Coast", zoom: 11 },
  mountains: { name: "Mountains", zoom: 11 },
  forest: { name: "Forest", zoom: 12 },
  farmland: { name: "Plains", zoom: 13 },
  desert: { name: "Desert", zoom: 11 },
  ice: { name: "Ice", zoom: 9 },
  sea: { name: "Open sea", zoom: 10 },
};

/**
 * What a root pixel shows, by its colour.
 * @param {number} red 0..255
 * @param {number} green
 * @param {number} blue
 * @returns {Cover}
 */
export function coverOf(red, green, blue) {
  const light = (red + green + blue) / 3;
  if (light > 175 && Math.max(red, green, blue) - Math.min(red, green, blue) < 45) return "ice";
  if (blue > red * 1.12 && blue >= green * 0.98) return "water";
  if (red > green && green > blue && light > 110 && red - blue > 30) return "pale";
  if (green >= red * 0.98 && green > blue) return "green";
  return red > blue ? "bare" : "other";
}

/**
 * Find a place of a kind.
 * @param {{world: string, seed: string | null}} world
 * @param {Kind} kind
 * @param {() => number} [random] uniform in 0..1; a seeded one makes the search repeatable
 * @param {AbortSignal} [signal]
 * @returns {Promise<{longitude: number, latitude: number, zoom: number} | null>} null where the world has none
 */
export async function findPlace(world, kind, random = Math.random, signal) {
  const across = 2 ** COARSE_ZOOM;
  const coarse = new Raster(across * TILE, await mosaic(world, COARSE_ZOOM, 0, 0, across, signal));
  const first = choose(coarse, kind, random, latitudeRows(coarse.size));
  if (!first) return null;

  // The coarse pixel is 4x4 fine ones; look there and a little around for the one that fits best.
  const factor = 2 ** (FINE_ZOOM - COARSE_ZOOM);
  const [x, y] = [first.column * factor, first.row * factor];
  const [tileX, tileY] = [Math.floor(x / TILE), Math.floor(y / TILE)];
  const fine = new Raster(TILE, await mosaic(world, FINE_ZOOM, tileX, tileY, 1, signal));
  const [left, top] = [x - tileX * TILE, y - tileY * TILE];
  const reach = 16;
  const near = { top: top - reach, bottom: top + reach, left: left - reach, right: left + reach };
  const second = choose(fine, kind, random, near) ?? { row: top, column: left };
  const size = TILE * 2 ** FINE_ZOOM;
  return {
    ...pixelPlace(tileX * TILE + second.column + 0.5, tileY * TILE + second.row + 0.5, size),
    zoom: KINDS[kind].zoom,
  };
}

/** Covers and lightness of a square picture. */
class Raster {
  /** @param {number} size pixels along a side @param {Uint8ClampedArray} pixels RGBA, row by row */
  constructor(size, pixels) {
    this.size = size;
    /** @type {Cover[]} */
    this.cover = new Array(size * size);
    this.light = new Float32Array(size * size);
    for (let index = 0; index < size * size; index += 1) {
      const [red, green, blue] = [pixels[4 * index], pixels[4 * index + 1], pixels[4 * index + 2]];
      this.cover[index] = coverOf(red, green, blue);
      this.light[index] = (red + green + blue) / 3;
    }
  }

  /**
   * Share of a cover in the square of `reach` pixels around a place, and how the lightness varies there.
   * @param {number} row @param {number} column @param {number} reach
   */
  around(row, column, reach) {
    /** @type {Record<Cover, number>} */
    const share = { water: 0, ice: 0, green: 0, pale: 0, bare: 0, other: 0 };
    let [sum, squares, count] = [0, 0, 0];
    for (let r = row - reach; r <= row + reach; r += 1) {
      for (let c = column - reach; c <= column + reach; c += 1) {
        const index = r * this.size + c;
        share[this.cover[index]] += 1;
        sum += this.light[index];
        squares += this.light[index] ** 2;
        count += 1;
      }
    }
    for (const cover of Object.keys(share)) share[cover] /= count;
    return { share, contrast: Math.sqrt(Math.max(0, squares / count - (sum / count) ** 2)) };
  }
}

/** How well the surroundings of a pixel fit a kind; 0 where they do not. @type {Record<Kind, (a: ReturnType<Raster["around"]>) => number>} */
const FIT = {
  coast: ({ share }) => (share.ice === 0 && share.water >= 0.3 && share.water <= 0.6 ? 1 - Math.abs(share.water - 0.45) : 0),
  mountains: ({ share, contrast }) => (share.water === 0 && share.ice < 0.5 ? contrast : 0),
  forest: ({ share, contrast }) => (share.green === 1 ? 1 / (1 + contrast) : 0),
  farmland: ({ share, contrast }) => (share.water + share.ice === 0 && share.green >= 0.3 && share.green < 1 ? 1 / (1 + contrast) : 0),
  desert: ({ share }) => (share.pale === 1 ? 1 : 0),
  ice: ({ share }) => (share.ice === 1 ? 1 : 0),
  sea: ({ share }) => (share.water === 1 ? 1 : 0),
};

/**
 * A random one of the best tenth of the pixels that fit.
 * @param {Raster} raster
 * @param {Kind} kind
 * @param {() => number} random
 * @param {{top: number, bottom: number, left: number, right: number}} bounds
 */
function choose(raster, kind, random, bounds) {
  const reach = kind === "sea" ? 8 : 2;
  const [low, high] = [reach, raster.size - 1 - reach];
  const [top, bottom] = [Math.max(low, bounds.top), Math.min(high, bounds.bottom)];
  const [left, right] = [Math.max(low, bounds.left), Math.min(high, bounds.right)];
  const step = Math.max(1, Math.round(Math.sqrt(((bottom - top) * (right - left)) / MOST_CANDIDATES)));
  const found = [];
  for (let row = top; row <= bottom; row += step) {
    for (let column = left; column <= right; column += step) {
      // The pixel itself first: most pixels are settled by it, and cheaply.
      const own = raster.cover[row * raster.size + column];
      if ((own === "water") !== (kind === "sea") && kind !== "coast") continue;
      const fit = FIT[kind](raster.around(row, column, reach));
      if (fit > 0) found.push({ row, column, fit });
    }
  }
  if (found.length === 0) return null;
  found.sort((a, b) => b.fit - a.fit);
  const best = found.filter(({ fit }) => fit >= found[Math.floor(found.length / 10)].fit);
  return best[Math.floor(random() * best.length)];
}

/** @param {number} size pixels along the side of the whole world */
function latitudeRows(size) {
  const y = (latitude) => (0.5 - Math.asinh(Math.tan((latitude * Math.PI) / 180)) / (2 * Math.PI)) * size;
  return { top: Math.ceil(y(MAX_LATITUDE)), bottom: Math.floor(y(-MAX_LATITUDE)), left: 0, right: size - 1 };
}

/** @param {number} x global pixel @param {number} y @param {number} size pixels along the side of the world */
function pixelPlace(x, y, size) {
  return {
    longitude: (360 * x) / size - 180,
    latitude: (Math.atan(Math.sinh(Math.PI * (1 - (2 * y) / size))) * 180) / Math.PI,
  };
}

/**
 * RGBA pixels of a square of tiles.
 * @param {{world: string, seed: string | null}} world
 * @param {number} z @param {number} x @param {number} y @param {number} across tiles along a side
 * @param {AbortSignal} [signal]
 */
async function mosaic(world, z, x, y, across, signal) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = across * TILE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const tiles = Array.from({ length: across * across }, (_, index) => [index % across, Math.floor(index / across)]);
  await Promise.all(
    tiles.map(async ([column, row]) => {
      const response = await get(tilePath(world, z, x + column, y + row), signal);
      context.drawImage(await createImageBitmap(await response.blob()), column * TILE, row * TILE);
    }),
  );
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
}
