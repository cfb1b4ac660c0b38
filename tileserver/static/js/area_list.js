// Lists of areas that were found, and files of them.

/**
 * A line that flies to what it names.
 * @param {string} name
 * @param {string} rest in small letters
 * @param {() => void} visit
 */
export function areaLine(name, rest, visit) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = "Fly there";
  const [first, second] = [document.createElement("span"), document.createElement("small")];
  first.textContent = name;
  second.textContent = rest;
  button.append(first, second);
  button.addEventListener("click", visit);
  const item = document.createElement("li");
  item.append(button);
  return item;
}

/** "12 areas" @param {number} count */
export const countOfAreas = (count) => `${count} ${count === 1 ? "area" : "areas"}`;

/** "0.3 %", of a part that is not nothing. @param {number} part @param {number} whole */
export function shareOf(part, whole) {
  const share = (100 * part) / whole;
  return `${share < 0.1 ? "less than 0.1" : share.toFixed(1)} %`;
}

/** Give somebody a file. @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser has taken the bytes by the time that anything else runs; not all of them say when.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
