// Before and after: a second map over the left part of the first one with a divider between them, or beside it.

import { createFollower, limitZoom, setProjection } from "./globe.js";
import { Imagery } from "./imagery.js";

const STEP = 0.02;
const LONG_STEP = 0.1;

export class Swipe {
  /**
   * @param {import("maplibre-gl").Map} leader the map on the right, which takes all input
   * @param {import("./tile_loader.js").TileLoader} loader
   * @param {{divider: HTMLElement, before: HTMLElement, after: HTMLElement}} parts the divider and its two labels
   */
  constructor(leader, loader, { divider, before, after }) {
    this.leader = leader;
    this.loader = loader;
    this.divider = divider;
    this.labels = { before, after };
    /** @type {import("maplibre-gl").Map | null} */
    this.follower = null;
    /** @type {Imagery | null} */
    this.imagery = null;
    /** Resolved when layers can be put on it. @type {Promise<unknown>} */
    this.ready = Promise.resolve();
    this.share = 0.5;
    this.bindDivider();
  }

  get isOpen() {
    return this.follower !== null;
  }

  /**
   * Show a world on the left.
   * @param {import("./service.js").WorldAddress} world
   * @param {import("./service.js").Zooms} zooms
   * @param {"globe" | "flat"} projection
   * @param {() => void} onIdle called whenever the left map has nothing left to do
   */
  async show(world, zooms, projection, onIdle) {
    if (!this.follower) {
      const container = document.createElement("div");
      container.id = "before";
      // Among the first map's own parts, so that its buttons stay on top.
      this.leader.getCanvasContainer().after(container);
      const follower = createFollower(container, this.leader, projection);
      follower.on("idle", onIdle);
      this.follower = follower;
      this.imagery = new Imagery(follower, this.loader);
      this.divider.hidden = false;
      this.moveTo(this.share);
      this.ready = new Promise((resolve) => follower.once("load", resolve));
    }
    const { imagery } = this;
    await this.ready;
    // Meanwhile it may have been closed, or opened again.
    if (imagery !== this.imagery) return;
    limitZoom(this.follower, zooms);
    imagery.show(world, zooms);
  }

  /**
   * Lay both maps beside each other, each with its own middle, or one over the other with a divider. The map below the
   * other one takes no input.
   * @param {boolean} beside
   */
  lay(beside) {
    const isBeside = beside && this.isOpen;
    document.documentElement.classList.toggle("beside", isBeside);
    this.divider.setAttribute("role", isBeside ? "separator" : "slider");
    this.divider.tabIndex = isBeside ? -1 : 0;
    for (const map of [this.leader, this.follower]) map?.resize();
    const canvas = this.follower?.getCanvas();
    if (!canvas) return;
    canvas.tabIndex = isBeside ? 0 : -1;
    canvas.setAttribute("aria-label", `${this.labels.before.textContent}, which moves with the other map`);
    if (isBeside) canvas.removeAttribute("aria-hidden");
    else canvas.setAttribute("aria-hidden", "true");
  }

  close() {
    if (!this.follower) return;
    const container = this.follower.getContainer();
    this.follower.remove();
    container.remove();
    this.follower = this.imagery = null;
    this.divider.hidden = true;
    this.lay(false);
  }

  /** @param {string} before @param {string} after what the two sides show */
  label(before, after) {
    this.labels.before.textContent = before;
    this.labels.after.textContent = after;
  }

  /** @param {"globe" | "flat"} projection */
  setProjection(projection) {
    if (this.follower) setProjection(this.follower, projection);
  }

  /** @param {number} share of the width that lies left of the divider, 0..1 */
  moveTo(share) {
    this.share = Math.min(1, Math.max(0, share));
    const percent = Math.round(100 * this.share);
    document.documentElement.style.setProperty("--swipe", `${(100 * this.share).toFixed(2)}%`);
    this.divider.setAttribute("aria-valuenow", String(percent));
    this.divider.setAttribute("aria-valuetext", `${percent} % before`);
  }

  bindDivider() {
    const steps = { ArrowLeft: -STEP, ArrowRight: STEP, PageDown: -LONG_STEP, PageUp: LONG_STEP, Home: -1, End: 1 };
    this.divider.addEventListener("keydown", (event) => {
      if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.moveTo(this.share + steps[event.key]);
    });
    this.divider.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      this.divider.focus();
      this.divider.setPointerCapture(event.pointerId);
    });
    this.divider.addEventListener("pointermove", (event) => {
      if (!this.divider.hasPointerCapture(event.pointerId)) return;
      const { left, width } = this.leader.getContainer().getBoundingClientRect();
      this.moveTo((event.clientX - left) / width);
    });
  }
}
