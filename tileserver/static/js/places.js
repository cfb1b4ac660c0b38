// Places of the real Earth that are worth the flight. Zooms count 256-pixel tiles.

/** @typedef {{name: string, kind: string, longitude: number, latitude: number, zoom: number}} Place */

/** @type {readonly Place[]} */
export const EARTH_PLACES = [
  { name: "The Alps", kind: "Glaciers and valleys", longitude: 7.98, latitude: 46.51, zoom: 11 },
  { name: "Nile delta", kind: "Green fan in the desert", longitude: 31.1, latitude: 30.75, zoom: 9 },
  { name: "Amazon at Manaus", kind: "Rainforest and rivers", longitude: -59.9, latitude: -3.13, zoom: 11 },
  { name: "Sahara, Tassili", kind: "Rock and sand", longitude: 8.1, latitude: 25.5, zoom: 11 },
  { name: "Himalaya, Everest", kind: "The highest ridges", longitude: 86.92, latitude: 27.99, zoom: 11 },
  { name: "Iceland", kind: "Ice cap and lava coast", longitude: -18.2, latitude: 63.75, zoom: 10 },
  { name: "Great Barrier Reef", kind: "Coast and coral sea", longitude: 146.9, latitude: -18.9, zoom: 9 },
  { name: "Netherlands", kind: "Polders", longitude: 5.0, latitude: 52.42, zoom: 12 },
  { name: "California, Big Sur", kind: "Cliffs on the Pacific", longitude: -121.75, latitude: 36.2, zoom: 13 },
  { name: "Central Valley", kind: "Irrigated fields", longitude: -120.2, latitude: 36.75, zoom: 13 },
  { name: "Patagonia", kind: "Fjords and ice field", longitude: -73.2, latitude: -50.2, zoom: 10 },
  { name: "Tokyo Bay", kind: "Metropolis", longitude: 139.77, latitude: 35.66, zoom: 13 },
  { name: "Iowa", kind: "A grid of farmland", longitude: -93.6, latitude: 42.1, zoom: 13 },
  { name: "Namib", kind: "Dunes meet the Atlantic", longitude: 14.85, latitude: -24.4, zoom: 10 },
  { name: "Grand Canyon", kind: "Cut plateau", longitude: -112.1, latitude: 36.1, zoom: 12 },
  { name: "Ganges delta", kind: "Mangroves and mud", longitude: 89.4, latitude: 21.95, zoom: 10 },
  { name: "Norwegian fjords", kind: "Deep water inland", longitude: 7.1, latitude: 61.1, zoom: 10 },
  { name: "Lake Baikal", kind: "The deepest lake", longitude: 107.8, latitude: 53.2, zoom: 9 },
  { name: "Okavango", kind: "A delta without a sea", longitude: 22.8, latitude: -19.3, zoom: 10 },
  { name: "Kamchatka", kind: "Volcanoes", longitude: 160.6, latitude: 56.05, zoom: 10 },
  { name: "Bahamas", kind: "Shallow banks", longitude: -76.6, latitude: 23.9, zoom: 9 },
  { name: "New Zealand", kind: "Southern Alps", longitude: 170.2, latitude: -43.6, zoom: 11 },
  { name: "Greenland's edge", kind: "Ice sheet into the sea", longitude: -50.2, latitude: 69.15, zoom: 10 },
  { name: "Los Angeles", kind: "Streets to the hills", longitude: -118.35, latitude: 34.07, zoom: 14 },
];
