// Brings the page together: the link decides the view, the view decides the map and the panel.

import { watchActivity } from "./activity.js";
import { EditSteps, daysOf, withoutEdits } from "./edit_steps.js";
import { Editor } from "./editor.js";
import {
  GPUInitializationError,
  cameraOf,
  createMap,
  flyTo,
  flyToRing,
  groundSamplingDistance,
  imageryZoom,
  jumpTo,
  limitZoom,
  placeAt,
  setProjection,
  showWorld,
  tileZoom,
} from "./globe.js";
import { bindKeys } from "./keyboard.js";
import { Notices } from "./notices.js";
import {
  askForPrompt,
  bindPanel,
  element,
  focusSeed,
  isLocked,
  makeRoom,
  offerRegistered,
  openPlaces,
  openSection,
  showHelp,
  showView,
  summaryOf,
  toggleFold,
  toggleLock,
  unfold,
} from "./panel.js";
import { formatGsd, formatPlace, scaleBar } from "./readout.js";
import { ServiceError, beginningOf, describeWorld, listWorlds, previewPath, serviceUrl, zoomsOf } from "./service.js";
import { Swipe } from "./swipe.js";
import { KINDS, findPlace } from "./terrain_search.js";
import { shorten } from "./text.js";
import { TileLoader } from "./tile_loader.js";
import { makeTimeline } from "./timeline.js";
import { DEFAULT_VIEW, formatView, isNamedRoot, isSameWorld, randomSeed, readView, worldFields, wrapLongitude } from "./view_state.js";
import { bindWordSearch } from "./word_search.js";

const SCALE_BAR_PIXELS = 88;
const SPOKEN_CHARACTERS = 60;

const page = document.documentElement;
const notices = new Notices(element("notices"));
const loader = new TileLoader();
let { view, problems } = readView(location);
/** Whether the link left it to the page where to begin. */
const isBeginning = view.zoom === null;
/** What the server says of the world on screen; null: it is being opened. @type {import("./service.js").WorldDescription | null} */
let description = null;
/** The same where it is a registered world. @type {import("./service.js").WorldDescription | null} */
let registered = null;
/** The world whose tiles are on the map. @type {import("./service.js").WorldAddress} */
let shown = addressOf(view, null);
/** Where that world is looked at from: a place, or null for a whole globe. */
let home = null;
/** Whether a tile of that world has come. */
let seen = false;
/** A world that is being opened. @type {AbortController | null} */
let opening = null;
/** @type {import("maplibre-gl").Map} */
let map;
/** @type {Swipe} */
let swipe;
/** @type {Editor} */
let editor;
/** @type {ReturnType<typeof makeTimeline>} */
let timeline;
/** @type {ReturnType<typeof bindWordSearch>} */
let wordSearch;
const steps = new EditSteps();
/** What the swipe shows on its left. */
let compared = "";
/** Stands in where the server describes nothing. */
const NO_DESCRIPTION = { id: "", name: "earth", root: "earth", seed: "0", edits: [] };

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
    choosePrompt,
    chooseSeed: (seed) => changeView({ seed }),
    anotherSeed,
    newPlanet,
    chooseProjection: (projection) => changeView({ projection }),
    visit: (place) => fly(place, place.name),
    find,
    share,
  });
  swipe = new Swipe(map, loader, { divider: element("swipe"), before: element("swipe-before"), after: element("swipe-after") });
  editor = new Editor(map, {
    open: openEdited,
    visit: (ring, name) => flyToArea(ring, shorten(name, SPOKEN_CHARACTERS)),
    makeRoom: () => {
      changeView({ compare: null });
      makeRoom();
    },
    drawn: unfold,
    say,
  });
  timeline = makeTimeline({ box: element("timeline"), slider: element("day"), label: element("day-label") }, (date) => changeView({ date }));
  wordSearch = bindWordSearch(map, {
    world: () => (description ? { address: shown, zooms: zoomsOf(description) } : null),
    visit: fly,
    say,
  });
  element("compare").addEventListener("change", (event) => changeView({ compare: event.target.value || null }));
  element("undo").addEventListener("click", () => step(steps.past));
  element("redo").addEventListener("click", () => step(steps.future));
  element("empty-retry").addEventListener("click", () => openWorld());
  element("empty-earth").addEventListener("click", () => changeView({ world: "earth" }));
  bindKeys({
    m: () => map.getCanvas().focus(),
    0: goHome,
    w: askForPrompt,
    f: () => openSection("word-search", "word-query"),
    d: () => editor.begin(),
    u: () => step(steps.past),
    y: () => step(steps.future),
    c: toggleCompare,
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
  const shaping = () => !seen && (description?.root ?? view.world) === "planet";
  watchActivity(loader, element("busy"), element("busy-text"), () => map.getCenter().lat, shaping);
  watchReadout();
  watchHistory();
  map.on("load", () => openWorld({ travel: isBeginning }));
  meetServer();
}

/**
 * Show something else, as one step of the browser's history.
 * @param {Partial<import("./view_state.js").View>} change
 * @param {{edited?: boolean}} [how] whether it is the world on screen with other edits
 */
function changeView(change, { edited = false } = {}) {
  const before = { ...view, ...cameraOf(map) };
  const after = { ...before, ...change };
  const another = !isSameWorld(before, after);
  // Days and comparisons belong to the edits of a world.
  if (another && !edited && !("date" in change)) Object.assign(after, { date: null, compare: null });
  if (formatView(after) === formatView(before)) return;
  view = after;
  history.pushState(null, "", formatView(view));
  if (another) steps.go(worldFields(before), worldFields(after), edited);
  showChange(before, { travel: true });
}

/**
 * Bring the page from what it showed before to what the view says.
 * @param {import("./view_state.js").View} before
 * @param {{travel: boolean}} how whether the camera may go where another world begins
 */
function showChange(before, { travel }) {
  if (view.projection !== before.projection) {
    setProjection(map, view.projection);
    swipe.setProjection(view.projection);
    say(view.projection === "globe" ? "Globe" : "Flat map");
  }
  if (!isSameWorld(view, before)) {
    openWorld({ travel });
    return;
  }
  if (view.date !== before.date && description) {
    shown = { ...shown, date: view.date };
    showTiles();
    say(view.date === null ? "No date" : `The world on ${view.date}`);
  }
  showPanels();
}

/** Show all that the panel and the map say about the view, apart from its imagery. */
function showPanels() {
  showView(view, registered);
  editor.show(description);
  const days = daysOf(description?.edits ?? []);
  timeline.show(days, view.date);
  showEditTools(days);
  showComparison();
}

/** Put the world of the view on the map, once the server has described it. @param {{travel?: boolean}} [how] */
async function openWorld({ travel = false } = {}) {
  opening?.abort();
  const { signal } = (opening = new AbortController());
  const last = description;
  page.dataset.map = "busy";
  notices.clear("tiles");
  element("empty").hidden = true;
  wordSearch.forget();
  description = registered = null;
  swipe.close();
  showPanels();
  let address = addressOf(view, null);
  let found;
  let beginning = null;
  try {
    found = await describeUntilAnswered(address, signal);
    if (found.root === "prompt") beginning = await beginningOf(address, signal);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ServiceError)) throw error;
    notices.show("world", `World “${view.world}” cannot be opened: ${error.message}. This is the real Earth.`);
    view = { ...view, world: "earth", date: null, compare: null };
    history.replaceState(null, "", formatView(view));
    address = addressOf(view, null);
    found = { ...NO_DESCRIPTION, seed: view.seed };
  }
  if (signal.aborted) return;
  opening = null;
  description = found;
  registered = isNamedRoot(view.world) ? null : description;
  shown = { ...address, version: description.version ?? null };
  home = beginning;
  showTiles();
  showPanels();
  document.title = `${summaryOf(view, registered)} | earthgen`;
  say(summaryOf(view, registered));
  await settleCamera(travel && !isSameGround(last, description), signal);
}

