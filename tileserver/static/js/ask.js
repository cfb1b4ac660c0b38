// Ask: a conversation about what changed between the two pictures that are chosen under Changes.

import { askAgent } from "./agent_service.js";
import { save } from "./area_list.js";
import { showAnswer } from "./change_layer.js";
import { element } from "./dom.js";
import { formatGsd } from "./readout.js";
import { ServiceError } from "./service.js";
import { readText } from "./text.js";

const EXAMPLES = ["What changed here?", "Count the new buildings", "Where is the largest change?", "Export them as GeoJSON"];
const DOING = {
  detect: "Looking",
  segment: "Sorting by class",
  caption: "Describing",
  count: "Counting",
  area: "Measuring",
  areas_by_class: "Sorting by class",
  compare: "Comparing",
  cause: "Looking",
  place: "Locating",
  export: "Writing a file",
};

/**
 * @typedef {object} AskActions
 * @property {(ring: [number, number][], name: string) => void} visit
 * @property {() => void} choose open the choice of pictures
 * @property {(text: string) => void} say to screen readers
 */

export class Ask {
  /**
   * @param {import("maplibre-gl").Map} map
   * @param {import("./changes.js").Changes} changes knows which pictures are chosen
   * @param {AskActions} actions
   */
  constructor(map, changes, actions) {
    this.map = map;
    this.changes = changes;
    this.actions = actions;
    /** What the conversation is about; null: it has not begun.
     * @type {{pictures: import("./change_service.js").TwoPictures, words: string} | null} */
    this.about = null;
    /** @type {object | null} */
    this.memory = null;
    /** @type {import("./agent_service.js").Answer | null} */
    this.last = null;
    /** @type {AbortController | null} */
    this.asking = null;
    this.bind();
    this.showAbout();
  }

