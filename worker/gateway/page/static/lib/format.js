/** Numbers, times and JSON as people read them. */

const COUNT = new Intl.NumberFormat("en");
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const FULL = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" });

/** Returns a count like `12,345`; a dash for none. @param {number | null | undefined} value */
export function count(value) {
  return value === null || value === undefined ? "–" : COUNT.format(value);
}

/** Returns `1 command`, `2 commands`. @param {number} value @param {string} noun @param {string} [plural] */
export function counted(value, noun, plural = `${noun}s`) {
  return `${count(value)} ${value === 1 ? noun : plural}`;
}

/** Returns a span of time like `340 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${trim(seconds, seconds < 10 ? 1 : 0)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86_400) return two(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return two(Math.floor(whole / 86_400), "d", Math.floor((whole % 86_400) / 3600), "h");
}

/** Returns a time of today as `14:03:22`, of another day as `26 Nov, 14:03:22`. @param {string | number | Date | null} value */
export function clock(value) {
  if (value === null || value === undefined) return "–";
  const date = new Date(value);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? TIME.format(date) : `${DATE.format(date)}, ${TIME.format(date)}`;
}

/** Returns a time in full, with its zone. */
export function fullTime(value) {
  return FULL.format(new Date(value));
}

/** Returns `3 min ago` or `in 3 min`. @param {string | number | Date} value @param {number} now In milliseconds. */
export function ago(value, now) {
  const seconds = (now - new Date(value).getTime()) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  const told = duration(Math.max(1, Math.round(Math.abs(seconds))));
  return seconds > 0 ? `${told} ago` : `in ${told}`;
}

/** Returns JSON in lines. @param {any} value */
export function pretty(value) {
  return JSON.stringify(value, null, 2);
}

/** Returns a word of the contract as people write it: `in_doubt` is `in doubt`. @param {string} word */
export function words(word) {
  return word.replaceAll("_", " ");
}

function two(large, unit, small, smaller) {
  return small ? `${large} ${unit} ${small} ${smaller}` : `${large} ${unit}`;
}

function trim(value, digits) {
  return value.toFixed(digits).replace(/\.0$/, "");
}
