/** Backfills: how far each is and how fast, paused and resumed where they are listed. */

import { html } from "../lib/ui.js";
import { useData, useNow } from "../lib/data.js";
import { Empty, Loaded, State, Table, Time, ViewHeader } from "../lib/parts.js";
import { BackfillActs, Progress } from "../lib/backfill_parts.js";
import { hasEnded, meanRate, rateText, secondsLeft } from "../lib/backfills.js";
import { count, duration } from "../lib/format.js";
import { href } from "../lib/router.js";
import { withQuery } from "../lib/api.js";
import { Pages } from "../lib/paging.js";

const PAGE_ROWS = 50;
const EVERY_SECONDS = 3;
const COLUMNS = [
  { name: "id", title: "Id" },
  { name: "state", title: "State" },
  { name: "failed", title: "Failed", isNumber: true },
  { name: "progress", title: "Progress" },
  { name: "rate", title: "Rate", isNumber: true },
  { name: "left", title: "Time left", isNumber: true },
  { name: "begun", title: "Begun", isNumber: true },
  { name: "took", title: "Took", isNumber: true },
];
const ACTS = { name: "acts", title: "Acts" };

/** @param {{app: import("../app.js").App, route: import("../app.js").Route}} props */
export default function Backfills({ app, route }) {
  const { cursor } = route.query;
  const on = (event) => event.type.startsWith("backfill.");
  const page = useData(app, withQuery("v1/backfills", { cursor, limit: PAGE_ROWS }), { on, every: EVERY_SECONDS });
  const now = useNow(1);
  const columns = app.can("operate") ? [...COLUMNS, ACTS] : COLUMNS;
  return html`
    <${ViewHeader} title="Backfills" />
    <${Loaded} of=${page} lines=${6}>
      ${({ items, next_cursor }) =>
        items.length === 0
          ? html`<${Empty}>No backfill was begun, or it ended too long ago. One is started by <code>trainmaster backfill run</code> or <code>POST /v1/backfills</code>.<//>`
          : html`
              <${Table} caption="Backfills, begun last first" columns=${columns}>
                ${items.map((each) => html`<${Row} key=${each.id} app=${app} backfill=${each} now=${now} onDone=${page.reload} />`)}
              <//>
              <${Pages} path=${["backfills"]} query=${route.query} next=${next_cursor} />
            `}
    <//>
  `;
}

function Row({ app, backfill, now, onDone }) {
  const rate = meanRate(backfill, now);
  const end = backfill.ended_at ? Date.parse(backfill.ended_at) : now;
  const took = backfill.begun_at ? Math.max(0, Math.round((end - Date.parse(backfill.begun_at)) / 1000)) : null;
  return html`
    <tr>
      <th scope="row"><a class="id" data-row href=${href(["backfills", backfill.id])}>${backfill.id}</a></th>
      <td title=${backfill.reason}><${State} state=${backfill.state} /></td>
      <td class=${`number ${backfill.failed ? "is-bad" : ""}`}>${count(backfill.failed)}</td>
      <td><${Progress} backfill=${backfill} /></td>
      <td class="number">${rateText(rate)}</td>
      <td class="number">${hasEnded(backfill) ? "–" : duration(whole(secondsLeft(backfill, rate)))}</td>
      <td class="number"><${Time} at=${backfill.begun_at} /></td>
      <td class="number">${duration(took)}</td>
      ${app.can("operate") && html`<td><span class="acts"><${BackfillActs} app=${app} backfill=${backfill} onDone=${onDone} isSmall /></span></td>`}
    </tr>
  `;
}

function whole(seconds) {
  return seconds === null ? null : Math.ceil(seconds);
}
