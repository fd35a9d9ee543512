/** Commands: filtered, in pages, and changing as events come. */

import { Component, html, useRef, useState } from "../lib/ui.js";
import { useData, useLiveState } from "../lib/data.js";
import { CommandLink, Empty, ProblemNote, Skeleton, State, Table, Time, ViewHeader } from "../lib/parts.js";
import { FilterBar, filterOf } from "../lib/filters.js";
import { useCommands } from "../lib/command_list.js";
import { openBulk } from "../lib/bulk.js";
import { count, counted, words } from "../lib/format.js";
import { href } from "../lib/router.js";
import { withQuery } from "../lib/api.js";

/** The count costs the gateway more than a page does. */
const COUNT_EVERY_SECONDS = 10;
/** Who has scrolled so far reads: rows must not move under their eyes. */
const READING_PIXELS = 160;

const COLUMNS = [
  { name: "state", title: "State" },
  { name: "id", title: "Id" },
  { name: "type", title: "Type" },
  { name: "attempts", title: "Attempts", isNumber: true },
  { name: "accepted", title: "Accepted", isNumber: true },
  { name: "changed", title: "Changed", isNumber: true },
  { name: "error", title: "Error" },
  { name: "correlation", title: "Correlation id" },
];

/** @param {{app: import("../app.js").App, route: import("../app.js").Route}} props */
export default function Commands({ app, route }) {
  const { cursor } = route.query;
  const filter = filterOf(route.query, app.me);
  const [follows, setFollows] = useState(true);
  const body = useRef(null);
  const mode = () => {
    if (!follows) return "off";
    const isReading = scrollY > READING_PIXELS || body.current?.contains(document.activeElement);
    return isReading ? "hold" : "follow";
  };
  const list = useCommands(app, filter, cursor, mode);
  const counting = useData(app, withQuery("v1/command-count", filter), { every: follows ? COUNT_EVERY_SECONDS : 0 });
  const isFiltered = Object.keys(filter).length > 0;
  return html`
    <${ViewHeader} title="Commands">
      <span class="muted" aria-live="off">${tell(counting.data)}</span>
      <${Follow} app=${app} isOn=${follows} onChange=${(isOn) => {
        setFollows(isOn);
        if (isOn) list.reload();
      }} />
      ${app.can("operate") &&
      html`
        <button type="button" onClick=${() => openBulk(app, "cancel", filter).then(list.reload)}>Cancel ${isFiltered ? "these" : "all"}…</button>
        <button type="button" onClick=${() => openBulk(app, "replay", filter).then(list.reload)}>Send again…</button>
      `}
    <//>
    <${FilterBar} app=${app} filter=${filter} path=${["commands"]} />
    <${ProblemNote} problem=${list.problem} onRetry=${list.reload} />
    ${list.missed > 0 &&
    html`<p class="missed"><button type="button" class="small" onClick=${() => {
      scrollTo(0, 0);
      list.reload();
    }}>Show ${counted(list.missed, "new command")}</button></p>`}
    ${list.rows.length > 0
      ? html`
          <div ref=${body}>
            <${Table} caption="Commands, newest first" columns=${COLUMNS} isBusy=${list.isStale && list.isLoading}>
              ${list.rows.map((row) => html`<${Row} key=${row.id} row=${row} isPast=${Boolean(filter.state && row.state !== filter.state)} />`)}
            <//>
          </div>
        `
      : list.isLoading
        ? html`<${Skeleton} lines=${8} />`
        : !list.problem && html`<${Nothing} isFiltered=${isFiltered} next=${list.next} />`}
    <${Pages} filter=${filter} cursor=${cursor} next=${list.next} />
  `;
}

function tell(counted_) {
  if (!counted_) return "";
  const { count: value, exact } = counted_;
  return exact ? counted(value, "command") : `${count(value)} commands or more`;
}

/** Whether the list changes by itself. */
function Follow({ app, isOn, onChange }) {
  const { state } = useLiveState(app.live);
  return html`
    <button type="button" onClick=${() => onChange(!isOn)} disabled=${state === "off"} title="Whether the list changes as events come">
      ${isOn ? "❚❚ Pause list" : "▶ Follow list"}
    </button>
  `;
}

/** A command; drawn anew only where it has changed. */
class Row extends Component {
  shouldComponentUpdate(next) {
    return next.row !== this.props.row || next.isPast !== this.props.isPast;
  }

  render({ row, isPast }) {
    return html`
      <tr class=${isPast ? "is-past" : undefined}>
        <td><${State} state=${row.state} /></td>
        <th scope="row"><${CommandLink} id=${row.id} data-row title=${row.id} />${row.error && html`<span class="under-id">${words(row.error.code)}</span>`}</th>
        <td>${row.type}</td>
        <td class="number">${row.attempts || "–"}</td>
        <td class="number"><${Time} at=${row.accepted_at} /></td>
        <td class="number"><${Time} at=${row.changed_at} /></td>
        <td class="text">${row.error && html`<span title=${row.error.message}><code>${row.error.code}</code> ${row.error.message}</span>`}</td>
        <td>${row.correlationid && html`<a class="id" href=${href(["commands"], { correlationid: row.correlationid })}>${row.correlationid}</a>`}</td>
      </tr>
    `;
  }
}

function Nothing({ isFiltered, next }) {
  if (next) return html`<${Empty}>Nothing yet among those that were looked at; go on with “Older”.<//>`;
  if (!isFiltered) return html`<${Empty}>No command yet. Send one by <code>trainmaster submit</code>, or <a href="docs#tag-commands">over HTTP</a>.<//>`;
  return html`<${Empty}>No command fits this filter.<//>`;
}

function Pages({ filter, cursor, next }) {
  if (!cursor && !next) return null;
  return html`
    <nav class="pages" aria-label="Pages">
      ${cursor && html`<a class="button" href=${href(["commands"], filter)}>Newest</a>`}
      ${next && html`<a class="button" href=${href(["commands"], { ...filter, cursor: next })}>Older</a>`}
    </nav>
  `;
}
