// A slider over the days on which a world changes.

const NO_DAY = "No date";

/**
 * @param {{box: HTMLElement, slider: HTMLInputElement, label: HTMLElement}} parts
 * @param {(day: string | null) => void} choose
 */
export function makeTimeline({ box, slider, label }, choose) {
  /** @type {(string | null)[]} */
  let stops = [null];

  function describe() {
    const day = stops[Number(slider.value)] ?? NO_DAY;
    label.textContent = day;
    slider.setAttribute("aria-valuetext", day);
  }
  slider.addEventListener("input", describe);
  slider.addEventListener("change", () => choose(stops[Number(slider.value)]));

  return {
    /** @param {string[]} days in order @param {string | null} day that is shown */
    show(days, day) {
      // A link may name any day.
      const all = day === null || days.includes(day) ? days : [...days, day].sort();
      stops = [null, ...all];
      box.hidden = all.length === 0;
      slider.max = String(stops.length - 1);
      slider.value = String(stops.indexOf(day));
      describe();
    },
  };
}
