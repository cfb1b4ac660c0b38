// Brings the page together. Data flows one way: people change the view, the view decides which world is opened, and
// view and world decide what the map and the panels show.

import { watchActivity } from "./activity.js";
import { Ask } from "./ask.js";
import { Changes } from "./changes.js";
import { Comparison } from "./comparison.js";
import { element, say } from "./dom.js";
import { daysOf, linkFields } from "./edit_steps.js";
import { Editor } from "./editor.js";
import { GPUInitializationError, cameraOf, createMap, jumpTo, limitZoom, setProjection } from "./globe.js";
import { Imagery } from "./imagery.js";
import { bindKeys } from "./keyboard.js";
import { Notices } from "./notices.js";
import { OpenWorld } from "./open_world.js";
import { PageState } from "./page_state.js";
import {
  askForPrompt,
  bindPanel,
  focusSeed,
  isLocked,
  makeRoom,
  offerRegistered,
  openPlaces,
  openSection,
  showHelp,
  showQualities,
  showView,
  summaryOf,
  toggleFold,
  toggleLock,
  unfold,
} from "./panel.js";
import { watchReadout } from "./pointer_readout.js";
import { Segment } from "./segment.js";
import { ServiceError, listWorlds, previewPath, serviceUrl } from "./service.js";
import { share } from "./share.js";
import { TileLoader } from "./tile_loader.js";
import { makeTimeline } from "./timeline.js";
import { Travel } from "./travel.js";
import { Troubles } from "./troubles.js";
import { Undo } from "./undo.js";
import { ViewHistory } from "./view_history.js";
import { isNamedRoot, isSameWorld, randomSeed } from "./view_state.js";
import { bindWordSearch } from "./word_search.js";

const loader = new TileLoader();
const views = new ViewHistory();
const world = new OpenWorld(views.view);

if (new URLSearchParams(location.search).get("ui") === "0") document.documentElement.classList.add("bare");
const map = makeMap();
if (map) start(map);

function makeMap() {
  try {
    return createMap(element("map"), views.view, loader);
  } catch (error) {
    if (!(error instanceof GPUInitializationError)) throw error;
    showUnsupported(error);
    return null;
  }
}

