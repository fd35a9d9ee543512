/** Light, dark, or what the system says. */

const KEY = "trainmaster.theme";
const CHANGED = "trainmaster-theme";
const ORDER = ["system", "light", "dark"];

/** Returns what was chosen: `system`, `light` or `dark`. */
export function chosenTheme() {
  const kept = localStorage.getItem(KEY);
  return ORDER.includes(kept) ? kept : "system";
}

/** Chooses the next one and returns it. */
export function nextTheme() {
  const next = ORDER[(ORDER.indexOf(chosenTheme()) + 1) % ORDER.length];
  localStorage.setItem(KEY, next);
  applyTheme();
  return next;
}

/** Has the page look as was chosen. */
export function applyTheme() {
  document.documentElement.dataset.theme = chosenTheme();
  dispatchEvent(new Event(CHANGED));
}

/** Calls a function whenever colours change; returns what ends that. */
export function onThemeChange(call) {
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", call);
  addEventListener(CHANGED, call);
  return () => {
    media.removeEventListener("change", call);
    removeEventListener(CHANGED, call);
  };
}
