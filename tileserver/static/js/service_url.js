// Addresses are relative to the page, so that it also works behind a path prefix.

/** @param {string} path relative to the page */
export function serviceUrl(path) {
  return new URL(path, document.baseURI).href;
}
