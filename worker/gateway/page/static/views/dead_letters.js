/** Dead letters: what failed or was rejected, by reason; sent again or deleted, one or many. */

import { html } from "../lib/ui.js";
import { useData } from "../lib/data.js";
import { Card, Empty, Field, Loaded, More, Table, Time, ViewHeader } from "../lib/parts.js";
import { openBulk } from "../lib/bulk.js";
import { COMMAND_TYPES, ERRORS } from "../lib/contract.js";
import { count, words } from "../lib/format.js";
import { href, navigate } from "../lib/router.js";
import { withQuery } from "../lib/api.js";

const PAGE_ROWS = 100;
/** Reasons are counted over so many of the newest letters; that costs more than a page. */
const COUNTED_ROWS = 1_000;
const COUNT_EVERY_SECONDS = 15;
const NAMES = ["reason", "type", "since", "until"];
const COLUMNS = [
  { name: "id", title: "Id" },
  { name: "reason", title: "Reason" },
  { name: "type", title: "Type" },
  { name: "message", title: "Error" },
  { name: "attempts", title: "Attempts", isNumber: true },
  { name: "died", title: "Died", isNumber: true },
];

/** @param {{app: import("../app.js").App, route: import("../app.js").Route}} props */
export default function DeadLetters({ app, route }) {
  const { cursor } = route.query;
  const filter = Object.fromEntries(NAMES.filter((name) => route.query[name]).map((name) => [name, route.query[name]]));
  const { reason, ...others } = filter;
  const on = (event) => !cursor && /\.(failed|rejected)$/.test(event.type);
  const page = useData(app, withQuery("v1/dead-letters", { ...filter, cursor, limit: PAGE_ROWS }), { on });
  const newest = useData(app, withQuery("v1/dead-letters", { ...others, limit: COUNTED_ROWS }), { every: COUNT_EVERY_SECONDS });
  const reload = () => {
    page.reload();
    newest.reload();
  };
  const bulk = (act) => openBulk(app, act, filter).then(reload);
  const isFiltered = Object.keys(filter).length > 0;
  return html`
    <${ViewHeader} title="Dead letters">
      ${app.can("operate") &&
      html`
        <button type="button" onClick=${() => bulk("replayLetters")}>Send ${isFiltered ? "these" : "all"} again…</button>
        <button type="button" onClick=${() => bulk("purgeLetters")}>Delete ${isFiltered ? "these" : "all"}…</button>
      `}
    <//>
    <div class="stack">
      <${Loaded} of=${newest} lines=${2}>${(data) => html`<${Reasons} letters=${data} chosen=${reason} others=${others} />`}<//>
      <${Filter} app=${app} filter=${filter} />
      ${reason && html`<${Advice} app=${app} reason=${reason} />`}
      <${Loaded} of=${page} lines=${6}>${(data) => html`<${Letters} page=${data} filter=${filter} cursor=${cursor} />`}<//>
    </div>
  `;
}

/** How many died of what; each chooses its letters. */
function Reasons({ letters, chosen, others }) {
  const tally = new Map();
  for (const letter of letters.items) tally.set(letter.reason, (tally.get(letter.reason) ?? 0) + 1);
  if (!tally.size) return null;
  const sorted = [...tally].sort((one, other) => other[1] - one[1]);
  const isPart = letters.next_cursor !== null;
  return html`
    <nav aria-label="Reasons">
      <ul class="figures reasons">
        ${sorted.map(
          ([reason, number]) => html`
            <li key=${reason}>
              <a
                class="figure"
                aria-current=${reason === chosen ? "true" : undefined}
                href=${href(["dead-letters"], reason === chosen ? others : { ...others, reason })}
              >
                <span class="label">${words(reason)}</span>
                <span class="value">${count(number)}</span>
              </a>
            </li>
          `,
        )}
      </ul>
    </nav>
    ${isPart && html`<p class="muted">Of the newest ${count(COUNTED_ROWS)}; there are more.</p>`}
  `;
}

function Filter({ app, filter }) {
  const set = (name) => (event) => navigate(href(["dead-letters"], { ...filter, [name]: event.currentTarget.value }), { replace: true });
  const types = app.me.types?.length ? app.me.types : [...COMMAND_TYPES, "command"];
  // The newest letter of a command is found by its id.
  const find = (event) => {
    const id = event.currentTarget.value.trim();
    if (event.key === "Enter" && id) navigate(href(["dead-letters", id]));
  };
  return html`
    <form class="filters" role="search" aria-label="Filter" onSubmit=${(event) => event.preventDefault()}>
      <${Field} label="Id">
        <input type="search" data-search spellcheck=${false} placeholder="of a command, then Enter  ( / )" onKeyDown=${find} />
      <//>
      <${Field} label="Reason">
        <select value=${filter.reason ?? ""} onChange=${set("reason")}>
          <option value="">any</option>
          ${Object.keys(ERRORS).map((code) => html`<option key=${code} value=${code}>${words(code)}</option>`)}
        </select>
      <//>
      <${Field} label="Type">
        <select value=${filter.type ?? ""} onChange=${set("type")}>
          <option value="">any</option>
          ${types.map((type) => html`<option key=${type} value=${type}>${type}</option>`)}
        </select>
      <//>
      ${Object.keys(filter).length > 0 && html`<a class="button" href=${href(["dead-letters"])}>Clear</a>`}
    </form>
  `;
}

function Advice({ app, reason }) {
  const known = ERRORS[reason];
  if (!known) return null;
  return html`
    <${Card} title=${words(reason)}>
      <p><strong>${known.means}</strong> ${known.act}</p>
      <${More} app=${app} at=${known.more} />
    <//>
  `;
}

function Letters({ page, filter, cursor }) {
  if (!page.items.length) {
    const isFiltered = Object.keys(filter).length > 0;
    return html`<${Empty}>${isFiltered ? "No dead letter fits this filter." : "There is no dead letter: all that was accepted succeeded, was cancelled, or is under way."}<//>`;
  }
  return html`
    <${Table} caption="Dead letters, newest first" columns=${COLUMNS}>
      ${page.items.map(
        (letter) => html`
          <tr key=${letter.key}>
            <th scope="row"><a class="id" data-row href=${href(["dead-letters", letter.key])} title=${letter.id}>${letter.id}</a></th>
            <td><span class=${`state ${letter.state}`}>${words(letter.reason)}</span></td>
            <td>${letter.type}</td>
            <td class="text" title=${letter.error.message}>${letter.error.message}</td>
            <td class="number">${letter.attempts || "–"}</td>
            <td class="number"><${Time} at=${letter.died_at} /></td>
          </tr>
        `,
      )}
    <//>
    ${(cursor || page.next_cursor) &&
    html`
      <nav class="pages" aria-label="Pages">
        ${cursor && html`<a class="button" href=${href(["dead-letters"], filter)}>Newest</a>`}
        ${page.next_cursor && html`<a class="button" href=${href(["dead-letters"], { ...filter, cursor: page.next_cursor })}>Older</a>`}
      </nav>
    `}
  `;
}
