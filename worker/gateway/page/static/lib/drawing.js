/** A picture with what was found on it: outlines, labels, a slider for the confidence, a table. */

import { html, useEffect, useId, useRef, useState } from "./ui.js";
import { Empty, Table } from "./parts.js";
import { colorOf, confidenceText, cornerOf, inkOn } from "./predictions.js";
import { counted } from "./format.js";

/** Where the picture's shape is not known. */
const EMPTY = { width: 1200, height: 900 };
const LETTERS_PIXELS = 13;
/** In percent of the window's height. */
const MOST_HEIGHT = 72;
/** More labels hide the picture: of what is less sure the outline alone is drawn, until it is chosen. */
const MOST_LABELS = 12;
const COLUMNS = [
  { name: "name", title: "Found" },
  { name: "confidence", title: "Confidence", isNumber: true },
  { name: "where", title: "Where, in % of the picture" },
];

/**
 * Frames of a prediction, one at a time.
 * @param {object} props
 * @param {import("./predictions.js").Frame[]} props.frames
 * @param {(number: number) => {url: string | null, why: string | null}} props.pictureOf The picture of a frame,
 *   or why there is none; neither while it is loaded.
 * @param {string} props.label What the picture is of.
 */
export function Drawing({ frames, pictureOf, label }) {
  const [at, setAt] = useState(0);
  const [least, setLeast] = useState(0);
  const [chosen, setChosen] = useState(null);
  const place = Math.min(at, frames.length - 1);
  const frame = frames[place];
  const go = (next) => {
    setAt(Math.max(0, Math.min(frames.length - 1, next)));
    setChosen(null);
  };
  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const next = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: frames.length - 1 }[event.key];
    if (next === undefined || frames.length < 2) return;
    event.preventDefault();
    go(next);
  };
  if (!frame) return html`<${Empty}>The prediction has no frame.<//>`;
  const shown = frame.found.filter((each) => each.confidence >= least);
  const { url, why } = pictureOf(frame.number);
  return html`
    <div class="drawing" onKeyDown=${onKey}>
      <div>
        <${Canvas} url=${url} isEmpty=${!url && Boolean(why)} found=${shown} chosen=${chosen} onChoose=${setChosen} label=${`${label}, frame ${frame.number}: ${summary(shown)}`} isClip=${frames.length > 1} />
        ${why && html`<p class="muted">${why} What was found is drawn on an empty canvas of 4 : 3.</p>`}
      </div>
      <div class="drawing-side">
        <div class="drawing-acts">
          ${frames.length > 1 && html`<${Stepper} frames=${frames} place=${place} go=${go} />`}
          <label class="slider">
            <span>Confidence at least <b>${confidenceText(least)}</b></span>
            <input type="range" min="0" max="1" step="0.01" value=${least} aria-valuetext=${confidenceText(least)} onInput=${(event) => setLeast(Number(event.currentTarget.value))} />
          </label>
        </div>
        <p class="sr" role="status">${frames.length > 1 ? `Frame ${frame.number}: ` : ""}${shown.length} of ${counted(frame.found.length, "thing")} shown</p>
        <${List} frame=${frame} shown=${shown} chosen=${chosen} onChoose=${setChosen} />
      </div>
    </div>
  `;
}

function summary(shown) {
  if (!shown.length) return "nothing found";
  const tally = new Map();
  for (const { name } of shown) tally.set(name, (tally.get(name) ?? 0) + 1);
  return [...tally].map(([name, number]) => (number > 1 ? `${number} × ${name}` : name)).join(", ");
}

function Stepper({ frames, place, go }) {
  const { number } = frames[place];
  return html`
    <div class="stepper" role="group" aria-label="Frames">
      <button type="button" aria-label="Frame before" disabled=${place === 0} onClick=${() => go(place - 1)}>←</button>
      <label class="slider">
        <span>Frame <b>${number}</b> <span class="muted">(${place + 1} of ${frames.length})</span></span>
        <input type="range" min="0" max=${frames.length - 1} step="1" value=${place} aria-valuetext=${`Frame ${number}`} onInput=${(event) => go(Number(event.currentTarget.value))} />
      </label>
      <button type="button" aria-label="Next frame" disabled=${place === frames.length - 1} onClick=${() => go(place + 1)}>→</button>
    </div>
  `;
}

