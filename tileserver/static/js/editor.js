// Edits of the world that is shown: their list, drawing an area for another one, and what should be there.

import { element } from "./dom.js";
import { Drawing, LEAST_CORNERS } from "./drawing.js";
import { valueOf } from "./edit_steps.js";
import { middleOfView, showOutlines } from "./globe.js";
import { ServiceError, registerWorld } from "./service.js";
import { readText, shorten } from "./text.js";
import { MAX_SEED, isDay, parseSeed, randomSeed } from "./view_state.js";

/** What each action is called, and what it takes besides an area and days. */
const ACTIONS = {
  prompt: { name: "From words", takes: ["prompt", "seed"] },
  reseed: { name: "Other detail", takes: ["seed"] },
  remove: { name: "Remove", takes: ["seed"] },
  snow: { name: "Snow", takes: [] },
  haze: { name: "Haze", takes: [] },
  burn: { name: "Burnt", takes: [] },
  flood: { name: "Flood", takes: [] },
  summer: { name: "Summer", takes: [] },
  autumn: { name: "Autumn", takes: [] },
};

/**
 * @typedef {object} EditorActions
 * @property {(value: import("./service.js").WorldValue, made: import("./service.js").WorldDescription) => void} open
 *   show a world that was made from the one on screen
 * @property {(ring: [number, number][], name: string) => void} visit
 * @property {() => void} makeRoom the map is about to be drawn on
 * @property {() => void} drawn the area is there and the form wants to be seen
 * @property {(text: string) => void} say to screen readers
 */

export class Editor {
  /** @param {import("maplibre-gl").Map} map @param {EditorActions} actions */
  constructor(map, actions) {
    this.map = map;
    this.actions = actions;
    this.drawing = new Drawing(map);
    /** @type {import("./service.js").WorldDescription | null} */
    this.description = null;
    this.busy = false;
    this.bind();
  }

