/** One sink: how it stands, and the events that it could not send. */

import { html } from "../lib/ui.js";
import { useData } from "../lib/data.js";
import { Card, CommandLink, Empty, Facts, Loaded, Table, Time, ViewHeader } from "../lib/parts.js";
import { SinkActs, TONES } from "../lib/sinks.js";
import { count, duration } from "../lib/format.js";
import { href } from "../lib/router.js";
import { pathOf, withQuery } from "../lib/api.js";
import { Pages } from "../lib/paging.js";

const EVERY_SECONDS = 3;
const PAGE_ROWS = 100;
const COLUMNS = [
  { name: "subject", title: "Command" },
  { name: "type", title: "Event" },
  { name: "time", title: "Happened", isNumber: true },
  { name: "at", title: "Given up", isNumber: true },
  { name: "error", title: "Error" },
];

/** @param {{app: import("../app.js").App, route: import("../app.js").Route}} props */
export default function Sink({ app, route }) {
  const [, name] = route.path;
  const sinks = useData(app, "v1/sinks", { every: EVERY_SECONDS });
  const sink = sinks.data?.items.find((each) => each.name === name);
  const unsent = useData(app, withQuery(`v1/sinks/${pathOf(name)}/unsent`, { cursor: route.query.cursor, limit: PAGE_ROWS }), { every: EVERY_SECONDS });
  const reload = () => {
    sinks.reload();
    unsent.reload();
  };
  return html`
    <${ViewHeader} above=${html`<a href=${href(["sinks"])}>Sinks</a>`} title=${name}>
      ${sink && html`<span class=${`state ${TONES[sink.state] ?? ""}`}>${sink.state}</span><${SinkActs} app=${app} sink=${sink} onDone=${reload} />`}
    <//>
    <div class="stack">
      ${sink?.reason && html`<${Card} title="Why it is paused" kind="alarm"><p class="break">${sink.reason}</p><//>`}
      <${Card} title="How it stands">
        <${Loaded} of=${sinks}>${() => (sink ? html`<${About} sink=${sink} />` : html`<${Empty}>The gateway's integrations file has no such sink.<//>`)}<//>
      <//>
      <${Card} title="What it could not send">
        <${Loaded} of=${unsent}>
          ${({ items, next_cursor }) => html`
            <${Unsent} items=${items} />
            <${Pages} path=${route.path} query=${route.query} next=${next_cursor} />
          `}
        <//>
      <//>
    </div>
  `;
}

function About({ sink }) {
  return html`
    <${Facts}
      of=${[
        ["Goes to", html`<code>${sink.destination}</code>`],
        ["A gateway sends for it", sink.running ? "yes" : "no"],
        ["Behind", sink.behind_events === null ? "not known" : `${count(sink.behind_events)} events, ${duration(sink.behind_seconds)}`],
        ["Tried again", count(sink.waiting)],
        ["Unsent", count(sink.unsent)],
        ["Delivered", count(sink.delivered)],
        ["Delivered last", sink.last_delivered_at && html`<${Time} at=${sink.last_delivered_at} />`],
        ["Failed attempts", count(sink.failed_attempts)],
        ["Missed", sink.missed ? html`${count(sink.missed)}, last <${Time} at=${sink.missed_at} />` : "0"],
        ["Last error", sink.last_error && html`${sink.last_error} <span class="muted"><${Time} at=${sink.last_error_at} /></span>`],
      ]}
    />
  `;
}

function Unsent({ items }) {
  if (!items.length) return html`<${Empty}>There is nothing: all that was tried was delivered, or is tried still.<//>`;
  return html`
    <${Table} caption="Events that could not be sent, newest first" columns=${COLUMNS}>
      ${items.map(
        (each) => html`
          <tr key=${each.id}>
            <th scope="row"><${CommandLink} id=${each.subject} data-row /></th>
            <td>${each.type}</td>
            <td class="number"><${Time} at=${each.time} /></td>
            <td class="number"><${Time} at=${each.at} /></td>
            <td class="text" title=${each.error}>${each.error}</td>
          </tr>
        `,
      )}
    <//>
  `;
}
