/** What a backfill found, item by item, out of a file of its results. */

import { html, useMemo, useState } from "./ui.js";
import { Card, Empty, Field, Json, ProblemNote, Skeleton } from "./parts.js";
import { Drawing } from "./drawing.js";
import { bytesText } from "./downloads.js";
import { AT_ENCORD, usePictures } from "./pictures.js";
import { framesOf } from "./predictions.js";
import { useText } from "./texts.js";

/** A tab reads no larger file. */
const MOST_BYTES = 30_000_000;

/** @param {{app: import("../app.js").App, files: {name: string, bytes: number | null}[], path: string}} props `path` of the backfill. */
export function Findings({ app, files, path }) {
  const parts = files.filter(({ name }) => /^parts\/.*\.jsonl$/.test(name));
  const [name, setName] = useState("");
  if (!parts.length) return null;
  const part = parts.find((each) => each.name === name);
  return html`
    <${Card} title="What was found, item by item">
      <div class="filters">
        <${Field} label="Part">
          <select value=${name} onChange=${(event) => setName(event.currentTarget.value)}>
            <option value="">choose one</option>
            ${parts.map((each) => html`<option key=${each.name} value=${each.name}>${each.name.slice("parts/".length)} (${bytesText(each.bytes ?? 0)})</option>`)}
          </select>
        <//>
      </div>
      ${part && (part.bytes > MOST_BYTES ? html`<${Empty}>It is too large to be read here; download it.<//>` : html`<${Part} key=${name} app=${app} path=${path} name=${name} />`)}
    <//>
  `;
}

function Part({ app, path, name }) {
  const { text, problem } = useText(app, `${path}/results/${name}`);
  const records = useMemo(() => (text === null ? [] : recordsOf(text)), [text]);
  const [at, setAt] = useState(0);
  if (problem) return html`<${ProblemNote} problem=${problem} />`;
  if (text === null) return html`<${Skeleton} />`;
  const record = records[at];
  if (!record) return html`<${Empty}>The part holds no item.<//>`;
  const go = (step) => setAt(Math.max(0, Math.min(records.length - 1, at + step)));
  return html`
    <div class="stepper" role="group" aria-label="Items">
      <button type="button" aria-label="Item before" disabled=${at === 0} onClick=${() => go(-1)}>←</button>
      <label class="slider">
        <span>Item <b>${record.item}</b> <span class="muted">(${at + 1} of ${records.length})</span></span>
        <input type="range" min="0" max=${records.length - 1} step="1" value=${at} aria-valuetext=${`Item ${record.item}`} onInput=${(event) => setAt(Number(event.currentTarget.value))} />
      </label>
      <button type="button" aria-label="Next item" disabled=${at === records.length - 1} onClick=${() => go(1)}>→</button>
    </div>
    <p><span class=${`state ${record.state}`}>${record.state}</span> <code class="break">${record.data_path ?? record.data_uuid ?? ""}</code></p>
    ${record.state === "succeeded"
      ? html`<${Found} key=${record.item} app=${app} path=${path} part=${name} record=${record} />`
      : html`<${Json} value=${record} label="the item" />`}
  `;
}

function Found({ app, path, part, record }) {
  const frames = useMemo(() => framesOf(record.frames), [record]);
  const why = record.data_path ? null : record.data_uuid ? AT_ENCORD : "The item's record names no picture.";
  const pictureOf = usePictures(app, { path: `${path}/picture`, query: { part, item: record.item }, why }, frames);
  return html`<${Drawing} frames=${frames} pictureOf=${pictureOf} label=${`Item ${record.item}`} />`;
}

function recordsOf(text) {
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}
