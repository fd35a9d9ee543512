/** One delivery: what each rule made of it, its headers and its body; run through the rules again. */

import { html, useState } from "../lib/ui.js";
import { useData } from "../lib/data.js";
import { Card, CommandLink, Empty, Facts, Json, Loaded, ProblemNote, Table, Time, ViewHeader } from "../lib/parts.js";
import { OUTCOMES, OutcomeState } from "../lib/deliveries.js";
import { bytesText } from "../lib/downloads.js";
import { counted, words } from "../lib/format.js";
import { href } from "../lib/router.js";
import { pathOf } from "../lib/api.js";

const RULE_COLUMNS = [
  { name: "rule", title: "Rule" },
  { name: "outcome", title: "Outcome" },
  { name: "commands", title: "Commands" },
  { name: "problem", title: "Why" },
];
/** A window may end at any time. */
const EVERY_SECONDS = 4;

/** @param {{app: import("../app.js").App, route: import("../app.js").Route}} props */
export default function Delivery({ app, route }) {
  const [source, ...rest] = route.path[1].split("/");
  const id = rest.join("/");
  const path = `v1/deliveries/${pathOf(source, id)}`;
  const delivery = useData(app, path, { every: EVERY_SECONDS });
  const above = html`<a href=${href(["webhooks"])}>Webhooks</a> / <a href=${href(["webhooks"], { source })}>${source}</a>`;
  return html`
    <${ViewHeader} above=${above} title=${html`<span class="id">${id}</span>`}>
      ${delivery.data &&
      html`
        <${OutcomeState} delivery=${delivery.data} />
        ${app.can("operate") && html`<button type="button" onClick=${() => void runAgain(app, path, delivery.reload)}>Replay…</button>`}
      `}
    <//>
    <${Loaded} of=${delivery} lines=${8}>${(data) => html`<${Whole} delivery=${data} />`}<//>
  `;
}

async function runAgain(app, path, onDone) {
  const done = await app.dialog("Replay this delivery", Replay, { size: "large", path });
  if (!done) return;
  app.notify(done.commands.length ? `${counted(done.commands.length, "command")} sent.` : `Nothing was sent: ${words(done.outcome)}.`);
  onDone();
}

/** Shows what the rules would make of a delivery, then has them make it. */
function Replay({ app, path, close }) {
  const [again, setAgain] = useState(false);
  const [preview, setPreview] = useState(null);
  const [problem, setProblem] = useState(null);
  const [isBusy, setIsBusy] = useState(false);
  const post = async (dry_run) => {
    setIsBusy(true);
    setProblem(null);
    try {
      return await app.api.post(`${path}/replay`, { again, dry_run });
    } catch (refused) {
      if (refused.name !== "Problem") throw refused;
      setProblem(refused);
      return undefined;
    } finally {
      setIsBusy(false);
    }
  };
  const submit = async (event) => {
    event.preventDefault();
    const done = await post(false);
    if (done) close(done);
  };
  const change = (event) => {
    setAgain(event.currentTarget.checked);
    setPreview(null);
  };
  return html`
    <form onSubmit=${submit}>
      <div class="modal-body">
        <p>Its rules run again, as the gateway's file has them now. What was made of it before is not made again.</p>
        <label class="check"><input type="checkbox" checked=${again} onChange=${change} /> Make that once more too, under new ids</label>
        ${preview &&
        html`
          <p role="status">It would come to: <strong>${preview.outcome.replaceAll("_", " ")}</strong>, ${counted(preview.commands.length, "command")}.</p>
          ${preview.commands.length > 0 && html`<${Json} value=${preview.commands} label="the commands that would be sent" />`}
        `}
        <${ProblemNote} problem=${problem} />
      </div>
      <div class="modal-foot">
        <button type="button" onClick=${() => close()}>Keep as it is</button>
        <button type="button" disabled=${isBusy} onClick=${async () => setPreview((await post(true)) ?? null)}>Only show</button>
        <button type="submit" class="primary" disabled=${isBusy}>Replay</button>
      </div>
    </form>
  `;
}

function Whole({ delivery }) {
  const headers = Object.entries(delivery.headers);
  return html`
    <div class="stack">
      <${Card} title="What each rule made of it"><${Rules} rules=${delivery.rules} /><//>
      ${delivery.windows.length > 0 && html`<${Card} title="Windows it joined"><${Windows} windows=${delivery.windows} /><//>`}
      <div class="grid pairs">
        <${Card} title="About it">
          <${Facts}
            of=${[
              ["Received", html`<${Time} at=${delivery.received_at} />`],
              ["Type", delivery.type],
              ["Body", bytesText(delivery.body_bytes)],
            ]}
          />
          <h3 class="under">Headers</h3>
          ${headers.length ? html`<${Facts} of=${headers.map(([name, value]) => [name, html`<code>${value}</code>`])} />` : html`<${Empty}>None is kept.<//>`}
        <//>
        <${Card} title="Its body" aside=${delivery.body_cut && "the first MiB"}><${Json} value=${delivery.body} label="the body" /><//>
      </div>
    </div>
  `;
}

function Rules({ rules }) {
  if (!rules.length) return html`<${Empty}>Its source had no rule.<//>`;
  return html`
    <${Table} caption="What each rule made of it" columns=${RULE_COLUMNS}>
      ${rules.map(
        (each, at) => html`
          <tr key=${at}>
            <th scope="row">${each.rule}</th>
            <td><span class=${`state ${OUTCOMES[each.outcome]?.[0] ?? ""}`} title=${OUTCOMES[each.outcome]?.[1]}>${words(each.outcome)}</span></td>
            <td class="wrap"><${Commands} ids=${each.command_ids} /></td>
            <td class="wrap">${each.problem || OUTCOMES[each.outcome]?.[1]}${each.window && html` Window <code>${each.window}</code>.`}</td>
          </tr>
        `,
      )}
    <//>
  `;
}

function Windows({ windows }) {
  return html`
    <ul class="plain">
      ${windows.map(
        (each) => html`
          <li key=${each.id}>
            <code>${each.id}</code>${" "}
            ${each.outcome ? html`<span class=${`state ${OUTCOMES[each.outcome]?.[0] ?? ""}`}>${words(each.outcome)}</span> ${each.problem}` : html`<span class="muted">still open</span>`}${" "}
            <${Commands} ids=${each.command_ids ?? []} />
          </li>
        `,
      )}
    </ul>
  `;
}

function Commands({ ids }) {
  if (!ids.length) return "–";
  return ids.map((id) => html`<${CommandLink} key=${id} id=${id} /> `);
}