  bind() {
    element("ask").addEventListener("toggle", async () => {
      if (!element("ask").open) return;
      await this.changes.meetServer();
      this.showAbout();
    });
    element("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask(element("ask-question").value);
    });
    element("ask-cancel").addEventListener("click", () => {
      this.stop();
      this.actions.say("Question cancelled");
      element("ask-question").focus();
    });
    element("ask-overlay").addEventListener("change", () => this.draw());
    element("ask-choose").addEventListener("click", () => this.actions.choose());
    element("ask-over").addEventListener("click", () => {
      this.forget();
      this.actions.say("Another conversation");
      element("ask-question").focus();
    });
    const chips = EXAMPLES.map((text) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "chip";
      button.textContent = text;
      button.addEventListener("click", () => this.ask(text));
      return button;
    });
    element("ask-examples").replaceChildren(...chips);
  }

  /** Begin anew: another world is being opened, or somebody wants to. */
  forget() {
    this.stop();
    this.about = null;
    this.memory = null;
    this.last = null;
    element("ask-log").replaceChildren();
    this.fail("");
    this.showAbout();
    this.draw();
  }

  /** @param {string} typed */
  async ask(typed) {
    if (this.asking !== null) return;
    const { text, problem } = readText(typed);
    const wrong = text === "" ? "Ask something" : problem && `The question ${problem}`;
    element("ask-question").setAttribute("aria-invalid", String(Boolean(wrong)));
    if (wrong) {
      this.fail(wrong);
      element("ask-question").focus();
      return;
    }
    if (this.about === null && !(await this.begin())) return;
    this.fail("");
    const { signal } = (this.asking = new AbortController());
    element("ask-question").value = "";
    const line = this.write("asked", text);
    this.showBusy("Thinking");
    this.actions.say("Asked");
    try {
      for await (const event of askAgent(this.about.pictures, text, this.memory, signal)) {
        if (signal.aborted) return;
        if (event.event === "pictures") this.showBusy("Making both pictures");
        if (event.event === "plan") this.showBusy("Looking for changes");
        if (event.event === "step") this.showBusy(DOING[event.tool] ?? "Working");
        if (event.event === "answer") this.showAnswer(event);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ServiceError)) throw error;
      line.remove();
      // Nothing was said yet, so the next question may be about another view.
      if (element("ask-log").children.length === 0) this.about = null;
      this.showAbout();
      if (element("ask-question").value === "") element("ask-question").value = text;
      this.fail(`There is no answer: ${error.message}`);
    } finally {
      if (!signal.aborted) this.stop();
    }
  }

  /** Take what is on screen, and the two pictures that are chosen. @returns {Promise<boolean>} whether that can be asked about */
  async begin() {
    await this.changes.meetServer();
    const read = this.changes.readPictures();
    if (read === null) {
      this.fail("The world or the models are not there yet");
      return false;
    }
    const problem = this.changes.problemOf(read);
    if (problem) {
      this.fail(`Choose two pictures first: ${problem}`);
      return false;
    }
    this.about = read;
    this.showAbout();
    return true;
  }

  /** Give a question up that is being answered. */
  stop() {
    this.asking?.abort();
    this.asking = null;
    this.showBusy("");
  }

  /** @param {string} doing "" if nothing is being done */
  showBusy(doing) {
    const busy = doing !== "";
    element("ask-progress").hidden = !busy;
    element("ask-progress-text").textContent = doing;
    element("ask-form").setAttribute("aria-busy", String(busy));
    element("ask-run").disabled = busy;
    for (const chip of element("ask-examples").children) chip.disabled = busy;
  }

  /** Say what is asked about. */
  showAbout() {
    const begun = this.about !== null;
    element("ask-about").textContent = begun
      ? `About the dashed frame, between ${this.about.words}.`
      : "Ask what changed, in what is on screen, between the two pictures chosen under Changes.";
    element("ask-choose").hidden = begun;
    element("ask-after").hidden = element("ask-log").children.length === 0;
  }

  /** @param {import("./agent_service.js").Answer} answer */
  showAnswer(answer) {
    this.memory = answer.memory;
    this.last = answer;
    const item = this.write(answer.refused ? "refused" : "answered", answer.text);
    const notes = document.createElement("small");
    notes.textContent = [`${answer.model.name} at ${formatGsd(answer.gsd)}.`, ...answer.notes].join(" ");
    item.append(notes, ...this.buttons(answer));
    this.showAbout();
    this.draw();
    this.actions.say(answer.text);
    item.scrollIntoView({ block: "nearest" });
    // The next question is never out of sight.
    element("ask-form").scrollIntoView({ block: "nearest" });
  }

  /** What can be done with an answer. @param {import("./agent_service.js").Answer} answer */
  buttons({ areas, files }) {
    const list = document.createElement("div");
    list.className = "buttons";
    const add = (text, title, run) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "small-button";
      button.textContent = text;
      button.title = title;
      button.addEventListener("click", run);
      list.append(button);
    };
    const [largest] = areas?.features ?? [];
    if (largest) add("Fly there", "Fly to the largest of these areas", () => this.actions.visit(largest.geometry.coordinates[0], "there"));
    for (const { name, media_type: type, base64 } of files) {
      add(name, "Save this file", () => save(new Blob([bytesOf(base64)], { type }), name));
    }
    return list.children.length > 0 ? [list] : [];
  }

  /** Add a line to the conversation. @param {"asked" | "answered" | "refused"} kind @param {string} text */
  write(kind, text) {
    const item = document.createElement("li");
    item.className = kind;
    const who = document.createElement("span");
    who.className = "sr";
    who.textContent = kind === "asked" ? "You: " : "Answer: ";
    const said = document.createElement("p");
    said.append(who, text);
    item.append(said);
    element("ask-log").append(item);
    item.scrollIntoView({ block: "nearest" });
    return item;
  }

  /** @param {string} sentence what is wrong; empty: nothing */
  fail(sentence) {
    element("ask-error").textContent = sentence;
  }

  draw() {
    const shown = element("ask-overlay").checked;
    if (this.map.getStyle()) showAnswer(this.map, shown ? (this.last?.areas ?? null) : null, shown ? (this.last?.bbox ?? null) : null);
  }
}

/** @param {string} base64 */
function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}
