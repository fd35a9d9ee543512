/** Who did what: acts of people, over HTTP and on the command line. */

import { html, useRef, useState } from "../lib/ui.js";
import { useData } from "../lib/data.js";
import { Empty, Field, Loaded, Table, Time, ViewHeader } from "../lib/parts.js";
import { ACTS } from "../lib/contract.js";
import { href, navigate } from "../lib/router.js";
import { withQuery } from "../lib/api.js";
import { Pages } from "../lib/paging.js";

const PAGE_ROWS = 100;
/** No event tells of an act. */
const EVERY_SECONDS = 5;
const REST_MILLISECONDS = 300;
const NAMES = ["who", "act", "subject"];
const COLUMNS = [
  { name: "at", title: "When" },
  { name: "who", title: "Who" },
  { name: "act", title: "Act" },
  { name: "subject", title: "On" },
  { name: "details", title: "What came of it" },
];

/** @param {{app: import("../app.js").App, route: import("../app.js").Route}} props */
export default function Actions({ app, route }) {
  const { cursor } = route.query;
  const filter = Object.fromEntries(NAMES.filter((name) => route.query[name]).map((name) => [name, route.query[name]]));
  const page = useData(app, withQuery("v1/actions", { ...filter, cursor, limit: PAGE_ROWS }), { every: cursor ? 0 : EVERY_SECONDS });
  return html`
    <${ViewHeader} title="Who did what" />
    <${Filter} filter=${filter} />
    <${Loaded} of=${page} lines=${6}>
      ${({ items, next_cursor }) => html`
        ${items.length ? html`<${Rows} items=${items} filter=${filter} />` : html`<${Empty}>${Object.keys(filter).length || cursor ? "No act fits this filter." : "Nobody has done anything yet that is recorded here."}<//>`}
        <${Pages} path=${["actions"]} query=${route.query} next=${next_cursor} />
      `}
    <//>
  `;
}

function Filter({ filter }) {
  const [draft, setDraft] = useState(filter);
  const timer = useRef(null);
  const go = (next) => navigate(href(["actions"], next), { replace: true });
  const type = (name) => (event) => {
    const next = { ...draft, [name]: event.currentTarget.value.trim() };
    setDraft(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => go(next), REST_MILLISECONDS);
  };
  const choose = (event) => {
    const next = { ...draft, act: event.currentTarget.value };
    setDraft(next);
    go(next);
  };
  const clear = () => {
    setDraft({});
    go({});
  };
  return html`
    <form class="filters" role="search" aria-label="Filter" onSubmit=${(event) => event.preventDefault()}>
      <${Field} label="Who"><input data-search type="search" spellcheck=${false} placeholder="the name of a token" value=${draft.who ?? ""} onInput=${type("who")} /><//>
      <${Field} label="Act">
        <select value=${draft.act ?? ""} onChange=${choose}>
          <option value="">any</option>
          ${ACTS.map((act) => html`<option key=${act} value=${act}>${act}</option>`)}
        </select>
      <//>
      <${Field} label="On"><input type="search" spellcheck=${false} placeholder="an id or a name" value=${draft.subject ?? ""} onInput=${type("subject")} /><//>
      ${Object.keys(filter).length > 0 && html`<button type="button" onClick=${clear}>Clear</button>`}
    </form>
  `;
}

function Rows({ items, filter }) {
  return html`
    <${Table} caption="Acts, newest first" columns=${COLUMNS}>
      ${items.map(
        (each) => html`
          <tr key=${each.id}>
            <td><${Time} at=${each.at} /></td>
            <th scope="row"><a data-row href=${href(["actions"], { ...filter, who: each.who })} title="Only theirs">${each.who}</a></th>
            <td><code>${each.act}</code></td>
            <td>${subjectOf(each)}</td>
            <td class="wrap"><${Details} details=${each.details} /></td>
          </tr>
        `,
      )}
    <//>
  `;
}

/** What an act was done to leads there. */
function subjectOf({ act, subject }) {
  if (subject === null) return "–";
  const [kind] = act.split(".");
  const path = { command: ["commands", subject], backfill: ["backfills", subject], sink: ["sinks", subject], delivery: ["webhooks", subject] }[kind];
  return path ? html`<a class="id" href=${href(path)}>${subject}</a>` : html`<span class="id">${subject}</span>`;
}

function Details({ details }) {
  const told = Object.entries(details);
  if (!told.length) return "–";
  return told.map(([name, value], at) => html`${at > 0 && ", "}<span class="muted">${name.replaceAll("_", " ")}</span> ${typeof value === "string" ? value : JSON.stringify(value)}`);
}
