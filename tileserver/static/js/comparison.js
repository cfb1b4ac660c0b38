// What lies beside the world: the choice of it, and the second map that shows it.

import { element } from "./dom.js";
import { withoutEdits } from "./edit_steps.js";
import { GPUInitializationError } from "./globe.js";
import { Swipe } from "./swipe.js";

export class Comparison {
  /**
   * @param {import("maplibre-gl").Map} map
   * @param {import("./tile_loader.js").TileLoader} loader
   * @param {object} actions
   * @param {(compare: string | null) => void} actions.choose
   * @param {(beside: boolean) => void} actions.lay both maps beside each other, or one over the other
   * @param {() => void} actions.begin the second map has something to do
   * @param {() => void} actions.settle one of the maps may have come to rest
   * @param {() => void} actions.unsupported there can be no second map
   */
  constructor(map, loader, actions) {
    this.actions = actions;
    this.swipe = new Swipe(map, loader, { divider: element("swipe"), before: element("swipe-before"), after: element("swipe-after") });
    /** What the second map shows. */
    this.shown = "";
    element("compare").addEventListener("change", (event) => actions.choose(event.target.value || null));
    for (const input of document.querySelectorAll("input[name=compare-how]")) {
      input.addEventListener("change", () => actions.lay(input.value === "beside"));
    }
  }

  /** The second map, where there is one. */
  get maps() {
    return this.swipe.follower ? [this.swipe.follower] : [];
  }

  close() {
    this.swipe.close();
  }

  /** Compare with the world without edits, or no more. @param {import("./view_state.js").View} view */
  toggle({ compare }) {
    if (!element("compare-field").hidden) this.actions.choose(compare === null ? "original" : null);
  }

  /** Lay the maps the other way. @param {import("./view_state.js").View} view */
  turn({ beside }) {
    if (this.swipe.isOpen) this.actions.lay(!beside);
  }

  /**
   * @param {import("./view_state.js").View} view
   * @param {import("./open_world.js").OpenWorld} world
   * @param {string[]} days on which the world changes
   */
  show(view, world, days) {
    this.showChoices(view, world, days);
    this.swipe.setProjection(view.projection);
    const { compare } = view;
    if (compare === null || world.edits.length === 0) {
      this.close();
      this.actions.settle();
      return;
    }
    const isOriginal = compare === "original";
    const { version } = world.address;
    const other = isOriginal ? { ...withoutEdits(world.description), version } : { ...world.address, date: compare };
    this.swipe.label(isOriginal ? "Without edits" : compare, view.date ?? "With edits");
    const key = JSON.stringify(other);
    if (!this.swipe.isOpen || key !== this.shown) {
      this.shown = key;
      this.actions.begin();
      this.swipe.show(other, world.zooms, view.projection, this.actions.settle).catch((error) => {
        if (!(error instanceof GPUInitializationError)) throw error;
        this.actions.unsupported();
      });
    }
    this.swipe.lay(view.beside);
  }

  /** @param {import("./view_state.js").View} view @param {import("./open_world.js").OpenWorld} world @param {string[]} days */
  showChoices({ compare, beside }, { edits }, days) {
    element("compare-field").hidden = edits.length === 0;
    element("compare-how").hidden = edits.length === 0 || compare === null;
    for (const input of document.querySelectorAll("input[name=compare-how]")) {
      input.checked = input.value === (beside ? "beside" : "swipe");
    }
    const own = compare !== null && compare !== "original" && !days.includes(compare) ? [compare] : [];
    element("compare").replaceChildren(
      new Option("nothing", ""),
      new Option("no edits", "original"),
      ...[...days, ...own].sort().map((day) => new Option(day, day)),
    );
    element("compare").value = compare ?? "";
  }
}
