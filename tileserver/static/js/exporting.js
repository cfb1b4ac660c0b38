// Exports: an area as one file, made by the server while the page follows it.

import { element } from "./dom.js";
import { imageryZoom, viewBounds } from "./globe.js";
import { DEEPEST_ZOOM, ServiceError, get, pathOf, post, remove, serviceUrl } from "./service.js";

const NEWS_MS = 700;
const ZOOMS_ABOVE = 4;

/**
 * @typedef {object} ExportActions
 * @property {() => {address: import("./service.js").WorldAddress, zooms: import("./service.js").Zooms} | null} world
 *   that is shown; null: it is being opened
 * @property {() => [number, number][] | null} drawn corners of the area that is drawn; null: none is
 * @property {(text: string) => void} say to screen readers
 */

export class Exporting {
  /** @param {import("maplibre-gl").Map} map @param {ExportActions} actions */
  constructor(map, actions) {
    this.map = map;
    this.actions = actions;
    /** What the server takes; null: it has not been asked. */
    this.offer = null;
    /** The export that is followed, as the server described it last. */
    this.job = null;
    /** @type {AbortController | null} */
    this.asking = null;
    element("exports").addEventListener("toggle", () => {
      if (element("exports").open) this.meetServer();
    });
    element("export-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.begin();
    });
    element("export-plan").addEventListener("click", () => this.plan());
    element("export-cancel").addEventListener("click", () => this.giveUp("Export cancelled"));
    element("export-remove").addEventListener("click", () => this.giveUp("File removed from the server"));
    element("export-image").addEventListener("change", () => this.showFields());
    element("export-form").addEventListener("input", () => (element("export-estimate").textContent = ""));
  }

  /** Learn what the server takes, when the section is opened, and offer the zooms of what is on screen. */
  async meetServer() {
    this.showZooms();
    if (this.offer !== null) return;
    try {
      this.offer = await (await get("exports")).json();
    } catch (error) {
      this.failed("The server’s exports cannot be read", error);
      return;
    }
    for (const option of element("export-file").options) option.disabled = !this.offer.files.includes(option.value);
    element("export-file").value = this.offer.files[0];
    this.fail(this.offer.may_start === "nobody" ? "This server is read-only: it makes no exports." : "");
    this.showFields();
  }

  showZooms() {
    const world = this.actions.world();
    if (world === null || element("export-last").value !== "") return;
    const last = Math.min(DEEPEST_ZOOM, Math.max(world.zooms.least, imageryZoom(this.map)));
    element("export-last").value = String(last);
    element("export-first").value = String(Math.max(world.zooms.least, last - ZOOMS_ABOVE));
  }

  showFields() {
    const busy = this.asking !== null || (this.job !== null && !isOver(this.job));
    element("export-quality-field").hidden = element("export-image").value === "png";
    element("export-key-field").hidden = this.offer?.may_start !== "key";
    element("export-run").disabled = busy || this.offer === null || this.offer.may_start === "nobody";
    element("export-plan").disabled = busy || this.offer === null;
    element("export-form").setAttribute("aria-busy", String(busy));
  }

  /** What is asked for; null where something is wrong, which is then said. */
  read() {
    const world = this.actions.world();
    if (world === null) return null;
    const [first, last, quality] = ["export-first", "export-last", "export-quality"].map((id) => Number(element(id).value));
    const isZoom = (zoom) => Number.isInteger(zoom) && zoom >= world.zooms.least && zoom <= DEEPEST_ZOOM;
    const image = element("export-image").value;
    const ring = this.actions.drawn();
    const wantsDrawn = document.querySelector("input[name=export-area]:checked").value === "drawn";
    const zoomRule = `A zoom is a whole number from ${world.zooms.least} to ${DEEPEST_ZOOM}`;
    const problems = {
      "export-first": (element("export-first").value === "" || !isZoom(first)) && zoomRule,
      "export-last":
        ((element("export-last").value === "" || !isZoom(last)) && zoomRule) ||
        (last < first && "The finest zoom must not be smaller than the coarsest"),
      "export-quality":
        image !== "png" && !(Number.isInteger(quality) && quality >= 1 && quality <= 100) && "Quality is 1 to 100",
    };
    for (const [id, problem] of Object.entries(problems)) element(id).setAttribute("aria-invalid", String(Boolean(problem)));
    const [wrong, sentence] = Object.entries(problems).find(([, problem]) => problem) ?? [null, ""];
    this.fail(sentence || (wantsDrawn && ring === null ? "Draw an area first: under Edits, or with D" : ""));
    if (wrong !== null) element(wrong).focus();
    if (wrong !== null || (wantsDrawn && ring === null)) return null;
    const bbox = wantsDrawn ? boundsOf(ring) : Object.values(pick(viewBounds(this.map)));
    const asked = { bbox, zooms: [first, last], file: element("export-file").value, image };
    return { address: world.address, asked: image === "png" ? asked : { ...asked, quality } };
  }

  /** Ask what it would cost. */
  async plan() {
    const read = this.read();
    if (read === null) return;
    const { signal } = (this.asking = new AbortController());
    this.showFields();
    element("export-estimate").textContent = "Measuring on a few tiles…";
    try {
      const plan = await (await post(pathOf(read.address, "exports/plan"), read.asked, signal)).json();
      const tiles = `${plan.total.toLocaleString("en")} ${plan.total === 1 ? "tile" : "tiles"}`;
      const most = plan.fits ? "" : `; more than the ${said(plan.max_bytes)} that one export may have`;
      const sentence = `${tiles}, about ${said(plan.bytes)}, about ${lasting(plan.seconds)}${most}`;
      element("export-estimate").textContent = sentence;
      this.actions.say(sentence);
    } catch (error) {
      element("export-estimate").textContent = "";
      if (!signal.aborted) this.failed("It cannot be estimated", error);
    } finally {
      this.asking = null;
      this.showFields();
    }
  }

  /** Begin an export and follow it. */
  async begin() {
    const read = this.read();
    if (read === null) return;
    this.asking = new AbortController();
    this.showFields();
    try {
      this.job = await (await post(pathOf(read.address, "exports"), read.asked, this.asking.signal, this.key)).json();
      this.actions.say("Export begun");
    } catch (error) {
      this.failed("The export cannot be begun", error);
    } finally {
      this.asking = null;
      this.show();
    }
    if (this.job !== null && !isOver(this.job)) this.follow(this.job.id);
  }

  /** Ask again until it is over; a server that is silent is asked on. @param {string} id */
  async follow(id) {
    while (this.job?.id === id && !isOver(this.job)) {
      await new Promise((resolve) => setTimeout(resolve, NEWS_MS));
      if (this.job?.id !== id) return;
      try {
        const job = await (await get(`exports/${id}`)).json();
        if (this.job?.id === id) this.job = job;
      } catch (error) {
        if (!(error instanceof ServiceError)) throw error;
        if (error.unreachable || error.overloaded) continue;
        if (this.job?.id === id) this.job = null;
        this.fail(`The export is lost: ${error.message}`);
      }
      this.show();
    }
    if (this.job?.status === "done") this.actions.say("The export is ready");
  }

  /** Cancel it, or throw its file away. @param {string} words for screen readers */
  async giveUp(words) {
    const { job } = this;
    if (job === null) return;
    this.job = null;
    this.show();
    element("export-run").focus();
    this.actions.say(words);
    try {
      await remove(`exports/${job.id}`, this.key);
    } catch (error) {
      // One that is gone already needs no cancelling.
      if (!(error instanceof ServiceError) || error.status !== 404) this.failed("The server was not told", error);
    }
  }

  /** @returns {string} what the server wants to see from whoever writes; "" where it wants nothing */
  get key() {
    return element("export-key-field").hidden ? "" : element("export-key").value;
  }

  show() {
    const { job } = this;
    this.showFields();
    element("export-progress").hidden = job === null || isOver(job);
    element("export-result").hidden = job?.status !== "done";
    if (job === null) return;
    const bar = element("export-bar");
    bar.max = Math.max(1, job.total);
    bar.value = job.done;
    const left = job.seconds_left === null ? "" : `, ${lasting(job.seconds_left)} left`;
    element("export-progress-text").textContent =
      job.status === "waiting" ? "Waits for its turn" : job.total === 0 ? "Begins" : `${job.done} of ${job.total}${left}`;
    if (job.status === "failed") this.fail(`The export failed: ${job.detail}`);
    if (job.status !== "done") return;
    const link = element("export-download");
    link.href = serviceUrl(`exports/${job.id}/file`);
    link.download = job.name;
    link.textContent = `Download, ${said(job.bytes)}`;
  }

  /** @param {string} sentence what is wrong; empty: nothing */
  fail(sentence) {
    element("export-error").textContent = sentence;
  }

  /** @param {string} what @param {unknown} error */
  failed(what, error) {
    if (!(error instanceof ServiceError)) throw error;
    this.fail(`${what}: ${error.message}`);
  }
}

/** @param {{status: string}} job */
const isOver = ({ status }) => status === "done" || status === "failed";

const pick = ({ west, south, east, north }) => ({ west, south, east, north });

/** @param {[number, number][]} ring */
function boundsOf(ring) {
  const [longitudes, latitudes] = [0, 1].map((axis) => ring.map((corner) => corner[axis]));
  return [Math.min(...longitudes), Math.min(...latitudes), Math.max(...longitudes), Math.max(...latitudes)];
}

/** Bytes for people, in powers of 1000. @param {number} bytes */
function said(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (bytes >= 999.5 && power < units.length - 1) {
    bytes /= 1000;
    power += 1;
  }
  return `${Number(bytes.toPrecision(3))} ${units[power]}`;
}

/** @param {number} seconds */
function lasting(seconds) {
  if (seconds < 120) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Number((seconds / 3600).toPrecision(2))} h`;
}
