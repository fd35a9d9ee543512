/** What a person can do with one command: cancel it, settle its doubt, send it again. */

import { html, useState } from "./ui.js";
import { Field, ProblemNote } from "./parts.js";
import { PERHAPS_DONE, isOpen } from "./contract.js";
import { pathOf } from "./api.js";
import { href, navigate } from "./router.js";
import { pretty } from "./format.js";

const UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";

/** Buttons for what can be done with a command as it stands. */
export function CommandActs({ app, view, message, check, onDone }) {
  if (!app.can("operate")) return null;
  const isEnded = view.ended_at || !isOpen(view.state);
  const isDead = view.state === "failed" || view.state === "rejected";
  return html`
    ${view.state === "in_doubt" && html`<button type="button" class="primary" onClick=${() => settle(app, view, check, onDone)}>Settle the doubt…</button>`}
    ${isDead && html`<button type="button" class="primary" onClick=${() => sendAgain(app, view, message)}>Send again…</button>`}
    ${!isEnded && view.state !== "submitted" && html`<button type="button" onClick=${() => cancel(app, view, onDone)}>Cancel…</button>`}
  `;
}

async function cancel(app, view, onDone) {
  const yes = await app.confirm({
    title: "Cancel this command?",
    text: html`<p><code>${view.id}</code> ends as cancelled. What was done at the API stays: a training that runs goes on there.</p>`,
    action: "Cancel the command",
    isDangerous: true,
  });
  if (!yes) return;
  const done = await app.attempt("The cancellation", () => app.api.post(`v1/commands/${pathOf(view.id)}/cancel`));
  if (done) app.notify(...told(done));
  onDone();
}

function told({ status, leaves, in_doubt }) {
  const goesOn = Object.entries(leaves ?? {}).map(([name, value]) => `${name} ${value}`);
  const rest = [goesOn.length ? `At the API goes on: ${goesOn.join(", ")}.` : "", in_doubt ? "A change may be under way." : ""];
  switch (status) {
    case "cancelled":
      return [["Cancelled.", ...rest].filter(Boolean).join(" ")];
    case "cancelling":
      return ["It is being cancelled: what it has is written first."];
    case "already_ended":
      return ["It had ended already.", "bad"];
    case "member_of_group":
      return ["It belongs to a backfill: cancel that.", "bad"];
    default:
      return [`It was not cancelled: ${status}.`, "bad"];
  }
}

async function settle(app, view, check, onDone) {
  const resolution = await app.dialog("Settle the doubt", Settle, { view, check });
  if (!resolution) return;
  app.notify(resolution.created ? "It goes on as if the API had answered." : "Its call is sent once more.");
  onDone();
}

/** Asks what a person found at Encord. */
function Settle({ app, view, check, close }) {
  const [found, setFound] = useState("");
  const [uuid, setUuid] = useState("");
  const [problem, setProblem] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    const body = found === "created" ? { created: uuid.trim() } : { not_created: true };
    try {
      await app.api.post(`v1/commands/${pathOf(view.id)}/resolve`, body);
      close(body);
    } catch (refused) {
      if (refused.name !== "Problem") throw refused;
      setProblem(refused);
    }
  };
  const choose = (event) => setFound(event.currentTarget.value);
  return html`
    <form onSubmit=${submit}>
      <div class="modal-body">
        <p>The answer to a call that creates something was lost. Look at Encord first, then say what you found.</p>
        ${check && html`<p class="hint">${check}</p>`}
        <fieldset>
          <legend class="sr">What did the lost call do?</legend>
          <label class="check"><input type="radio" name="found" value="created" required checked=${found === "created"} onChange=${choose} /> It was created</label>
          ${found === "created" &&
          html`<${Field} label="Its uuid at Encord"><input value=${uuid} required pattern=${UUID} spellcheck=${false} onInput=${(event) => setUuid(event.currentTarget.value)} /><//>`}
          <label class="check"><input type="radio" name="found" value="nothing" checked=${found === "nothing"} onChange=${choose} /> It was not created: send the call once more</label>
        </fieldset>
        ${found === "nothing" && html`<p class="hint">If it exists all the same, it is created twice. Look at running trainings too.</p>`}
        <${ProblemNote} problem=${problem} />
      </div>
      <div class="modal-foot">
        <button type="button" onClick=${() => close()}>Not yet</button>
        <button type="submit" class="primary" disabled=${!found}>Settle</button>
      </div>
    </form>
  `;
}

async function sendAgain(app, view, message) {
  const post = (body) => app.api.post(`v1/commands/${pathOf(view.id)}/replay`, body);
  const sent = await app.dialog("Send again", Resend, { size: "large", post, code: view.error?.code, data: message?.data });
  if (!sent) return;
  app.notify("Sent again, under a new id.");
  navigate(href(["commands", sent.id]));
}

/**
 * Asks for the data with which a command is sent again; comes to the answer of the gateway.
 * @param {object} props
 * @param {(body: object) => Promise<any>} props.post Sends it.
 * @param {string} [props.code] Of the error with which it ended.
 * @param {any} [props.data] As they were; without them it is sent as it was.
 */
export function Resend({ app, post, code, data, close }) {
  const before = data === undefined || data === null ? "" : pretty(data);
  const [text, setText] = useState(before);
  const [problem, setProblem] = useState(null);
  const [isBusy, setIsBusy] = useState(false);
  const wrong = mistakeIn(text, before);
  const isRisky = PERHAPS_DONE.includes(code);
  const submit = async (event) => {
    event.preventDefault();
    if (wrong) return;
    setIsBusy(true);
    try {
      close(await post(text === before ? {} : { data: JSON.parse(text) }));
    } catch (refused) {
      if (refused.name !== "Problem") throw refused;
      setProblem(refused);
      setIsBusy(false);
    }
  };
  return html`
    <form onSubmit=${submit}>
      <div class="modal-body">
        <p>It is sent as a new command, which names this one as its cause; the dead letter is then gone.</p>
        ${before &&
        html`
          <${Field} label="Its data, as JSON" hint=${text === before ? "As it was sent. Change it where it was wrong." : "Changed."}>
            <textarea
              rows=${Math.min(20, Math.max(6, text.split("\n").length + 1))}
              spellcheck=${false}
              value=${text}
              aria-invalid=${Boolean(wrong)}
              onInput=${(event) => setText(event.currentTarget.value)}
            ></textarea>
          <//>
        `}
        ${wrong && html`<p class="wrong" role="alert">${wrong}</p>`}
        ${isRisky &&
        html`<label class="check"><input type="checkbox" required /> I looked at Encord: it was not done. (Else it may be done twice.)</label>`}
        <${ProblemNote} problem=${problem} />
      </div>
      <div class="modal-foot">
        ${text !== before && html`<button type="button" onClick=${() => setText(before)}>Undo the changes</button>`}
        <button type="button" onClick=${() => close()}>Keep as it is</button>
        <button type="submit" class="primary" disabled=${Boolean(wrong) || isBusy}>Send again</button>
      </div>
    </form>
  `;
}

function mistakeIn(text, before) {
  if (text === before) return "";
  try {
    const data = JSON.parse(text);
    return data !== null && typeof data === "object" && !Array.isArray(data) ? "" : "Data are a JSON object: { … }.";
  } catch (error) {
    return `This is no JSON: ${error.message}`;
  }
}
