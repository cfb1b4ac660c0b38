// The panel: which world, which seed, how it is projected, and where to fly.

import { EARTH_PLACES } from "./places.js";
import { KINDS } from "./terrain_search.js";
import { MAX_SEED, isNamedRoot, parseSeed } from "./view_state.js";

// A registered world has its own seed, which cannot be changed.
let seedIsFixed = false;

/** @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);

/**
 * @typedef {object} PanelActions
 * @property {(world: string) => void} chooseWorld
 * @property {(seed: string) => void} chooseSeed
 * @property {() => void} anotherSeed
 * @property {() => void} newPlanet
 * @property {(projection: "globe" | "flat") => void} chooseProjection
 * @property {(place: import("./places.js").Place) => void} visit
 * @property {(kind: import("./terrain_search.js").Kind) => void} find
 * @property {() => void} share
 */

/** @param {PanelActions} actions */
export function bindPanel(actions) {
  element("world-form").addEventListener("submit", (event) => event.preventDefault());
  for (const input of document.querySelectorAll("input[name=world]")) {
    input.addEventListener("change", () => actions.chooseWorld(input.value));
  }
  element("registered").addEventListener("change", (event) => {
    if (event.target.value) actions.chooseWorld(event.target.value);
  });
  element("seed").addEventListener("change", () => {
    const seed = parseSeed(element("seed").value);
    showSeedError(seed === null);
    if (seed !== null) actions.chooseSeed(seed);
  });
  element("seed").addEventListener("keydown", (event) => {
    if (event.key === "Enter") element("seed").dispatchEvent(new Event("change"));
  });
  element("dice").addEventListener("click", actions.anotherSeed);
  element("lock").addEventListener("click", toggleLock);
  element("new-planet").addEventListener("click", actions.newPlanet);
  for (const input of document.querySelectorAll("input[name=projection]")) {
    input.addEventListener("change", () => actions.chooseProjection(input.value));
  }
  element("share").addEventListener("click", actions.share);
  element("help").addEventListener("click", showHelp);
  element("fold").addEventListener("click", toggleFold);

  for (const place of EARTH_PLACES) {
    const button = document.createElement("button");
    button.type = "button";
    const name = document.createElement("span");
    name.textContent = place.name;
    const kind = document.createElement("small");
    kind.textContent = place.kind;
    button.append(name, kind);
    button.addEventListener("click", () => actions.visit(place));
    const item = document.createElement("li");
    item.append(button);
    element("place-list").append(item);
  }
  for (const [kind, { name }] of Object.entries(KINDS)) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "chip";
    button.dataset.kind = kind;
    button.textContent = name;
    button.addEventListener("click", () => actions.find(kind));
    element("kinds").append(button);
  }
  // On a phone the panel starts folded: the globe comes first.
  if (matchMedia("(max-width: 640px), (max-height: 440px)").matches) toggleFold();
}

/**
 * @param {import("./view_state.js").View} view
 * @param {import("./service.js").WorldDescription | null} registered description of a registered world
 */
export function showView(view, registered) {
  for (const input of document.querySelectorAll("input[name=world]")) input.checked = input.value === view.world;
  for (const input of document.querySelectorAll("input[name=projection]")) input.checked = input.value === view.projection;
  element("registered").value = isNamedRoot(view.world) ? "" : view.world;
  element("seed").value = registered?.seed ?? view.seed;
  showSeedError(false);
  const root = registered?.root ?? view.world;
  element("summary").textContent = summaryOf(view, registered);
  element("place-list").hidden = root !== "earth";
  element("places-hint").textContent =
    root === "earth"
      ? "Real outlines, invented detail."
      : "Nobody has been here. Pick a kind of land and the map finds some by its colours.";
  element("attribution").textContent = root === "earth" ? "Root: NASA Blue Marble (public domain)" : "Root: a generated planet";
  seedIsFixed = !isNamedRoot(view.world);
  updateSeedControls();
}

/**
 * @param {import("./view_state.js").View} view
 * @param {import("./service.js").WorldDescription | null} registered
 */
export function summaryOf(view, registered) {
  if (registered) return `World ${registered.name}`;
  return `${view.world === "earth" ? "Real Earth" : "Planet"} · seed ${view.seed}`;
}

/** Offer the registered worlds, where there are any. @param {import("./service.js").WorldDescription[]} worlds */
export function offerRegistered(worlds) {
  const registered = worlds.filter((world) => !isNamedRoot(world.name));
  element("registered-field").hidden = registered.length === 0;
  const options = registered.map((world) => new Option(`${world.name} (${world.root}, seed ${world.seed})`, world.name));
  element("registered").replaceChildren(new Option("none chosen", ""), ...options);
}

export function isLocked() {
  return element("lock").getAttribute("aria-pressed") === "true";
}

export function toggleLock() {
  const locked = !isLocked();
  element("lock").setAttribute("aria-pressed", String(locked));
  element("lock").querySelector("use").setAttribute("href", locked ? "#icon-locked" : "#icon-unlocked");
  updateSeedControls();
}

export function toggleFold() {
  const folded = element("panel").classList.toggle("folded");
  element("fold").setAttribute("aria-expanded", String(!folded));
  element("panel-body").hidden = folded;
}

export function showHelp() {
  if (!element("help-dialog").open) element("help-dialog").showModal();
}

export function openPlaces() {
  if (element("panel").classList.contains("folded")) toggleFold();
  element("places").open = !element("places").open;
  if (element("places").open) element("places").querySelector("summary").focus();
}

export function focusSeed() {
  if (element("panel").classList.contains("folded")) toggleFold();
  element("seed").focus();
  element("seed").select();
}

function updateSeedControls() {
  element("lock").disabled = seedIsFixed;
  element("seed").disabled = seedIsFixed || isLocked();
  element("dice").disabled = seedIsFixed || isLocked();
  element("new-planet").disabled = isLocked();
  element("new-planet").title = isLocked() ? "The seed is locked" : "A planet nobody has seen (N)";
}

/** @param {boolean} wrong */
function showSeedError(wrong) {
  element("seed").setAttribute("aria-invalid", String(wrong));
  element("seed-error").textContent = wrong ? `A seed is a whole number from 0 to ${MAX_SEED}` : "";
}
