/** What a person does with a sink. */

import { html, useState } from "./ui.js";
import { Field, ProblemNote } from "./parts.js";
import { pathOf } from "./api.js";
import { counted } from "./format.js";

/** How each state of a sink looks. */
export const TONES = { running: "good", failing: "bad", paused: "warn", "not running": "bad" };

/** Buttons for what can be done with a sink. */
export function SinkActs({ app, sink, onDone, isSmall = false }) {
  if (!app.can("operate")) return null;
  const button = (title, act, kind = "") =>
    html`<button type="button" class=${isSmall ? "small" : kind} aria-label=${isSmall ? `${title.replace("…", "")} ${sink.name}` : undefined} onClick=${() => void act(app, sink).then((done) => done && onDone())}>${title}</button>`;
  return html`${sink.paused ? button("Resume…", resume, "primary") : button("Pause…", pause)} ${button("Recover…", recover)}`;
}

async function pause(app, sink) {
  const done = await app.dialog(`Pause the sink ${sink.name}`, Pause, { sink });
  if (done) app.notify(`The sink ${sink.name} is paused.`);
  return Boolean(done);
}

async function resume(app, sink) {
  const yes = await app.confirm({
    title: `Resume the sink ${sink.name}?`,
    text: "What waits is sent, and tried for three more days.",
    action: "Resume",
  });
  if (!yes) return false;
  const done = await app.attempt("The resumption", () => app.api.post(`v1/sinks/${pathOf(sink.name)}/resume`));
  if (done) app.notify(`The sink ${sink.name} goes on.`);
  return Boolean(done);
}

async function recover(app, sink) {
  const done = await app.dialog(`Send events of ${sink.name} again`, Recover, { sink });
  if (!done) return false;
  if (!done.recovered) app.notify("The sink has not come to that time yet: nothing is sent twice.", "bad");
  else app.notify(done.events === null ? "All since then is sent again." : `${counted(done.events, "event")} sent again.`);
  return true;
}

/** Returns a form's state, and what posts its body and closes the dialog with the answer. */
function useSending(app, path, close) {
  const [problem, setProblem] = useState(null);
  const [isBusy, setIsBusy] = useState(false);
  const send = async (body) => {
    setIsBusy(true);
    try {
      close(await app.api.post(path, body));
    } catch (refused) {
      if (refused.name !== "Problem") throw refused;
      setProblem(refused);
      setIsBusy(false);
    }
  };
  return { problem, isBusy, send };
}

function Pause({ app, sink, close }) {
  const [reason, setReason] = useState("");
  const { problem, isBusy, send } = useSending(app, `v1/sinks/${pathOf(sink.name)}/pause`, close);
  const submit = (event) => {
    event.preventDefault();
    void send(reason.trim() ? { reason: reason.trim() } : {});
  };
  return html`
    <form onSubmit=${submit}>
      <div class="modal-body">
        <p>Its events wait until it is resumed; workers go on.</p>
        <${Field} label="Reason" hint="Others see it."><input value=${reason} maxlength="200" autofocus onInput=${(event) => setReason(event.currentTarget.value)} /><//>
        <${ProblemNote} problem=${problem} />
      </div>
      <${Foot} action="Pause" isBusy=${isBusy} close=${close} />
    </form>
  `;
}

function Recover({ app, sink, close }) {
  const [isAll, setIsAll] = useState(false);
  const [since, setSince] = useState("");
  const { problem, isBusy, send } = useSending(app, `v1/sinks/${pathOf(sink.name)}/recover`, close);
  const submit = (event) => {
    event.preventDefault();
    const body = { ...(since ? { since: new Date(since).toISOString() } : {}), ...(isAll ? { all: true } : {}) };
    void send(body);
  };
  const choose = (event) => setIsAll(event.currentTarget.value === "all");
  return html`
    <form onSubmit=${submit}>
      <div class="modal-body">
        <fieldset>
          <legend class="sr">Which events?</legend>
          <label class="check"><input type="radio" name="which" value="unsent" checked=${!isAll} onChange=${choose} /> What could not be sent: ${counted(sink.unsent, "event")}</label>
          <label class="check"><input type="radio" name="which" value="all" checked=${isAll} onChange=${choose} /> All that the sink wants, also what was delivered</label>
        </fieldset>
        <${Field} label="Since" hint=${isAll ? "Needed: what was delivered comes again, under the same ids." : "Only events that are not older; empty for all."}>
          <input type="datetime-local" step="1" value=${since} required=${isAll} onInput=${(event) => setSince(event.currentTarget.value)} />
        <//>
        <${ProblemNote} problem=${problem} />
      </div>
      <${Foot} action="Send again" isBusy=${isBusy} close=${close} />
    </form>
  `;
}

function Foot({ action, isBusy, close }) {
  return html`
    <div class="modal-foot">
      <button type="button" onClick=${() => close()}>Keep as it is</button>
      <button type="submit" class="primary" disabled=${isBusy}>${action}</button>
    </div>
  `;
}
