/** Sinks: where events go, how far behind each is, and what it could not send. */

import { html } from "../lib/ui.js";
import { useData } from "../lib/data.js";
import { Empty, Loaded, Table, Time, ViewHeader } from "../lib/parts.js";
import { SinkActs, TONES } from "../lib/sinks.js";
import { count, duration } from "../lib/format.js";
import { href } from "../lib/router.js";

const EVERY_SECONDS = 3;
const COLUMNS = [
  { name: "name", title: "Sink" },
  { name: "state", title: "State" },
  { name: "behind", title: "Behind", isNumber: true },
  { name: "waiting", title: "Tried again", isNumber: true },
  { name: "unsent", title: "Unsent", isNumber: true },
  { name: "delivered", title: "Delivered", isNumber: true },
  { name: "missed", title: "Missed", isNumber: true },
  { name: "last", title: "Delivered last", isNumber: true },
  { name: "destination", title: "Goes to" },
  { name: "error", title: "Last error" },
];
const ACTS = { name: "acts", title: "Acts" };

/** @param {{app: import("../app.js").App}} props */
export default function Sinks({ app }) {
  const sinks = useData(app, "v1/sinks", { every: EVERY_SECONDS });
  const columns = app.can("operate") ? [...COLUMNS, ACTS] : COLUMNS;
  return html`
    <${ViewHeader} title="Sinks" />
    <${Loaded} of=${sinks} lines=${4}>
      ${({ items }) =>
        items.length === 0
          ? html`<${Empty}>The gateway's integrations file names no sink: events go nowhere but to who follows their stream.<//>`
          : html`<${Table} caption="Sinks" columns=${columns}>${items.map((each) => html`<${Row} key=${each.name} app=${app} sink=${each} onDone=${sinks.reload} />`)}<//>`}
    <//>
  `;
}

function Row({ app, sink, onDone }) {
  const { behind_events: behind } = sink;
  return html`
    <tr>
      <th scope="row"><a data-row href=${href(["sinks", sink.name])}>${sink.name}</a></th>
      <td title=${sink.reason}><span class=${`state ${TONES[sink.state] ?? ""}`}>${sink.state}</span></td>
      <td class="number">${behind === null ? "–" : count(behind)}${behind ? html` <span class="muted">${duration(sink.behind_seconds)}</span>` : ""}</td>
      <td class="number">${count(sink.waiting)}</td>
      <td class=${`number ${sink.unsent ? "is-bad" : ""}`}>${count(sink.unsent)}</td>
      <td class="number">${count(sink.delivered)}</td>
      <td class=${`number ${sink.missed ? "is-bad" : ""}`}>${count(sink.missed)}</td>
      <td class="number"><${Time} at=${sink.last_delivered_at} /></td>
      <td><code>${sink.destination}</code></td>
      <td class="text" title=${sink.last_error}>${sink.last_error ?? "–"}</td>
      ${app.can("operate") && html`<td><span class="acts"><${SinkActs} app=${app} sink=${sink} onDone=${onDone} isSmall /></span></td>`}
    </tr>
  `;
}
