/** The keyboard: `/` searches, `j` and `k` go through rows, `g` and a letter go to a view, `?` tells of them. */

const KEY = "trainmaster.shortcuts";
/** So long after `g` a letter is taken for the second key. */
const SECOND_KEY_MILLISECONDS = 1_500;

/** Whether single keys do something: who speaks to their computer may turn them off. */
export function areShortcutsOn() {
  return localStorage.getItem(KEY) !== "off";
}

/** @param {boolean} isOn */
export function turnShortcuts(isOn) {
  localStorage.setItem(KEY, isOn ? "on" : "off");
}

/**
 * Listens to keys; returns what ends that.
 * @param {{help: () => void, go: (letter: string) => void}} acts
 */
export function listen({ help, go }) {
  let goneAt = -Infinity;
  const onKey = (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!areShortcutsOn() || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    if (event.timeStamp - goneAt < SECOND_KEY_MILLISECONDS) {
      goneAt = -Infinity;
      go(event.key);
      return;
    }
    switch (event.key) {
      case "/":
        if (focusSearch()) event.preventDefault();
        break;
      case "?":
        help();
        break;
      case "g":
        goneAt = event.timeStamp;
        break;
      case "j":
      case "k":
        if (moveRow(event.key === "j" ? 1 : -1)) event.preventDefault();
        break;
    }
  };
  addEventListener("keydown", onKey);
  return () => removeEventListener("keydown", onKey);
}

function isTyping(target) {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches("input, textarea, select"));
}

function focusSearch() {
  const search = document.querySelector("[data-search]");
  search?.focus();
  search?.select?.();
  return Boolean(search);
}

/** Moves the focus to the link or button of the next row: whatever is marked `data-row`. */
function moveRow(step) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return false;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + step));
  rows[next].focus();
  rows[next].scrollIntoView({ block: "nearest" });
  return true;
}
