// Changes: what differs between two days of a world, or between it and another one, in what is on screen.

import { areaLine, countOfAreas, save, shareOf } from "./area_list.js";
import { Asking } from "./asking.js";
import { zoomFor } from "./change_area.js";
import { showChanges } from "./change_layer.js";
import { askForChanges, listModels } from "./change_service.js";
import { element } from "./dom.js";
import { daysOf, withoutEdits } from "./edit_steps.js";
import { imageryZoom, viewBounds } from "./globe.js";
import { formatArea, formatGsd } from "./readout.js";
import { ServiceError, listWorlds } from "./service.js";
import { isDay, isNamedRoot, parseSeed, MAX_SEED } from "./view_state.js";

const MOST_LINES = 8;
const ORIGINAL = "original";
const SAME = "same";
const TOO_MUCH = "Too much is on screen; zoom in";
const WORDS = { doing: "Comparing", cancelled: "Comparison cancelled", failed: "Changes cannot be found" };

/**
 * @typedef {object} ChangesActions
 * @property {() => {description: import("./service.js").WorldDescription, address: import("./service.js").WorldAddress,
 *   zooms: import("./service.js").Zooms} | null} world that is shown; null: it is being opened
 * @property {(ring: [number, number][], name: string) => void} visit
 * @property {(text: string) => void} say to screen readers
 */

export class Changes {
  /** @param {import("maplibre-gl").Map} map @param {ChangesActions} actions */
  constructor(map, actions) {
    this.map = map;
    this.actions = actions;
    /** What the server can do; null: it has not been asked. @type {Awaited<ReturnType<typeof listModels>> | null} */
    this.offer = null;
    this.asking = new Asking("changes", WORDS, "changes-run", () => this.model !== null && actions.world() !== null);
    /** What was found last: the question, the answer, and the answer's bytes. */
    this.found = null;
    this.shownWorld = "";
    this.bind();
  }