/** @param {import("maplibre-gl").Map} map */
function start(map) {
  const change = (fields) => views.go(fields);
  const notices = new Notices(element("notices"));
  const imagery = new Imagery(map, loader);
  const state = new PageState(loader, () => world.isOpening);
  const troubles = new Troubles(notices, world, loader, showTiles);
  const travel = new Travel(map, loader, world, notices);
  const undo = new Undo(views);
  const comparison = new Comparison(map, loader, {
    choose: (compare) => change({ compare }),
    begin: () => state.begin(),
    settle: () => state.settle(),
    unsupported: () => {
      notices.show("swipe", "This browser cannot draw a second map beside the first.");
      change({ compare: null });
    },
  });
  const editor = new Editor(map, {
    open: (value, made) => views.go(linkFields(value, made), { edited: true }),
    visit: (ring, name) => travel.toArea(ring, name),
    makeRoom: () => {
      change({ compare: null });
      makeRoom();
    },
    drawn: unfold,
    say,
  });
  const timeline = makeTimeline(
    { box: element("timeline"), slider: element("day"), label: element("day-label") },
    (date) => change({ date }),
  );
  const wordSearch = bindWordSearch(map, {
    world: () => (world.isOpening ? null : { address: world.address, zooms: world.zooms }),
    visit: (place, name) => travel.to(place, name),
    say,
  });
  const changes = new Changes(map, {
    world: () => (world.isOpening ? null : world),
    visit: (ring, name) => travel.toArea(ring, name),
    say,
  });
  const segment = new Segment(map, {
    world: () => (world.isOpening ? null : world),
    visit: (ring, name) => travel.toArea(ring, name),
    say,
  });
  const ask = new Ask(map, changes, {
    visit: (ring, name) => travel.toArea(ring, name),
    choose: () => openSection("changes", "changes-model"),
    say,
  });
  const begun = views.view.zoom === null;

  bindControls();
  troubles.link(views.problems);
  troubles.watch(map);
  state.watch(() => [map, ...comparison.maps]);
  const shaping = () => !troubles.seen && (world.description?.root ?? views.view.world) === "planet";
  watchActivity(loader, element("busy"), element("busy-text"), () => map.getCenter().lat, shaping);
  watchReadout(map);
  views.camera = () => cameraOf(map);
  views.addEventListener("change", ({ detail }) => showChange(detail));
  map.on("moveend", () => views.rememberCamera());
  map.on("load", () => openWorld({ mayTravel: begun }));
  meetServer();

  /** Bring the page from what it showed before to what the view says. @param {import("./view_history.js").ViewChange} change */
  function showChange({ before, travel: mayTravel, moveCamera }) {
    const { view } = views;
    const another = !isSameWorld(view, before);
    if (moveCamera) {
      troubles.link(views.problems);
      // The camera of another world may lie where this one has no pixels.
      if (another) limitZoom(map, { least: 0 });
      jumpTo(map, view);
    }
    if (view.projection !== before.projection) {
      setProjection(map, view.projection);
      say(view.projection === "globe" ? "Globe" : "Flat map");
    }
    if (another) {
      openWorld({ mayTravel });
      return;
    }
    if (view.date !== before.date && !world.isOpening) {
      world.setDate(view.date);
      showTiles();
      say(view.date === null ? "No date" : `The world on ${view.date}`);
    }
    if (view.quality !== before.quality && !world.isOpening) {
      world.setQuality(view.quality);
      showTiles();
      say(`Detail: ${view.quality}`);
    }
    showPanels();
  }

  /** Put the world of the view on the map, once the server has described it. @param {{mayTravel?: boolean}} [how] */
  async function openWorld({ mayTravel = false } = {}) {
    state.begin();
    troubles.forgetTiles();
    wordSearch.forget();
    changes.forget();
    segment.forget();
    ask.forget();
    comparison.close();
    const opening = world.open(views.view);
    showPanels();
    let signal;
    try {
      signal = await opening;
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      notices.show("world", `World “${views.view.world}” cannot be opened: ${error.message}. This is the real Earth.`);
      views.correct({ world: "earth", date: null, compare: null });
      signal = world.assumeEarth(views.view);
    }
    if (signal === null) return;
    // The day may have changed while the server was asked.
    world.setDate(views.view.date);
    world.setQuality(views.view.quality);
    showTiles();
    showPanels();
    const summary = summaryOf(views.view, world.registered);
    document.title = `${summary} | earthgen`;
    say(summary);
    await travel.settle(mayTravel && !world.isOnSameGround, signal);
  }

  /** (Re)load the tiles of the world that is open. */
  function showTiles() {
    state.beginTiles();
    troubles.forgetTiles();
    imagery.show(world.address, world.zooms);
  }

  /** Show all that the panels and the second map say about view and world. */
  function showPanels() {
    const { view } = views;
    const days = daysOf(world.edits);
    showView(view, world.registered);
    showQualities(world.description?.qualities ?? [], view.quality);
    editor.show(world.description);
    timeline.show(days, view.date);
    undo.show(world);
    comparison.show(view, world, days);
    changes.show();
    segment.show();
  }

  /** Offer the registered worlds. */
  async function meetServer() {
    try {
      offerRegistered(await listWorlds());
      showView(views.view, world.registered);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      // Where nobody answers, opening the world says so and goes on trying.
      if (!error.unreachable) notices.show("worlds", `The list of worlds cannot be read: ${error.message}`);
    }
  }

  function bindControls() {
    const newPlanet = () => isLocked() || change({ world: "planet", seed: randomSeed() });
    const anotherSeed = () => isLocked() || !isNamedRoot(views.view.world) || change({ seed: randomSeed() });
    const shareView = () => {
      views.rememberCamera();
      share(location.href);
    };
    bindPanel({
      chooseWorld: (name) => change({ world: name }),
      choosePrompt: (fields) => change({ world: "prompt", ...fields }),
      chooseSeed: (seed) => change({ seed }),
      anotherSeed,
      newPlanet,
      chooseQuality: (quality) => change({ quality }),
      chooseProjection: (projection) => change({ projection }),
      visit: (place) => travel.to(place, place.name),
      find: (kind) => travel.find(kind),
      share: shareView,
    });
    element("empty-retry").addEventListener("click", () => openWorld());
    element("empty-earth").addEventListener("click", () => change({ world: "earth" }));
    bindKeys({
      m: () => map.getCanvas().focus(),
      0: () => travel.home(),
      w: askForPrompt,
      f: () => openSection("word-search", "word-query"),
      d: () => editor.begin(),
      u: () => undo.back(),
      y: () => undo.forth(),
      c: () => comparison.toggle(views.view),
      x: () => openSection("changes", "changes-model"),
      a: () => openSection("ask", "ask-question"),
      t: () => openSection("segment", "segment-phrase"),
      g: () => change({ projection: views.view.projection === "globe" ? "flat" : "globe" }),
      e: () => change({ world: "earth" }),
      n: newPlanet,
      r: anotherSeed,
      l: toggleLock,
      "/": focusSeed,
      p: openPlaces,
      s: shareView,
      h: toggleFold,
      "?": showHelp,
      "+": () => map.zoomIn(),
      "=": () => map.zoomIn(),
      "-": () => map.zoomOut(),
    });
  }
}

/** @param {GPUInitializationError} error */
function showUnsupported(error) {
  document.documentElement.dataset.map = "unsupported";
  element("overlay").hidden = true;
  element("map").hidden = true;
  element("unsupported").hidden = false;
  element("unsupported-reason").textContent = `This browser could not start it${error.statusMessage ? ` (${error.statusMessage})` : ""}.`;
  element("unsupported-preview").src = serviceUrl(previewPath(world.address));
}
