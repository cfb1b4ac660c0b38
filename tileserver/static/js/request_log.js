// The last requests of the page, for developers, and the world on screen as other programs want it.

import { element } from "./dom.js";
import { requests, serviceUrl, pathOf, tilePath } from "./service.js";

const KEPT = 25;

/** @param {{world: () => {address: import("./service.js").WorldAddress, zooms: import("./service.js").Zooms} | null,
 *   attribution: string, say: (text: string) => void}} actions */
export function watchRequests({ world, attribution, say }) {
  /** @type {object[]} newest first */
  const seen = [];
  requests.addEventListener("answered", ({ detail }) => {
    seen.unshift(detail);
    seen.length = Math.min(seen.length, KEPT);
    if (element("requests").open) show();
  });
  element("requests").addEventListener("toggle", () => element("requests").open && show());
  const open = world;
  const tiles = (address) => decodeURI(serviceUrl(tilePath({ ...address, version: null }))).replace(/%7B([zxy])%7D/gi, "{$1}");
  const texts = {
    "copy-xyz": ({ address }) => tiles(address),
    "copy-maplibre": ({ address }) => {
      const url = serviceUrl(pathOf({ ...address, version: null }, "WebMercatorQuad/tilejson.json", { tile_format: "webp" }));
      return JSON.stringify({ type: "raster", url, tileSize: 256, attribution }, null, 2);
    },
    "copy-leaflet": ({ address, zooms }) =>
      `L.tileLayer(${JSON.stringify(tiles(address))}, {\n  minZoom: ${zooms.least}, maxZoom: 18, attribution: ${JSON.stringify(attribution)},\n}).addTo(map);`,
  };
  for (const [id, textOf] of Object.entries(texts)) {
    element(id).addEventListener("click", () => {
      const now = open();
      if (now !== null) copy(textOf(now), element(id).textContent);
    });
  }

  function show() {
    const { activeElement } = document;
    // Whoever goes through the list by keyboard is not thrown out of it.
    if (element("request-list").contains(activeElement)) return;
    element("request-list").replaceChildren(...seen.map(line));
  }

  /** @param {{method: string, url: string, status: number, ms: number, timing: string, body?: string}} request */
  function line(request) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = `Copy as curl: ${request.method} ${request.url}`;
    const name = document.createElement("span");
    name.textContent = `${request.method} ${new URL(request.url).pathname}`;
    const rest = document.createElement("small");
    const status = request.status === 0 ? "no answer" : request.status;
    rest.textContent = `${status} · ${Math.round(request.ms)} ms${request.timing ? ` · ${request.timing}` : ""}`;
    button.append(name, rest);
    button.addEventListener("click", () => copy(curlOf(request), "curl"));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  /** Copy, or show to be copied by hand. @param {string} text @param {string} what */
  async function copy(text, what) {
    element("request-text").value = text;
    element("request-text").hidden = false;
    try {
      await navigator.clipboard.writeText(text);
      element("request-said").textContent = `Copied: ${what}`;
    } catch {
      element("request-text").select();
      element("request-said").textContent = "Copy it from here:";
    }
    say(element("request-said").textContent);
  }
}

/** @param {{method: string, url: string, body?: string}} request */
function curlOf({ method, url, body }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const more = body === undefined ? "" : ` -H 'Content-Type: application/json' -d ${quoted(body)}`;
  return `curl${method === "GET" ? "" : ` -X ${method}`} ${quoted(url)}${more}`;
}
