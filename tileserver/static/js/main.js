// Brings the page together: the link decides the view, the view decides the map and the panel.

import { watchActivity } from "./activity.js";
import {
  GPUInitializationError,
  cameraOf,
  createMap,
  flyTo,
  groundSamplingDistance,
  imageryZoom,
  jumpTo,
  placeAt,
  setProjection,
  showWorld,
  tileZoom,
} from "./globe.js";
import { bindKeys } from "./keyboard.js";
import { Notices } from "./notices.js";
import {
  bindPanel,
  element,
  focusSeed,
  isLocked,
  offerRegistered,
  openPlaces,
  showHelp,
  showView,
  summaryOf,
  toggleFold,
  toggleLock,
} from "./panel.js";
import { formatGsd, formatPlace, scaleBar } from "./readout.js";
import { ServiceError, describeWorld, listWorlds, previewPath, serviceUrl } from "./service.js";
import { KINDS, findPlace } from "./terrain_search.js";
import { TileLoader } from "./tile_loader.js";
import { DEFAULT_VIEW, formatView, isNamedRoot, randomSeed, readView, wrapLongitude } from "./view_state.js";

const SCALE_BAR_PIXELS = 88;

const page = document.documentElement;
const notices = new Notices(element("notices"));
const loader = new TileLoader();
let { view, problems } = readView(location);
/** Description of the world on screen where it is a registered one. @type {import("./service.js").WorldDescription | null} */
let registered = null;
/** The world whose tiles are on the map. @type {import("./service.js").WorldAddress} */
let shown = { world: view.world, seed: isNamedRoot(view.world) ? view.seed : null, version: null };
/** Whether a tile of that world has come. */
let seen = false;
/** A world that is being opened. @type {AbortController | null} */
let opening = null;
/** @type {import("maplibre-gl").Map} */
let map;

if (new URLSearchParams(location.search).get("ui") === "0") page.classList.add("bare");

try {
  map = createMap(element("map"), view, loader);
} catch (error) {
  if (!(error instanceof GPUInitializationError)) throw error;
  showUnsupported(error);
}
if (map) start();

function start() {
  if (problems.length > 0) notices.show("link", `Part of the link could not be used: ${problems.join("; ")}.`);
  bindPanel({
    chooseWorld: (world) => changeView({ world }),
    chooseSeed: (seed) => changeView({ seed }),
    anotherSeed,
    newPlanet,
    chooseProjection: (projection) => changeView({ projection }),
    visit: (place) => fly(place, place.name),
    find,
    share,
  });
  bindKeys({
    m: () => map.getCanvas().focus(),
    0: () => fly({ ...DEFAULT_VIEW, longitude: map.getCenter().lng, zoom: null }, "the whole world"),
    g: () => changeView({ projection: view.projection === "globe" ? "flat" : "globe" }),
    e: () => changeView({ world: "earth" }),
    n: newPlanet,
    r: anotherSeed,
    l: toggleLock,
    "/": focusSeed,
    p: openPlaces,
    s: share,
    h: toggleFold,
    "?": showHelp,
    "+": () => map.zoomIn(),
    "=": () => map.zoomIn(),
    "-": () => map.zoomOut(),
  });
  watchTiles();
  const shaping = () => !seen && (registered?.root ?? view.world) === "planet";
  watchActivity(loader, element("busy"), element("busy-text"), () => map.getCenter().lat, shaping);
  watchReadout();
  watchHistory();
  map.on("load", () => openWorld());
  meetServer();
}

/**
 * Move to another world, seed or projection, as one step of the browser's history.
 * @param {Partial<import("./view_state.js").View>} change
 */
function changeView(change) {
  const before = view;
  view = { ...view, ...cameraOf(map), ...change };
  if (formatView(view) === formatView({ ...before, ...cameraOf(map) })) return;
  history.pushState(null, "", formatView(view));
  if (view.projection !== before.projection) {
    setProjection(map, view.projection);
    showView(view, registered);
    say(view.projection === "globe" ? "Globe" : "Flat map");
  }
  if (view.world !== before.world || view.seed !== before.seed) openWorld();
}

/** Put the world of the view on the map, once the server has described it. */
async function openWorld() {
  opening?.abort();
  const { signal } = (opening = new AbortController());
  page.dataset.map = "busy";
  notices.clear("tiles");
  showView(view, null);
  let address = { world: view.world, seed: isNamedRoot(view.world) ? view.seed : null, version: null };
  let description;
  try {
    description = await describeUntilAnswered(address, signal);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ServiceError)) throw error;
    notices.show("world", `World “${view.world}” cannot be opened: ${error.message}. This is the real Earth.`);
    view = { ...view, world: "earth" };
    history.replaceState(null, "", formatView(view));
    address = { world: "earth", seed: view.seed, version: null };
  }
  if (signal.aborted) return;
  opening = null;
  shown = { ...address, version: description?.version ?? null };
  registered = isNamedRoot(view.world) ? null : description;
  showTiles();
  showView(view, registered);
  document.title = `${summaryOf(view, registered)} | earthgen`;
  say(summaryOf(view, registered));
}

/**
 * Ask for a world's description again and again while the server is silent or busy.
 * @param {import("./service.js").WorldAddress} address
 * @param {AbortSignal} signal
 */
async function describeUntilAnswered(address, signal) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const description = await describeWorld(address, signal);
      notices.clear("server");
      return description;
    } catch (error) {
      if (signal.aborted || !(error instanceof ServiceError) || !(error.unreachable || error.overloaded)) throw error;
      const seconds = error.retryAfter ?? 2 ** Math.min(attempt, 4);
      tellServerTrouble(error.overloaded, seconds);
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      signal.throwIfAborted();
    }
  }
}

