/** Trainings: how far each is, and the losses of a model's iterations side by side. */

import { html } from "../lib/ui.js";
import { useData, useNow } from "../lib/data.js";
import { Card, CommandLink, Empty, Field, Loaded, State, Table, Time, ViewHeader } from "../lib/parts.js";
import { LossChart, curvesOf, lastLoss, lossText } from "../lib/losses.js";
import { EVENT_STATES } from "../lib/contract.js";
import { duration, words } from "../lib/format.js";
import { href, navigate } from "../lib/router.js";
import { isOfCommand, told } from "../lib/live.js";
import { withQuery } from "../lib/api.js";
import { Pages } from "../lib/paging.js";

const PAGE_ROWS = 100;
/** No event tells of a poll. */
const EVERY_SECONDS = 5;
const TYPES = ["train", "watch_training"];
const COLUMNS = [
  { name: "id", title: "Id" },
  { name: "state", title: "State" },
  { name: "elapsed", title: "Elapsed", isNumber: true },
  { name: "poll", title: "Next poll", isNumber: true },
  { name: "deadline", title: "Deadline", isNumber: true },
  { name: "epochs", title: "Epochs", isNumber: true },
  { name: "batch", title: "Batch", isNumber: true },
  { name: "loss", title: "Last loss", isNumber: true },
  { name: "model", title: "Model" },
  { name: "error", title: "Error" },
];

/** @param {{app: import("../app.js").App, route: import("../app.js").Route}} props */
export default function Trainings({ app, route }) {
  const { state, cursor, model } = route.query;
  const on = (event) => isOfCommand(event) && TYPES.includes(told(event).type);
  const page = useData(app, withQuery("v1/trainings", { state, cursor, limit: PAGE_ROWS }), { on, every: EVERY_SECONDS });
  return html`
    <${ViewHeader} title="Trainings" />
    <${Filter} query=${route.query} items=${page.data?.items ?? []} />
    <${Loaded} of=${page} lines=${6}>
      ${({ items, next_cursor }) => {
        const shown = model ? items.filter((each) => each.model_uuid === model) : items;
        return html`
          <div class="stack">
            <${Losses} items=${items} model=${model} />
            ${shown.length
              ? html`<${Rows} items=${shown} query=${route.query} />`
              : html`<${Empty}>${state || model ? "No training fits this filter." : "There is no training yet: the commands train and watch_training are listed here."}<//>`}
            <${Pages} path=${["trainings"]} query=${route.query} next=${next_cursor} />
          </div>
        `;
      }}
    <//>
  `;
}

function Filter({ query, items }) {
  const { state, model } = query;
  const set = (name) => (event) => navigate(href(["trainings"], { state, model, [name]: event.currentTarget.value }), { replace: true });
  const models = [...new Set([model, ...items.map((each) => each.model_uuid)].filter(Boolean))];
  return html`
    <form class="filters" role="search" aria-label="Filter" onSubmit=${(event) => event.preventDefault()}>
      <${Field} label="State">
        <select data-search value=${state ?? ""} onChange=${set("state")}>
          <option value="">any</option>
          ${EVENT_STATES.map((each) => html`<option key=${each} value=${each}>${words(each)}</option>`)}
        </select>
      <//>
      <${Field} label="Model">
        <select value=${model ?? ""} onChange=${set("model")}>
          <option value="">any</option>
          ${models.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}
        </select>
      <//>
      ${(state || model) && html`<a class="button" href=${href(["trainings"])}>Clear</a>`}
    </form>
  `;
}

/** The losses of one model: the chosen one, or the one whose training was accepted last. */
function Losses({ items, model }) {
  const done = items.filter((each) => curvesOf(each.iteration?.loss_log).size);
  const chosen = model ?? done[0]?.model_uuid;
  const own = done.filter((each) => each.model_uuid === chosen);
  if (!own.length) return null;
  return html`
    <${Card} title="Losses" aside=${chosen && html`Model <span class="id">${chosen}</span>`}>
      <${LossChart} title="Loss" note="by epoch, of the listed trainings of one model" trainings=${own.map((each) => ({ name: each.id, iteration: each.iteration }))} />
    <//>
  `;
}

function Rows({ items, query }) {
  const now = useNow(items.some((each) => !each.ended_at) ? 1 : 0);
  return html`
    <${Table} caption="Trainings, newest first" columns=${COLUMNS}>
      ${items.map(
        (each) => html`
          <tr key=${each.id}>
            <th scope="row"><${CommandLink} id=${each.id} data-row title=${each.type} /></th>
            <td><${State} state=${each.state} /></td>
            <td class="number">${duration(elapsed(each, now))}</td>
            <td class="number">${each.next_poll_at ? html`<${Time} at=${each.next_poll_at} relative />` : "–"}</td>
            <td class="number"><${Time} at=${each.deadline} /></td>
            <td class="number">${each.epochs ?? "–"}</td>
            <td class="number">${each.batch_size ?? "–"}</td>
            <td class="number">${lossText(lastLoss(each.iteration))}</td>
            <td>${each.model_uuid ? html`<a class="id short" title=${each.model_uuid} href=${href(["trainings"], { ...query, cursor: "", model: each.model_uuid })}>${each.model_uuid}</a>` : "–"}</td>
            <td class="text" title=${each.error?.message}>${each.error ? html`<code>${each.error.code}</code> ${each.error.message}` : "–"}</td>
          </tr>
        `,
      )}
    <//>
  `;
}

function elapsed(training, now) {
  if (training.ended_at || !training.accepted_at) return training.elapsed_seconds;
  const seconds = (now - Date.parse(training.accepted_at)) / 1000;
  return Math.max(0, seconds < 60 ? seconds : Math.round(seconds));
}
