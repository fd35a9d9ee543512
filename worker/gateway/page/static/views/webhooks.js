/** Webhooks: from whom deliveries may come, which came, and what became of each. */

import { html } from "../lib/ui.js";
import { useData } from "../lib/data.js";
import { Card, CommandLink, Empty, Field, Loaded, Table, Time, ViewHeader } from "../lib/parts.js";
import { OUTCOMES, OutcomeState, deliveryHref } from "../lib/deliveries.js";
import { words } from "../lib/format.js";
import { href, navigate } from "../lib/router.js";
import { withQuery } from "../lib/api.js";
import { Pages } from "../lib/paging.js";

const PAGE_ROWS = 100;
/** No event tells of a delivery of which nothing was made. */
const EVERY_SECONDS = 4;
const SOURCE_COLUMNS = [
  { name: "name", title: "Source" },
  { name: "scheme", title: "Signed as" },
  { name: "address", title: "Sent to" },
  { name: "rules", title: "Rules" },
  { name: "commands", title: "Commands they make" },
];
const COLUMNS = [
  { name: "id", title: "Delivery" },
  { name: "source", title: "Source" },
  { name: "type", title: "Type" },
  { name: "outcome", title: "Outcome" },
  { name: "commands", title: "Commands" },
  { name: "received", title: "Received", isNumber: true },
];
const MOST_LINKS = 3;

/** @param {{app: import("../app.js").App, route: import("../app.js").Route}} props */
export default function Webhooks({ app, route }) {
  const { source, outcome, cursor } = route.query;
  const sources = useData(app, "v1/webhooks");
  const page = useData(app, withQuery("v1/deliveries", { source, outcome, cursor, limit: PAGE_ROWS }), { every: cursor ? 0 : EVERY_SECONDS });
  return html`
    <${ViewHeader} title="Webhooks" />
    <div class="stack">
      <${Card} title="Sources">
        <${Loaded} of=${sources} lines=${2}>${({ items }) => html`<${Sources} items=${items} />`}<//>
      <//>
      <div>
        <h2 class="under">Deliveries</h2>
        <${Filter} query=${route.query} sources=${sources.data?.items ?? []} />
        <${Loaded} of=${page} lines=${6}>
          ${({ items, next_cursor }) => html`
            <${Deliveries} items=${items} isFiltered=${Boolean(source || outcome || cursor)} />
            <${Pages} path=${["webhooks"]} query=${route.query} next=${next_cursor} />
          `}
        <//>
      </div>
    </div>
  `;
}

function Sources({ items }) {
  if (!items.length) return html`<${Empty}>The gateway's integrations file names no source: no delivery is taken.<//>`;
  return html`
    <${Table} caption="Sources of deliveries" columns=${SOURCE_COLUMNS}>
      ${items.map(
        (each) => html`
          <tr key=${each.name}>
            <th scope="row">${each.name}</th>
            <td>${each.scheme}</td>
            <td>${each.address ? html`<code>${each.address}</code>` : html`<span class="muted">our own events</span>`}</td>
            <td class="wrap">${each.rules.join(", ") || "–"}</td>
            <td class="wrap">${each.commands.join(", ") || "–"}</td>
          </tr>
        `,
      )}
    <//>
  `;
}

function Filter({ query, sources }) {
  const { source, outcome } = query;
  const set = (name) => (event) => navigate(href(["webhooks"], { source, outcome, [name]: event.currentTarget.value }), { replace: true });
  const names = [...new Set([source, ...sources.map((each) => each.name)].filter(Boolean))];
  return html`
    <form class="filters" role="search" aria-label="Filter" onSubmit=${(event) => event.preventDefault()}>
      <${Field} label="Source">
        <select data-search value=${source ?? ""} onChange=${set("source")}>
          <option value="">any</option>
          ${names.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}
        </select>
      <//>
      <${Field} label="Outcome of a rule">
        <select value=${outcome ?? ""} onChange=${set("outcome")}>
          <option value="">any</option>
          ${Object.keys(OUTCOMES).map((each) => html`<option key=${each} value=${each}>${words(each)}</option>`)}
        </select>
      <//>
      ${(source || outcome) && html`<a class="button" href=${href(["webhooks"])}>Clear</a>`}
    </form>
  `;
}

function Deliveries({ items, isFiltered }) {
  if (!items.length) return html`<${Empty}>${isFiltered ? "No delivery fits this filter." : "No delivery came, or none is kept any longer."}<//>`;
  return html`
    <${Table} caption="Deliveries, newest first" columns=${COLUMNS}>
      ${items.map(
        (each) => html`
          <tr key=${`${each.source}/${each.id}`}>
            <th scope="row"><a class="id" data-row href=${deliveryHref(each)}>${each.id}</a></th>
            <td>${each.source}</td>
            <td>${each.type ?? "–"}</td>
            <td><${OutcomeState} delivery=${each} /></td>
            <td>
              ${each.command_ids.slice(0, MOST_LINKS).map((id) => html`<${CommandLink} key=${id} id=${id} class="id short" title=${id} /> `)}
              ${each.command_ids.length > MOST_LINKS && html`<span class="muted">and ${each.command_ids.length - MOST_LINKS} more</span>`}
              ${!each.command_ids.length && "–"}
            </td>
            <td class="number"><${Time} at=${each.received_at} /></td>
          </tr>
        `,
      )}
    <//>
  `;
}
