// Handing the link of what is on screen to somebody else.

import { element, say } from "./dom.js";

const SHOWN_MS = 1800;

/** @param {string} link */
export async function share(link) {
  try {
    await navigator.clipboard.writeText(link);
    say("Link copied");
    const label = element("share").lastChild;
    label.textContent = "Copied";
    setTimeout(() => (label.textContent = "Copy link"), SHOWN_MS);
  } catch {
    // Pages that are not served securely have no clipboard.
    element("share-link").value = link;
    element("share-dialog").showModal();
    element("share-link").select();
  }
}