/**
 * Keep the camera where the world is, and bring it there where that is somewhere else.
 * @param {boolean} travel
 * @param {AbortSignal} signal aborted when yet another world is opened
 */
async function settleCamera(travel, signal) {
  const zooms = zoomsOf(description);
  if (travel) {
    limitZoom(map, { ...zooms, least: 0 });
    await goHome();
  }
  if (!signal.aborted) limitZoom(map, zooms);
}

/**
 * Whether two worlds lie on the same ground, so that the camera may stay.
 * @param {import("./service.js").WorldDescription | null} one null: nothing was on screen
 * @param {import("./service.js").WorldDescription} other
 */
function isSameGround(one, other) {
  const ground = ({ root, prompt, gsd }) => (root === "prompt" ? `${gsd} ${prompt}` : "globe");
  return one === null ? !isBeginning || other.root !== "prompt" : ground(one) === ground(other);
}

/** How the service addresses the world of a view. @param {import("./view_state.js").View} view @param {string | null} version */
function addressOf({ world, seed, prompt, negative, gsd, guidance, date }, version) {
  const named = { world, seed: isNamedRoot(world) ? seed : null, date, version };
  return world === "prompt" ? { ...named, prompt, negative, gsd, guidance } : named;
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
  element("empty").hidden = true;
  showWorld(map, shown, zoomsOf(description), loader);
}

/** @param {{prompt: string, negative: string, gsd: number, guidance: number, seed: string}} fields */
function choosePrompt(fields) {
  changeView({ world: "prompt", ...fields });
}

/**
 * Show a world that was made from the one on screen.
 * @param {import("./service.js").WorldValue} value
 * @param {import("./service.js").WorldDescription} made
 */
