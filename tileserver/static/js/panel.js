// The panel: which world, which seed, how it is projected, and where to fly.

import { element } from "./dom.js";
import { EARTH_PLACES } from "./places.js";
import { bindPromptForm, readPromptForm, showPromptForm } from "./prompt_form.js";
import { KINDS } from "./terrain_search.js";
import { shorten } from "./text.js";
import { MAX_SEED, isNamedRoot, isSameWorld, parseSeed, randomSeed } from "./view_state.js";

// A registered world has its own seed, which cannot be changed.
let seedIsFixed = false;
/** Whether a prompt is being asked for while another world is still on screen. */
let asking = false;
/** The view that the panel showed last. @type {import("./view_state.js").View | null} */
let last = null;

/**
 * @typedef {object} PanelActions
 * @property {(world: string) => void} chooseWorld
 * @property {(fields: {prompt: string, negative: string, gsd: number, guidance: number, seed: string}) => void} choosePrompt
 * @property {(seed: string) => void} chooseSeed
 * @property {() => void} anotherSeed
 * @property {() => void} newPlanet
 * @property {(quality: import("./view_state.js").Quality) => void} chooseQuality
 * @property {(projection: "globe" | "flat") => void} chooseProjection
 * @property {(place: import("./places.js").Place) => void} visit
 * @property {(kind: import("./terrain_search.js").Kind) => void} find
 * @property {() => void} share
 */

/** @param {PanelActions} actions */
export function bindPanel(actions) {
  const submitPrompt = () => {
    const seed = readSeed();
    const fields = seed === null ? null : readPromptForm();
    if (fields) actions.choosePrompt({ ...fields, seed });
  };
  element("world-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (isPromptChosen()) submitPrompt();
  });
  bindPromptForm(submitPrompt);
  for (const input of document.querySelectorAll("input[name=world]")) {
    input.addEventListener("change", () => {
      // Without words there is no such world yet: the form asks for them, and the map stays as it is.
      asking = input.value === "prompt" && last?.world !== "prompt";
      updateWorldControls();
      if (!asking && last?.world !== input.value) actions.chooseWorld(input.value);
      if (asking) element("prompt").focus();
    });
  }
  element("seed").addEventListener("change", () => {
    const seed = readSeed();
    if (seed !== null && !asking) actions.chooseSeed(seed);
  });
  element("seed").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !asking) element("seed").dispatchEvent(new Event("change"));
  });
  element("dice").addEventListener("click", () => {
    if (asking) element("seed").value = randomSeed();
    else actions.anotherSeed();
  });
  element("lock").addEventListener("click", toggleLock);
  element("new-planet").addEventListener("click", actions.newPlanet);
  element("quality").addEventListener("change", (event) => actions.chooseQuality(event.target.value));
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
  const before = last;
  last = view;
  if (before === null || !isSameWorld(view, before)) asking = false;
  for (const input of document.querySelectorAll("input[name=world]")) input.checked = input.value === (asking ? "prompt" : view.world);
  for (const input of document.querySelectorAll("input[name=projection]")) input.checked = input.value === view.projection;
  // Its line is there before the server has said what it is.
  element("registered-about").hidden = isNamedRoot(view.world);
  element("registered-about").textContent = registered ? aboutRegistered(registered) : "";
  if (!asking) element("seed").value = registered?.seed ?? view.seed;
  // Another seed leaves alone what is being typed.
  if (view.world === "prompt" && (before === null || !isSameWorld({ ...view, seed: before.seed }, before))) showPromptForm(view);
  showSeedError(false);
  const root = registered?.root ?? view.world;
  element("summary").textContent = summaryOf(view, registered);
  // A world by prompt has neither places that one could know nor a globe to look for some.
  element("places").hidden = root === "prompt";
  element("place-list").hidden = root !== "earth";
  element("places-hint").textContent =
    root === "earth"
      ? "Real outlines, invented detail."
      : "Nobody has been here. Pick a kind of land and the map finds some by its colours.";
  element("attribution").textContent = ATTRIBUTIONS[root] ?? "";
  updateWorldControls();
}

/**
 * Offer the qualities that differ on this server; where all are alike there is nothing to choose.
 * @param {import("./view_state.js").Quality[] | null} offered null: the server has not said
 * @param {import("./view_state.js").Quality} chosen
 */
export function showQualities(offered, chosen) {
  if (offered === null) {
    element("quality").value = chosen;
    return;
  }
  for (const option of element("quality").options) option.hidden = !offered.includes(option.value) && option.value !== chosen;
  element("quality").value = chosen;
  element("quality-field").hidden = offered.length < 2 && (offered.includes(chosen) || offered.length === 0);
}

const ATTRIBUTIONS = {
  earth: "Root: NASA Blue Marble (public domain)",
  planet: "Root: a generated planet",
  prompt: "Root: generated from a prompt",
};

/**
 * @param {import("./view_state.js").View} view
 * @param {import("./service.js").WorldDescription | null} registered
 */
export function summaryOf(view, registered) {
  if (registered) return `World ${registered.name}`;
  if (view.world === "prompt") return `“${shorten(view.prompt, 60)}” · ${view.gsd} m/px · seed ${view.seed}`;
  return `${view.world === "earth" ? "Real Earth" : "Planet"} · seed ${view.seed}`;
}

/** What a registered world is, in words. @param {import("./service.js").WorldDescription} world */
function aboutRegistered({ root, prompt, gsd, edits }) {
  const count = edits?.length ?? 0;
  const edited = count === 0 ? "" : ` · ${count} ${count === 1 ? "edit" : "edits"}`;
  if (root === "prompt") return `“${prompt}” · ${gsd} m/px${edited}`;
  return `${root === "earth" ? "Real Earth" : "Planet"}${prompt ? ` · “${prompt}”` : ""}${edited}`;
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

export function unfold() {
  if (element("panel").classList.contains("folded")) toggleFold();
}

/** Leave the map free where the panel would cover it. */
export function makeRoom() {
  if (matchMedia("(max-width: 640px)").matches && !element("panel").classList.contains("folded")) toggleFold();
}

/** Ask for a world by prompt. */
export function askForPrompt() {
  unfold();
  const choice = document.querySelector("input[name=world][value=prompt]");
  if (!choice.checked) choice.click();
  element("prompt").focus();
}

/** Open a section of the panel and put the focus on a control in it. @param {string} section @param {string} control */
export function openSection(section, control) {
  unfold();
  element(section).open = true;
  element(control).focus();
}

export function openPlaces() {
  unfold();
  element("places").open = !element("places").open;
  if (element("places").open) element("places").querySelector("summary").focus();
}

export function focusSeed() {
  unfold();
  element("seed").focus();
  element("seed").select();
}

function isPromptChosen() {
  return document.querySelector("input[name=world]:checked")?.value === "prompt";
}

/** What is asked for follows from the kind of world that is chosen. */
function updateWorldControls() {
  element("prompt-fields").hidden = !isPromptChosen();
  element("show-prompt").hidden = !isPromptChosen();
  element("new-planet").hidden = isPromptChosen();
  seedIsFixed = !asking && last !== null && !isNamedRoot(last.world);
  updateSeedControls();
}

/** The seed that was typed; null where it is none, which is then said. */
function readSeed() {
  const seed = parseSeed(element("seed").value);
  showSeedError(seed === null);
  return seed;
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
