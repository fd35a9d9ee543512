/** Files of the gateway, saved by the browser: a plain link would send no token. */

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

/** Returns a size like `12.3 MB`. @param {number} bytes */
export function bytesText(bytes) {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** Saves a file under a name. @param {import("../app.js").App} app @param {string} path @param {string} name */
export async function download(app, path, name) {
  const blob = await app.attempt("The download", () => app.api.blob(path));
  if (!blob) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name.replaceAll(/[^\w.-]/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
