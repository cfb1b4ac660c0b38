// The form that asks for a world by prompt.

import { element } from "./dom.js";
import { readText } from "./text.js";
import { MAX_GSD, MAX_GUIDANCE, MIN_GSD } from "./view_state.js";

const OTHER = "other";

/** @param {() => void} submit */
export function bindPromptForm(submit) {
  element("prompt-gsd").addEventListener("change", showOtherGsd);
  for (const id of ["prompt", "negative"]) {
    // A prompt is one line: Enter is not part of it.
    element(id).addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      submit();
    });
  }
}

/**
 * What the form says.
 * @returns {{prompt: string, negative: string, gsd: number, guidance: number} | null} null where something is wrong,
 *   which the form then says
 */
export function readPromptForm() {
  const prompt = readText(element("prompt").value);
  const negative = readText(element("negative").value);
  const chosen = element("prompt-gsd").value;
  const gsd = readNumber(chosen === OTHER ? element("prompt-gsd-other").value : chosen, MIN_GSD, MAX_GSD);
  const guidance = readNumber(element("guidance").value, 1, MAX_GUIDANCE);
  const problems = {
    prompt: prompt.text === "" ? "Say what is there" : prompt.problem && `The prompt ${prompt.problem}`,
    "prompt-gsd-other": gsd === null && `A resolution is a number from ${MIN_GSD} to ${MAX_GSD} metres per pixel`,
    negative: negative.problem && `What is not there ${negative.problem}`,
    guidance: guidance === null && `Guidance is a number from 1 to ${MAX_GUIDANCE}`,
  };
  for (const [id, problem] of Object.entries(problems)) element(id).setAttribute("aria-invalid", String(Boolean(problem)));
  const [wrong, sentence] = Object.entries(problems).find(([, problem]) => problem) ?? [null, ""];
  element("prompt-error").textContent = sentence;
  if (wrong === null) return { prompt: prompt.text, negative: negative.text, gsd, guidance };
  if (wrong === "negative" || wrong === "guidance") element("prompt-more").open = true;
  element(wrong).focus();
  return null;
}

/** @param {{prompt: string, negative: string, gsd: number, guidance: number}} fields */
export function showPromptForm({ prompt, negative, gsd, guidance }) {
  element("prompt").value = prompt;
  element("negative").value = negative;
  element("guidance").value = String(guidance);
  element("prompt-gsd").value = String(gsd);
  if (element("prompt-gsd").value === "") {
    element("prompt-gsd").value = OTHER;
    element("prompt-gsd-other").value = String(gsd);
  }
  element("prompt-error").textContent = "";
  for (const id of ["prompt", "negative", "guidance", "prompt-gsd-other"]) element(id).setAttribute("aria-invalid", "false");
  showOtherGsd();
}

function showOtherGsd() {
  element("prompt-gsd-other").hidden = element("prompt-gsd").value !== OTHER;
}

/** @param {string} text @param {number} least @param {number} most */
function readNumber(text, least, most) {
  // Half of the world writes decimals with a comma.
  const value = text.trim() === "" ? NaN : Number(text.trim().replace(",", "."));
  return value >= least && value <= most ? value : null;
}