  bind() {
    element("changes").addEventListener("toggle", () => {
      if (element("changes").open) this.meetServer();
    });
    for (const input of document.querySelectorAll("input[name=changes-between]")) {
      input.addEventListener("change", () => this.showFields());
    }
    for (const id of ["changes-world", "changes-model"]) element(id).addEventListener("change", () => this.showFields());
    element("changes-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.find();
    });
    element("changes-overlay").addEventListener("change", () => this.draw());
    element("changes-geojson").addEventListener("click", () => this.found && save(this.found.blob, "changes.geojson"));
    element("changes-geotiff").addEventListener("click", () => this.saveGeotiff());
    element("changes-clear").addEventListener("click", () => {
      this.forget();
      this.actions.say("Changes removed from the map");
      element("changes-run").focus();
    });
  }

  /** Another world is being opened: what was found in the last one is not here. */
  forget() {
    this.asking.stop();
    this.asking.fail("");
    this.found = null;
    this.showFound();
  }

  /** Offer what the world on screen can be compared with. */
  show() {
    const world = this.actions.world();
    this.asking.show();
    if (world === null) return;
    const { description, address } = world;
    const key = JSON.stringify([address.world, address.seed, description.id]);
    if (key === this.shownWorld) return;
    this.shownWorld = key;
    const days = daysOf(description.edits ?? []);
    const [before = "", after = ""] = days;
    element("changes-before").value = before;
    element("changes-after").value = after;
    const between = days.length > 0 ? "days" : "worlds";
    for (const input of document.querySelectorAll("input[name=changes-between]")) input.checked = input.value === between;
    this.showWorlds();
    this.showFields();
  }

  /** Learn what the server has, when the section is first looked at. */
  async meetServer() {
    if (this.offer !== null) return;
    try {
      const [offer, worlds] = await Promise.all([listModels(), listWorlds()]);
      // There are models for other tasks too.
      this.offer = { ...offer, models: offer.models.filter(({ task }) => task.includes("change detection")) };
      this.worlds = worlds.filter(({ name }) => !isNamedRoot(name));
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.asking.fail(`The models cannot be read: ${error.message}`);
      return;
    }
    this.asking.fail("");
    const options = this.offer.models.map(({ name, title, available }) => {
      const option = new Option(available ? title : `${title} (no weights here)`, name);
      option.disabled = !available;
      return option;
    });
    element("changes-model").replaceChildren(...options);
    const first = this.offer.models.find(({ available }) => available);
    if (first) element("changes-model").value = first.name;
    else this.asking.fail("This server has no weights of a model that finds changes.");
    this.showWorlds();
    this.showFields();
    this.show();
  }

  /** The model that is chosen; null where there is none. */
  get model() {
    const name = element("changes-model").value;
    return this.offer?.models.find((model) => model.name === name && model.available) ?? null;
  }

  get between() {
    return document.querySelector("input[name=changes-between]:checked")?.value ?? "days";
  }

  showWorlds() {
    const world = this.actions.world();
    if (world === null) return;
    const { description, address } = world;
    const options = [];
    if (description.edits?.length > 0) options.push(new Option("This world without its edits", ORIGINAL));
    if (isNamedRoot(address.world)) options.push(new Option("This world with another seed", SAME));
    for (const [name, title] of [["earth", "Real Earth"], ["planet", "Planet"]]) {
      if (name !== address.world) options.push(new Option(title, name));
    }
    for (const { name, root } of this.worlds ?? []) {
      if (name !== address.world) options.push(new Option(`${name} (${root})`, name));
    }
    element("changes-world").replaceChildren(...options);
  }

  /** Show what has to be filled in. */
  showFields() {
    const other = element("changes-world").value;
    element("changes-days").hidden = this.between !== "days";
    element("changes-worlds").hidden = this.between !== "worlds";
    element("changes-seed-field").hidden = !(other === SAME || isNamedRoot(other));
    const { model } = this;
    element("changes-classes-field").hidden = !model?.any_classes;
    element("changes-classes").placeholder = model?.classes.join(", ") ?? "";
  }

  /** Compare. */
  async find() {
    const question = this.readForm();
    if (question === null) return;
    this.found = null;
    this.showFound();
    await this.asking.ask(
      async (signal) => {
        const blob = await askForChanges(question, "geojson", signal);
        return { question, blob, changes: JSON.parse(await blob.text()) };
      },
      (found) => {
        this.found = found;
        this.showFound();
        this.actions.say(element("changes-summary").textContent);
      },
    );
  }

  /** @returns {import("./change_service.js").ChangeQuestion | null} null where something is wrong, which is then said */
  readForm() {
    const { model } = this;
    if (model === null) return null;
    const classes = model.any_classes ? namesIn(element("changes-classes").value) : [];
    const read = this.readPictures(classes);
    if (read === null) return null;
    const problems = {
      ...read.problems,
      "changes-classes":
        (classes.length > this.offer.max_classes && `At most ${this.offer.max_classes} classes can be looked for`) ||
        (new Set(classes).size < classes.length && "A class is listed twice"),
    };
    for (const [id, problem] of Object.entries(problems)) element(id).setAttribute("aria-invalid", String(Boolean(problem)));
    const [wrong, sentence] = Object.entries(problems).find(([, problem]) => problem) ?? [null, ""];
    this.asking.fail(sentence);
    if (wrong !== null) {
      element(wrong).focus();
      return null;
    }
    if (read.pictures === null) {
      this.asking.fail(TOO_MUCH);
      return null;
    }
    return { ...read.pictures, model: model.name, classes };
  }

  /**
   * The two pictures that are chosen, of what is on screen.
   * @param {string[]} classes that will be looked for: many leave fewer pixels
   * @returns {{problems: Record<string, string | false>, pictures: import("./change_service.js").TwoPictures | null,
   *   words: string} | null} null: no world is open, or the server has not said what it takes. `pictures` is null where
   *   too much is on screen; `words` say which they are
   */
  readPictures(classes = []) {
    const world = this.actions.world();
    if (world === null || this.offer === null) return null;
    const { problems, before, after } = this.between === "days" ? this.readDays(world) : this.readWorlds(world);
    const bounds = viewBounds(this.map);
    const { max_pixels: most, free_classes: free } = this.offer;
    const pixels = (most * free) / Math.max(free, classes.length);
    const zoom = zoomFor(bounds, imageryZoom(this.map), world.zooms.least, pixels);
    const { west, south, east, north } = bounds;
    const words =
      this.between === "days"
        ? `${before.date} and ${after.date}`
        : `“${element("changes-world").selectedOptions[0]?.textContent ?? ""}” and the world on screen`;
    return { problems, pictures: zoom === null ? null : { before, after, bbox: [west, south, east, north], zoom }, words };
  }

  /** What is wrong with the choice of pictures; "" if nothing is. */
  problemOf(read) {
    return Object.values(read.problems).find(Boolean) || (read.pictures === null ? TOO_MUCH : "");
  }

  /** Both days of the world on screen. */
  readDays({ address }) {
    const [before, after] = ["changes-before", "changes-after"].map((id) => element(id).value);
    const wrong = (id, day) => (element(id).validity.badInput || !isDay(day)) && "Give a day of the calendar";
    const problems = {
      "changes-before": wrong("changes-before", before),
      "changes-after": wrong("changes-after", after) || (before >= after && "After must come later than Before"),
    };
    return { problems, before: { ...address, date: before }, after: { ...address, date: after } };
  }

  /** The other world, and the one on screen. */
  readWorlds({ description, address }) {
    const other = element("changes-world").value;
    const { date } = address;
    const problems = {};
    if (other === ORIGINAL) return { problems, before: { ...withoutEdits(description), date }, after: address };
    if (other !== SAME && !isNamedRoot(other)) return { problems, before: { world: other, date }, after: address };
    const seed = parseSeed(element("changes-seed").value);
    const before = other === SAME ? { ...address, seed } : { world: other, seed, date };
    problems["changes-seed"] =
      (seed === null && `A seed is a whole number from 0 to ${MAX_SEED}`) ||
      (other === SAME && seed === address.seed && "That is the seed of the world on screen");
    return { problems, before, after: address };
  }

  /** Show what was found, in the panel and on the map. */
  showFound() {
    const { changes } = this.found ?? {};
    element("changes-result").hidden = !changes;
    this.draw();
    if (!changes) return;
    element("changes-summary").textContent = summaryOf(changes);
    const lines = changes.features.slice(0, MOST_LINES).map((area) => this.line(area));
    element("changes-list").replaceChildren(...lines);
  }

  draw() {
    const changes = element("changes-overlay").checked ? (this.found?.changes ?? null) : null;
    if (this.map.getStyle()) showChanges(this.map, changes);
  }

  /** @param {import("./change_service.js").ChangedArea} area */
  line({ properties, geometry }) {
    const { area_m2: squareMetres, before, after, probability } = properties;
    const size = formatArea(squareMetres);
    const kind = before === undefined ? null : `${before} → ${after}`;
    const rest = `${kind === null ? "" : `${size} · `}${Math.round(100 * probability)} %`;
    return areaLine(kind ?? size, rest, () => this.actions.visit(geometry.coordinates[0], kind ?? size));
  }

  async saveGeotiff() {
    if (!this.found) return;
    const button = element("changes-geotiff");
    button.disabled = true;
    try {
      save(await askForChanges(this.found.question, "tif"), "changes.tif");
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.asking.fail(`The GeoTIFF cannot be had: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  }
}

/** @param {import("./change_service.js").Changes} changes */
function summaryOf({ features, left_out: leftOut, changed_m2: changed, total_m2: total, gsd }) {
  const count = features.length + leftOut;
  if (count === 0) return `No changes found at ${formatGsd(gsd)}`;
  const rest = leftOut > 0 ? `; the ${features.length} largest are shown` : "";
  return `${countOfAreas(count)} changed: ${formatArea(changed)}, ${shareOf(changed, total)} of ${formatArea(total)} at ${formatGsd(gsd)}${rest}`;
}

/** Names between commas. @param {string} text */
function namesIn(text) {
  return text
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
}
