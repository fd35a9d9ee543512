/**
 * What a prediction found, frame by frame, whatever its task.
 *
 * @typedef {object} Found An object, or the class of a whole frame.
 * @property {string} key Tells it from the others of its frame.
 * @property {string} name
 * @property {number} confidence 0 to 1.
 * @property {string | null} color As the API gives it, where a browser knows it.
 * @property {string} objectId The same from frame to frame for the same object, where tracking is on.
 * @property {{x: number, y: number, w: number, h: number} | null} box 0 to 1 of the frame.
 * @property {{x: number, y: number}[] | null} polygon 0 to 1 of the frame.
 *
 * @typedef {object} Frame
 * @property {number} number
 * @property {Found[]} found The surest first.
 */

/** Of things without a colour of their own, by name. */
const COLORS = ["#2f6fed", "#e0592a", "#1f9d55", "#b0379f", "#c08a00", "#0f9aa8", "#8a5cf6", "#d6336c"];
const HEX = /^#[0-9a-f]{6}$/i;

/** Returns the frames of a result, in their order. @param {any} frames `{"0": …}` @returns {Frame[]} */
export function framesOf(frames) {
  return Object.entries(frames ?? {})
    .map(([number, items]) => ({ number: Number(number), found: foundIn(items) }))
    .filter(({ number }) => Number.isFinite(number))
    .sort((one, other) => one.number - other.number);
}

function foundIn(items) {
  const list = Array.isArray(items) ? items : items ? [items] : [];
  return list
    .map((item, at) => ({
      key: `${item.object_id ?? item.classification_uuid ?? ""}-${at}`,
      // Of a class the name is the question and the value its answer.
      name: String(item.bounding_box || item.polygon ? (item.name ?? item.value) : (item.value ?? item.name)),
      confidence: Number(item.confidence),
      color: HEX.test(item.color) ? item.color : null,
      objectId: item.object_id ?? "",
      box: item.bounding_box ?? null,
      polygon: Array.isArray(item.polygon) ? item.polygon : null,
    }))
    .sort((one, other) => other.confidence - one.confidence);
}

/** Returns a colour for something found. @param {Found} found */
export function colorOf(found) {
  if (found.color) return found.color;
  let sum = 0;
  for (const letter of found.name) sum = (sum * 31 + letter.codePointAt(0)) >>> 0;
  return COLORS[sum % COLORS.length];
}

/** Returns black or white, whichever is read on a colour. @param {string} color `#rrggbb` */
export function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(color.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000000" : "#ffffff";
}

/** Returns a confidence like `87 %`. @param {number} confidence */
export function confidenceText(confidence) {
  return `${Math.round(confidence * 100)} %`;
}

/** Returns where its label stands: the box's top left corner, 0 to 1 of the frame. @param {Found} found */
export function cornerOf({ box, polygon }) {
  if (box) return { x: box.x, y: box.y };
  if (polygon?.length) return { x: Math.min(...polygon.map(({ x }) => x)), y: Math.min(...polygon.map(({ y }) => y)) };
  return null;
}