function openEdited(value, made) {
  const { root, seed, edits, prompt, negative, guidance, gsd } = value;
  const plain = edits.length === 0 && (root === "prompt" || !(prompt || negative || guidance > 1));
  // Without edits the page's own address says it all, and reads better than an id.
  const fields = { world: root, seed };
  if (root === "prompt") Object.assign(fields, { prompt, gsd, negative: negative ?? "", guidance: guidance ?? 1 });
  changeView(plain ? fields : { world: made.name }, { edited: true });
}

/** Go back or forth to the last one of some worlds. @param {import("./view_state.js").WorldFields[]} worlds */
function step(worlds) {
  const world = worlds.at(-1);
  if (!world) return;
  const word = worlds === steps.past ? "Undone" : "Redone";
  changeView({ date: view.date, ...(isNamedRoot(world.world) ? world : { world: world.world }) });
  say(word);
}

/** @param {string[]} days on which the world changes */
function showEditTools(days) {
  const edits = description?.edits?.length ?? 0;
  element("edit-tools").hidden = edits + steps.past.length + steps.future.length === 0;
  element("undo").disabled = steps.past.length === 0;
  element("redo").disabled = steps.future.length === 0;
  element("compare-field").hidden = edits === 0;
  const own = view.compare !== null && view.compare !== "original" && !days.includes(view.compare) ? [view.compare] : [];
  element("compare").replaceChildren(
    new Option("nothing", ""),
    new Option("no edits", "original"),
    ...[...days, ...own].sort().map((day) => new Option(day, day)),
  );
  element("compare").value = view.compare ?? "";
}

/** Show beside the world what the view compares it with. */
function showComparison() {
  if (view.compare === null || !description?.edits?.length) {
    swipe.close();
    settle();
    return;
  }
  const { compare } = view;
  const other = compare === "original" ? { ...withoutEdits(description), version: shown.version } : { ...shown, date: compare };
  swipe.label(compare === "original" ? "Without edits" : compare, view.date ?? "With edits");
  const key = JSON.stringify(other);
  if (swipe.isOpen && key === compared) return;
  compared = key;
  page.dataset.map = "busy";
  swipe.show(other, zoomsOf(description), view.projection, settle).catch((error) => {
    if (!(error instanceof GPUInitializationError)) throw error;
    notices.show("swipe", "This browser cannot draw a second map beside the first.");
    changeView({ compare: null });
  });
}

function toggleCompare() {
  if (description?.edits?.length) changeView({ compare: view.compare === null ? "original" : null });
}

function goHome() {
  return home
    ? fly(home, "the world’s beginning")
    : fly({ ...DEFAULT_VIEW, longitude: map.getCenter().lng, zoom: null }, "the whole world");
}

/** @param {[number, number][]} ring @param {string} name */
async function flyToArea(ring, name) {
  makeRoom();
  await flyToRing(map, ring, loader);
  say(`Arrived at ${name}`);
}

function newPlanet() {
  if (!isLocked()) changeView({ world: "planet", seed: randomSeed() });
}

function anotherSeed() {
  if (!isLocked() && isNamedRoot(view.world)) changeView({ seed: randomSeed() });
}

/** @param {{longitude: number, latitude: number, zoom: number | null}} place @param {string} name */
async function fly(place, name) {
  makeRoom();
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
    if (description?.root === "prompt" && !seen) {
      // Nothing stands in for the root of such a world: say it where its picture would be.
      element("empty-reason").textContent = `${event.detail.message}.`;
      element("empty").hidden = false;
      return;
    }
    notices.show("tiles", `A tile could not be made: ${event.detail.message}`, { label: "Try again", run: showTiles });
  });
  loader.addEventListener("overloaded", (event) => tellServerTrouble(true, event.detail.seconds));
  loader.addEventListener("unreachable", (event) => tellServerTrouble(false, event.detail.seconds));
  loader.addEventListener("answered", () => {
    seen = true;
    element("empty").hidden = true;
    notices.clear("server");
  });
  map.on("movestart", () => (page.dataset.map = "busy"));
  map.on("idle", settle);
  // Failures of tiles are told above; anything else is a mistake worth seeing in the console.
  map.on("error", (event) => {
    if (!(event.error instanceof ServiceError)) console.error(event.error);
  });
  map.on("webglcontextlost", () => notices.show("gpu", "The graphics driver dropped the map; it comes back by itself when it can."));
  map.on("webglcontextrestored", () => notices.clear("gpu"));
}

/** Say that the page is idle, if it is: both maps of it. */
function settle() {
  const maps = swipe.follower ? [map, swipe.follower] : [map];
  const still = maps.every((one) => one.loaded() && !one.isMoving());
  if (still && loader.pending === 0 && opening === null) page.dataset.map = "idle";
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
    if (!isSameWorld(view, before)) {
      steps.go(worldFields(before), worldFields(view), false);
      // The camera of another world may lie where this one has no pixels.
      limitZoom(map, { least: 0 });
    }
    jumpTo(map, view);
    showChange(before, { travel: view.zoom === null });
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