function Canvas({ url, isEmpty, found, chosen, onChoose, label, isClip }) {
  const holder = useRef(null);
  const [size, setSize] = useState(EMPTY);
  const [scale, setScale] = useState(1);
  const { width, height } = isEmpty ? EMPTY : size;
  useEffect(() => {
    const element = holder.current;
    if (!element) return undefined;
    const measure = () => setScale(width / Math.max(1, element.clientWidth));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [width]);
  const onLoad = ({ currentTarget: { naturalWidth, naturalHeight } }) => setSize({ width: naturalWidth, height: naturalHeight });
  // The surest are drawn last, and what is chosen over all.
  const order = [...found].reverse().sort((one, other) => (one.key === chosen) - (other.key === chosen));
  return html`
    <div ref=${holder} class=${`canvas ${isEmpty ? "is-empty" : ""} ${chosen ? "has-chosen" : ""}`} tabindex=${isClip ? 0 : undefined} role=${isClip ? "group" : undefined} aria-label=${isClip ? "The picture; left and right go through its frames" : undefined} style=${sizeOf(width, height)}>
      ${url && html`<img src=${url} alt="" onLoad=${onLoad} />`}
      <svg viewBox=${`0 0 ${width} ${height}`} role="img" aria-label=${label}>
        ${order.map((each) => html`<${Shape} key=${each.key} found=${each} width=${width} height=${height} scale=${scale} isChosen=${each.key === chosen} isLabelled=${each.key === chosen || found.indexOf(each) < MOST_LABELS} onChoose=${onChoose} />`)}
        ${classesOf(found).map((each, at) => html`<${Label} key=${each.key} found=${each} x=${0} y=${at * LETTERS_PIXELS * 1.7 * scale} scale=${scale} width=${width} />`)}
      </svg>
    </div>
  `;
}

/** As wide as there is room, and no higher than a person sees at once; small ones are drawn larger. */
function sizeOf(width, height) {
  return { width: `min(100%, 60rem, ${(MOST_HEIGHT * width) / height}vh)`, aspectRatio: `${width} / ${height}` };
}

function classesOf(found) {
  return found.filter((each) => !each.box && !each.polygon);
}

function Shape({ found, width, height, scale, isChosen, isLabelled, onChoose }) {
  const corner = cornerOf(found);
  if (!corner) return null;
  const color = colorOf(found);
  const outline = found.box
    ? { x: found.box.x * width, y: found.box.y * height, width: Math.max(0, found.box.w * width), height: Math.max(0, found.box.h * height) }
    : { points: found.polygon.map(({ x, y }) => `${x * width},${y * height}`).join(" ") };
  const tag = found.box ? "rect" : "polygon";
  const stroke = { "vector-effect": "non-scaling-stroke", "stroke-linejoin": "round" };
  const labelHeight = LETTERS_PIXELS * 1.5 * scale;
  const above = corner.y * height - labelHeight;
  return html`
    <g class=${`shape ${isChosen ? "is-chosen" : ""}`} onClick=${() => onChoose(isChosen ? null : found.key)}>
      <title>${found.name}, ${confidenceText(found.confidence)}</title>
      <${tag} ...${outline} ...${stroke} fill="none" stroke="#000000" stroke-opacity="0.35" stroke-width=${isChosen ? 6 : 4} />
      <${tag} ...${outline} ...${stroke} fill=${color} fill-opacity=${isChosen ? 0.35 : found.polygon ? 0.2 : 0.06} stroke=${color} stroke-width=${isChosen ? 4 : 2} />
      ${isLabelled && html`<${Label} found=${found} x=${corner.x * width} y=${Math.max(0, above)} scale=${scale} width=${width} />`}
    </g>
  `;
}

/** A name and a confidence on the thing's own colour, as large as letters of the page. */
function Label({ found, x, y, scale, width }) {
  const color = colorOf(found);
  const text = `${found.name} ${confidenceText(found.confidence)}`;
  const letters = LETTERS_PIXELS * scale;
  // Of a letter's width nobody tells before it is drawn; this is seldom too narrow.
  const wide = (text.length * 0.58 + 0.8) * letters;
  const left = Math.max(0, Math.min(x, width - wide));
  return html`
    <rect x=${left} y=${y} width=${wide} height=${letters * 1.5} fill=${color} rx=${2 * scale} />
    <text x=${left + letters * 0.35} y=${y + letters * 1.1} font-size=${letters} fill=${inkOn(color)}>${text}</text>
  `;
}

function List({ frame, shown, chosen, onChoose }) {
  const id = useId();
  if (!shown.length) {
    return html`<${Empty}>${frame.found.length ? "All that was found is less sure than that." : "Nothing was found."}<//>`;
  }
  return html`
    <${Table} caption=${`Found on frame ${frame.number}, the surest first`} columns=${COLUMNS}>
      ${shown.map(
        (each, at) => html`
          <tr key=${each.key} class=${each.key === chosen ? "is-chosen" : ""} onMouseEnter=${() => onChoose(each.key)} onMouseLeave=${() => onChoose(null)}>
            <th scope="row">
              <button type="button" class="small found" id=${`${id}-${at}`} aria-pressed=${each.key === chosen} onFocus=${() => onChoose(each.key)} onClick=${() => onChoose(each.key)}>
                <svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" rx="2" fill=${colorOf(each)} /></svg>
                ${each.name}
              </button>
            </th>
            <td class="number">${confidenceText(each.confidence)}</td>
            <td>${whereText(each)}</td>
          </tr>
        `,
      )}
    <//>
  `;
}

function whereText({ box, polygon }) {
  const percent = (value) => Math.round(value * 1000) / 10;
  if (box) return `left ${percent(box.x)}, top ${percent(box.y)}, ${percent(box.w)} wide, ${percent(box.h)} high`;
  if (polygon) return counted(polygon.length, "corner");
  return "the whole frame";
}
