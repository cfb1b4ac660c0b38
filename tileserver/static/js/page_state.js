// What the page's root element says for automation: whether everything has come, how much has not, and what failed.

const page = document.documentElement;

export class PageState {
  /**
   * @param {import("./tile_loader.js").TileLoader} loader
   * @param {() => boolean} isOpening whether a world is being opened
   */
  constructor(loader, isOpening) {
    this.loader = loader;
    this.isOpening = isOpening;
    /** Maps that have to come to rest. @type {() => import("maplibre-gl").Map[]} */
    this.maps = () => [];
    loader.addEventListener("change", () => {
      page.dataset.pending = String(loader.pending);
      if (loader.pending > 0) this.begin();
    });
    loader.addEventListener("failure", () => (page.dataset.failed = String(Number(page.dataset.failed) + 1)));
  }

  /** @param {() => import("maplibre-gl").Map[]} maps the first of them is there for good */
  watch(maps) {
    this.maps = maps;
    const [first] = maps();
    first.on("movestart", () => this.begin());
    first.on("idle", () => this.settle());
  }

  /** Something has begun. */
  begin() {
    page.dataset.map = "busy";
  }

  /** Other tiles are shown: what failed before does not count. */
  beginTiles() {
    this.begin();
    page.dataset.failed = "0";
  }

  /** Say that the page is idle, if it is. */
  settle() {
    const still = this.maps().every((map) => map.loaded() && !map.isMoving());
    if (still && this.loader.pending === 0 && !this.isOpening()) page.dataset.map = "idle";
  }
}