  bind() {
    for (const [action, { name }] of Object.entries(ACTIONS)) element("edit-action").add(new Option(name, action));
    element("edit-action").addEventListener("change", () => this.showForm());
    element("draw").addEventListener("click", () => this.begin());
    element("draw-middle").addEventListener("click", () => this.open(() => this.drawing.take(middleOfView(this.map))));
    element("draw-finish").addEventListener("click", () => this.drawing.close());
    element("draw-undo").addEventListener("click", () => this.drawing.undo());
    element("draw-cancel").addEventListener("click", () => this.drawing.cancel());
    element("edit-discard").addEventListener("click", () => this.drawing.cancel());
    element("edit-dice").addEventListener("click", () => (element("edit-seed").value = randomSeed()));
    element("edit-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.apply();
    });
    element("edits").addEventListener("toggle", () => this.outline());
    this.drawing.addEventListener("change", () => this.showForm());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.isDrawing) this.drawing.cancel();
    });
  }

  /** @param {import("./service.js").WorldDescription | null} description of the world on screen; null: it is being opened */
  show(description) {
    this.description = description;
    const edits = description?.edits ?? [];
    element("edit-count").textContent = edits.length > 0 ? String(edits.length) : "";
    element("edit-list").replaceChildren(...edits.map((edit, index) => this.line(edit, index)));
    element("edits-hint").hidden = edits.length > 0;
    this.outline();
    this.showForm();
  }

  /** Begin to draw an area. */
  async begin() {
    this.actions.makeRoom();
    if (!(await this.open(() => this.drawing.begin()))) return;
    this.map.getCanvas().focus();
    this.actions.say("Draw an area: click its corners, then Finish or the first one again. Escape gives it up.");
  }

  /** Do something that takes the drawing library. @template T @param {() => Promise<T>} task @returns {Promise<T | undefined>} */
  async open(task) {
    try {
      return await task();
    } catch (error) {
      // The library is a file of the server like any other, and may be out of reach.
      if (!(error instanceof TypeError)) throw error;
      element("edit-error").textContent = "Drawing cannot begin: the server does not answer.";
      return undefined;
    }
  }

  /** Whether an area is on its way. */
  get isDrawing() {
    return this.drawing.state === "loading" || this.drawing.state === "drawing";
  }

  /** Make the world with the edit of the form on top. */
  async apply() {
    const edit = this.readForm();
    if (edit === null || this.description === null) return;
    const value = valueOf(this.description);
    const made = await this.make({ ...value, edits: [...value.edits, edit] }, "Edit applied");
    // The next edit is another one; one that was refused is mended instead.
    if (made) for (const id of ["edit-prompt", "edit-seed", "edit-from", "edit-until"]) element(id).value = "";
  }

  /** Make the world without one of its edits. @param {number} index */
  async remove(index) {
    const value = valueOf(this.description);
    await this.make({ ...value, edits: value.edits.filter((_, place) => place !== index) }, "Edit removed");
  }

  /**
   * @param {import("./service.js").WorldValue} value
   * @param {string} done what to tell when it is
   * @returns {Promise<boolean>} whether the world was made and is shown
   */
  async make(value, done) {
    if (this.busy) return false;
    const from = this.description;
    this.setBusy(true);
    element("edit-error").textContent = "";
    try {
      const made = await registerWorld(value);
      // Meanwhile the user may have gone elsewhere.
      if (this.description !== from) return false;
      this.drawing.cancel();
      this.actions.open(value, made);
      this.actions.say(done);
      return true;
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      element("edit-error").textContent = `This edit cannot be made: ${error.message}`;
      return false;
    } finally {
      this.setBusy(false);
    }
  }

  /** @param {boolean} busy */
  setBusy(busy) {
    this.busy = busy;
    element("edit-apply").disabled = busy;
    for (const button of document.querySelectorAll(".edit-remove")) button.disabled = busy;
  }

  /** @returns {import("./service.js").Edit | null} null where something is wrong, which the form then says */
  readForm() {
    const action = element("edit-action").value;
    const { takes } = ACTIONS[action];
    const prompt = readText(element("edit-prompt").value);
    const typedSeed = element("edit-seed").value.trim();
    const seed = typedSeed === "" ? "" : parseSeed(typedSeed);
    const [from, until] = [element("edit-from").value, element("edit-until").value];
    const problems = {
      "edit-prompt":
        takes.includes("prompt") && (prompt.text === "" ? "Say what should be there" : prompt.problem && `The text ${prompt.problem}`),
      "edit-seed":
        takes.includes("seed") &&
        ((seed === null && `A seed is a whole number from 0 to ${MAX_SEED}`) ||
          (action === "reseed" && seed === "" && "Other detail needs a seed")),
      "edit-from": (badInput("edit-from") || (from !== "" && !isDay(from))) && "That is no day of the calendar",
      "edit-until":
        ((badInput("edit-until") || (until !== "" && !isDay(until))) && "That is no day of the calendar") ||
        (from !== "" && until !== "" && from >= until && "Until must come after From"),
    };
    for (const [id, problem] of Object.entries(problems)) element(id).setAttribute("aria-invalid", String(Boolean(problem)));
    const [wrong, sentence] = Object.entries(problems).find(([, problem]) => problem) ?? [null, ""];
    element("edit-error").textContent = sentence;
    if (wrong !== null) {
      element(wrong).focus();
      return null;
    }
    /** @type {import("./service.js").Edit} */
    const edit = { polygon: this.drawing.ring, valid_from: from || null, valid_until: until || null };
    if (action !== "prompt") edit.action = action;
    if (takes.includes("prompt")) edit.prompt = prompt.text;
    if (takes.includes("seed") && seed !== "") edit.seed = seed;
    return edit;
  }

  /** Show what belongs to the state of the drawing and to the action. */
  showForm() {
    const { state } = this.drawing;
    const appeared = state === "drawn" && element("edit-form").hidden;
    element("draw-bar").hidden = !this.isDrawing;
    this.showCorners();
    element("edit-form").hidden = state !== "drawn";
    element("draw-buttons").hidden = state !== "none";
    for (const id of ["draw", "draw-middle"]) element(id).disabled = this.description === null;
    const { takes } = ACTIONS[element("edit-action").value];
    element("edit-prompt-field").hidden = !takes.includes("prompt");
    element("edit-seed-field").hidden = !takes.includes("seed");
    if (state !== "drawn") element("edit-error").textContent = "";
    if (appeared) {
      element("edits").open = true;
      this.actions.say("Area drawn. Say what should be there.");
      this.actions.drawn();
      element("edit-action").focus();
      element("edit-form").scrollIntoView({ block: "nearest" });
    }
  }

  /** Say how far the drawing is: on a slow machine one cannot see at once whether a tap was taken. */
  showCorners() {
    const { length } = this.drawing.corners;
    element("draw-hint").textContent =
      this.drawing.state === "loading" ? "Fetching the drawing tools…" : cornersSentence(length);
    element("draw-finish").disabled = length < LEAST_CORNERS;
    element("draw-undo").disabled = length === 0;
  }

  outline() {
    const rings = element("edits").open ? (this.description?.edits ?? []).map((edit) => edit.polygon) : [];
    if (this.map.getStyle()) showOutlines(this.map, rings);
  }

  /** @param {import("./service.js").Edit} edit @param {number} index */
  line(edit, index) {
    const name = nameOf(edit);
    const visit = document.createElement("button");
    visit.type = "button";
    visit.className = "edit-visit";
    visit.title = "Fly there";
    const title = document.createElement("span");
    title.textContent = name;
    visit.append(title);
    if (edit.valid_from || edit.valid_until) {
      const days = document.createElement("small");
      days.textContent = `${edit.valid_from ?? "…"} – ${edit.valid_until ?? "…"}`;
      visit.append(days);
    }
    visit.addEventListener("click", () => this.actions.visit(edit.polygon, name));
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "edit-remove icon-button";
    remove.setAttribute("aria-label", `Remove the edit ${shorten(name, 60)}`);
    remove.title = "Remove";
    remove.textContent = "×";
    remove.disabled = this.busy;
    remove.addEventListener("click", () => this.remove(index));
    const item = document.createElement("li");
    item.append(visit, remove);
    return item;
  }
}

/** @param {number} count of corners that have been set */
function cornersSentence(count) {
  if (count === 0) return "Set the corners of the area";
  const corners = `${count} ${count === 1 ? "corner" : "corners"}`;
  return count < LEAST_CORNERS ? `${corners} set; ${LEAST_CORNERS} make an area` : `${corners} set`;
}

/** @param {import("./service.js").Edit} edit */
function nameOf({ action, prompt, seed }) {
  if (prompt) return prompt;
  const name = ACTIONS[action]?.name ?? action;
  return action === "reseed" ? `${name} (seed ${seed})` : name;
}

/** Whether a date was typed that the browser cannot read; its value is empty then. @param {string} id */
function badInput(id) {
  return element(id).validity.badInput;
}