/** (Re)load the tiles of the world that is shown. */
function showTiles() {
  page.dataset.map = "busy";
  page.dataset.failed = "0";
  seen = false;
  showWorld(map, shown, loader);
}

function newPlanet() {
  if (!isLocked()) changeView({ world: "planet", seed: randomSeed() });
}

function anotherSeed() {
  if (!isLocked() && isNamedRoot(view.world)) changeView({ seed: randomSeed() });
}

/** @param {{longitude: number, latitude: number, zoom: number | null}} place @param {string} name */
async function fly(place, name) {
  if (matchMedia("(max-width: 640px)").matches && !element("panel").classList.contains("folded")) toggleFold();
  await flyTo(map, place, loader);
  say(`Arrived at ${name}`);
}

/** @param {import("./terrain_search.js").Kind} kind */
async function find(kind) {
  const address = shown;
  const name = KINDS[kind].name.toLowerCase();
  say(`Looking for ${name}`);
  notices.clear("find");
  const chip = document.querySelector(`[data-kind="${kind}"]`);
  chip.setAttribute("aria-busy", "true");
  try {
    const place = await findPlace(address, kind);
    if (shown !== address) return;
    if (place) await fly(place, name);
    else notices.show("find", `This world seems to have no ${name}.`);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    notices.show("find", `No ${name} found: ${error.message}`, { label: "Try again", run: () => find(kind) });
  } finally {
    chip.removeAttribute("aria-busy");
  }
}

async function share() {
  rememberCamera();
  const link = location.href;
  try {
    await navigator.clipboard.writeText(link);
    say("Link copied");
    const label = element("share").lastChild;
    label.textContent = "Copied";
    setTimeout(() => (label.textContent = "Copy link"), 1800);
  } catch {
    // Pages that are not served securely have no clipboard.
    element("share-link").value = link;
    element("share-dialog").showModal();
    element("share-link").select();
  }
}

/** Tell apart what can go wrong with tiles, and keep data-map and data-pending on the page true. */
function watchTiles() {
  loader.addEventListener("change", () => {
    page.dataset.pending = String(loader.pending);
    if (loader.pending > 0) page.dataset.map = "busy";
  });
  loader.addEventListener("failure", (event) => {
    page.dataset.failed = String(Number(page.dataset.failed) + 1);
    notices.show("tiles", `A tile could not be made: ${event.detail.message}`, { label: "Try again", run: showTiles });
  });
  loader.addEventListener("overloaded", (event) => tellServerTrouble(true, event.detail.seconds));
  loader.addEventListener("unreachable", (event) => tellServerTrouble(false, event.detail.seconds));
  loader.addEventListener("answered", () => {
    seen = true;
    notices.clear("server");
  });
  map.on("movestart", () => (page.dataset.map = "busy"));
  map.on("idle", () => {
    if (loader.pending === 0 && opening === null) page.dataset.map = "idle";
  });
  // Failures of tiles are told above; anything else is a mistake worth seeing in the console.
  map.on("error", (event) => {
    if (!(event.error instanceof ServiceError)) console.error(event.error);
  });
  map.on("webglcontextlost", () => notices.show("gpu", "The graphics driver dropped the map; it comes back by itself when it can."));
  map.on("webglcontextrestored", () => notices.clear("gpu"));
}

/** @param {boolean} overloaded @param {number} seconds until the next attempt */
function tellServerTrouble(overloaded, seconds) {
  const again = `${Math.ceil(seconds)} s`;
  notices.show(
    "server",
    overloaded
      ? `The server has more to do than it can take. Asking again in ${again}.`
      : `The server does not answer. Trying again in ${again}; what is on screen stays.`,
  );
}

function watchReadout() {
  /** @type {{x: number, y: number} | null} */
  let pointer = null;
  const update = () => {
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
      const gsd = groundSamplingDistance(imageryZoom(map), place.latitude);
      element("gsd").textContent = formatGsd(gsd);
      element("place").textContent = formatPlace(place.latitude, wrapLongitude(place.longitude), groundSamplingDistance(zoom, 0));
    } else {
      element("gsd").textContent = "-";
      element("place").textContent = "off the globe";
    }
  };
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

function rememberCamera() {
  view = { ...view, ...cameraOf(map) };
  history.replaceState(null, "", formatView(view));
}

function watchHistory() {
  map.on("moveend", rememberCamera);
  addEventListener("popstate", () => {
    const before = view;
    ({ view, problems } = readView(location));
    if (problems.length > 0) notices.show("link", `Part of the link could not be used: ${problems.join("; ")}.`);
    if (view.projection !== before.projection) setProjection(map, view.projection);
    const another = view.world !== before.world || view.seed !== before.seed;
    jumpTo(map, view);
    if (another) openWorld();
    else showView(view, registered);
  });
}

/** Offer the registered worlds. */
async function meetServer() {
  try {
    offerRegistered(await listWorlds());
    showView(view, registered);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    // Where nobody answers, opening the world says so and goes on trying.
    if (!error.unreachable) notices.show("worlds", `The list of worlds cannot be read: ${error.message}`);
  }
}

/** @param {GPUInitializationError} error */
function showUnsupported(error) {
  page.dataset.map = "unsupported";
  element("overlay").hidden = true;
  element("map").hidden = true;
  element("unsupported").hidden = false;
  element("unsupported-reason").textContent = `This browser could not start it${error.statusMessage ? ` (${error.statusMessage})` : ""}.`;
  element("unsupported-preview").src = serviceUrl(previewPath(shown));
}

/** Tell screen readers. @param {string} text */
function say(text) {
  element("live").textContent = text;
}
