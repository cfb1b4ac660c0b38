// One question to the server at a time: its line of progress, its Cancel button, its error, and giving it up.

import { element, say } from "./dom.js";
import { ServiceError } from "./service.js";

/**
 * @typedef {object} AskingWords
 * @property {string} doing what the line of progress says before the seconds
 * @property {string} cancelled what screen readers are told
 * @property {string} failed what an error begins with
 */

export class Asking {
  /**
   * @param {string} section whose elements are `<section>-form`, `-run`, `-progress`, `-progress-text`, `-cancel` and `-error`
   * @param {AskingWords} words
   * @param {string} focus where the focus goes when a question was cancelled
   * @param {() => boolean} ready whether anything can be asked
   */
  constructor(section, words, focus, ready) {
    this.section = section;
    this.words = words;
    this.ready = ready;
    /** @type {AbortController | null} */
    this.asked = null;
    this.part("cancel").addEventListener("click", () => {
      this.stop();
      say(words.cancelled);
      element(focus).focus();
    });
  }

  get busy() {
    return this.asked !== null;
  }

  /**
   * Ask, in place of what was being asked.
   * @template T
   * @param {(signal: AbortSignal) => Promise<T>} question
   * @param {(answer: T) => void} show called with the answer, unless it was given up
   */
  async ask(question, show) {
    this.stop();
    this.fail("");
    const { signal } = (this.asked = new AbortController());
    const begun = Date.now();
    const tick = () => {
      this.part("progress-text").textContent = `${this.words.doing}, ${Math.round((Date.now() - begun) / 1000)} s`;
    };
    tick();
    const timer = setInterval(tick, 1000);
    this.show();
    say(this.words.doing);
    try {
      const answer = await question(signal);
      if (!signal.aborted) show(answer);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ServiceError)) throw error;
      this.fail(`${this.words.failed}: ${error.message}`);
    } finally {
      clearInterval(timer);
      if (!signal.aborted) this.stop();
    }
  }

  /** Give up what is being asked. */
  stop() {
    this.asked?.abort();
    this.asked = null;
    this.show();
  }

  /** Show whether something is being asked, or can be. */
  show() {
    this.part("progress").hidden = !this.busy;
    this.part("form").setAttribute("aria-busy", String(this.busy));
    this.part("run").disabled = this.busy || !this.ready();
  }

  /** @param {string} sentence what is wrong; empty: nothing */
  fail(sentence) {
    this.part("error").textContent = sentence;
  }

  /** @param {string} name */
  part(name) {
    return element(`${this.section}-${name}`);
  }
}
