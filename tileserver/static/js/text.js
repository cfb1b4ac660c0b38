// Text that people type is data: one line, of bounded length, without control characters, as the service wants it.

export const MAX_TEXT_CHARACTERS = 512;

/**
 * Read text that somebody typed or that a link holds.
 * @param {string} typed
 * @returns {{text: string, problem: string | null}} the text with white space folded and characters composed, and
 *   what is wrong with it, if anything, as the end of a sentence that begins with its name
 */
export function readText(typed) {
  const text = typed.replace(/\s+/gu, " ").trim().normalize("NFC");
  // Counted as the service counts: characters, not the halves that JavaScript's strings are made of.
  const length = [...text].length;
  if (length > MAX_TEXT_CHARACTERS) {
    return { text, problem: `has ${length} characters; at most ${MAX_TEXT_CHARACTERS} are allowed` };
  }
  const wrong = /[\p{Cc}\p{Cs}]/u.exec(text);
  if (wrong) {
    const code = wrong[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return { text, problem: `holds the control character U+${code}; printable text is allowed` };
  }
  return { text, problem: null };
}

/** Text short enough for a line of the page. @param {string} text @param {number} most characters */
export function shorten(text, most) {
  const characters = [...text];
  return characters.length > most ? `${characters.slice(0, most - 1).join("").trimEnd()}…` : text;
}
