// Keeps the page itself: it opens where no server answers. Tiles and answers about worlds are kept by the page (kept.js),
// which can still give a request up; what passes through here could not be.
//
// The server writes VERSION and FILES before this: another version of any file is another worker, which fetches all.

const PATIENCE_MS = 3000;
const SCOPE = new URL(self.registration.scope);
const NAME = `earthgen ${SCOPE.pathname} page`;
const PAGES = `${NAME} ${VERSION}`;

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const file = fileOf(new URL(url));
  if (method === "GET" && file !== null) event.respondWith(answer(event.request, file));
});

async function install() {
  const cache = await caches.open(PAGES);
  await cache.addAll(FILES.map((file) => new Request(new URL(file, SCOPE), { cache: "no-cache" })));
  await self.skipWaiting();
}

async function activate() {
  for (const name of await caches.keys()) if (name.startsWith(NAME) && name !== PAGES) await caches.delete(name);
  await self.clients.claim();
}

/** The page's file that an address names, or null. The page is the same whatever its query says. */
function fileOf(url) {
  if (url.origin !== SCOPE.origin || !url.pathname.startsWith(SCOPE.pathname)) return null;
  const file = url.pathname.slice(SCOPE.pathname.length) || "./";
  return FILES.includes(file) ? file : null;
}

/** The server's, since it may be newer; what is kept where the server is silent or slow. */
async function answer(request, file) {
  const kept = await (await caches.open(PAGES)).match(new URL(file, SCOPE));
  if (!kept) return fetch(request);
  const late = new Promise((resolve) => setTimeout(() => resolve(kept), PATIENCE_MS));
  const fresh = fetch(request).then((response) => (response.ok ? response : kept), () => kept);
  return Promise.race([fresh, late]);
}
