// Questions about two pictures, over HTTP: what is being done comes line by line, and last the answer.

import { comparison } from "./change_service.js";
import { pathOf, post, readLines } from "./service.js";

/**
 * @typedef {object} Answer
 * @property {string} text
 * @property {boolean} refused whether a part of the question was not answered
 * @property {string[]} notes
 * @property {{features: {geometry: {coordinates: [number, number][][]}}[], left_out?: number} | null} areas GeoJSON
 * @property {{name: string, media_type: string, bytes: number, base64: string}[]} files
 * @property {object} memory goes with the next question
 * @property {[number, number, number, number]} bbox
 * @property {number} gsd metres per pixel
 * @property {{name: string}} model
 */

/**
 * @param {import("./change_service.js").TwoPictures} pictures
 * @param {string} question
 * @param {object | null} memory of the answer before
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<{event: "pictures" | "plan" | "step" | "done", tool?: string} | ({event: "answer"} & Answer)>}
 */
export async function* askAgent(pictures, question, memory, signal) {
  const { earlier, body } = comparison(pictures);
  const asked = { ...body, question, memory };
  yield* readLines(await post(pathOf(earlier, "agent"), asked, signal), signal);
}
