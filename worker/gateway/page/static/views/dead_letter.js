/** One dead letter: its error, what was tried, the command as it came; sent again or deleted. */

import { html } from "../lib/ui.js";
import { useData } from "../lib/data.js";
import { Card, CommandLink, Empty, Facts, Json, Loaded, More, Time, ViewHeader } from "../lib/parts.js";
import { Resend } from "../lib/command_acts.js";
import { ERRORS } from "../lib/contract.js";
import { ErrorLine } from "../lib/timeline.js";
import { words } from "../lib/format.js";
import { href, navigate } from "../lib/router.js";
import { pathOf } from "../lib/api.js";

/** @param {{app: import("../app.js").App, route: import("../app.js").Route}} props */
export default function DeadLetter({ app, route }) {
  const [, key] = route.path;
  const path = `v1/dead-letters/${pathOf(key)}`;
  const letter = useData(app, path);
  return html`
    <${ViewHeader} above=${html`<a href=${href(["dead-letters"])}>Dead letters</a>`} title=${html`<span class="id">${letter.data?.id ?? key}</span>`}>
      ${letter.data && app.can("operate") && html`<${Acts} app=${app} letter=${letter.data} path=${path} />`}
    <//>
    <${Loaded} of=${letter} lines=${8}>${(data) => html`<${Letter} app=${app} letter=${data} />`}<//>
  `;
}

function Acts({ app, letter, path }) {
  const sendAgain = async () => {
    const post = (body) => app.api.post(`${path}/replay`, body);
    const sent = await app.dialog("Send again", Resend, { size: "large", post, code: letter.reason, data: dataOf(letter) });
    if (!sent) return;
    app.notify("Sent again, under a new id.");
    navigate(href(["commands", sent.id]));
  };
  const remove = async () => {
    const yes = await app.confirm({
      title: "Delete this dead letter?",
      text: "It is gone for good: nobody can send this command again from here.",
      action: "Delete",
      isDangerous: true,
    });
    if (!yes) return;
    const done = await app.attempt("The deletion", async () => {
      await app.api.delete(path);
      return true;
    });
    if (!done) return;
    app.notify("The dead letter is deleted.");
    navigate(href(["dead-letters"]), { replace: true });
  };
  return html`
    <button type="button" class="primary" onClick=${sendAgain}>Send again…</button>
    <button type="button" onClick=${remove}>Delete…</button>
  `;
}

function Letter({ app, letter }) {
  const { error, reason } = letter;
  const known = ERRORS[reason];
  return html`
    <div class="stack">
      <${Card} title="Why it died, and what to do" kind="bad">
        <p class="error-line"><${ErrorLine} error=${error} /></p>
        ${error.problems?.length > 0 &&
        html`<ul class="problems">${error.problems.map((each) => html`<li key=${each.path}><code>${each.path || "the whole"}</code> ${each.message}</li>`)}</ul>`}
        ${known && html`<p><strong>${known.means}</strong> ${known.act}</p><${More} app=${app} at=${known.more} />`}
      <//>
      <div class="grid pairs">
        <${Card} title="The letter">
          <${Facts}
            of=${[
              ["Command", letter.state === "rejected" ? html`<span class="id">${letter.id}</span>` : html`<${CommandLink} id=${letter.id} />`],
              ["Type", letter.type],
              ["Ended as", html`<span class=${`state ${letter.state}`}>${words(letter.state)}</span>`],
              ["Died", html`<${Time} at=${letter.died_at} />`],
              ["Attempts", letter.attempts],
              ["Lane", letter.lane],
              ["Key", html`<span class="id">${letter.key}</span>`],
            ]}
          />
        <//>
        <${Card} title="Earlier attempts">
          ${letter.history.length === 0
            ? html`<${Empty}>There was none before the last.<//>`
            : html`<ol class="history">${letter.history.map((each, at) => html`<li key=${at}><${ErrorLine} error=${each} /></li>`)}</ol>`}
        <//>
        <${Card} title="The command as it came" kind="wide"><${Text} letter=${letter} /><//>
      </div>
    </div>
  `;
}

function Text({ letter }) {
  if (letter.text === null) {
    return html`<p class="muted">It is no UTF-8; these are its bytes in base64.</p><${Json} value=${letter.text_base64} label="the message in base64" />`;
  }
  return html`<${Json} value=${parsed(letter.text) ?? letter.text} label="the command as it came" />`;
}

/** Returns the data of a letter's command; undefined where they can't be read or lie elsewhere. */
function dataOf(letter) {
  return parsed(letter.text)?.data ?? undefined;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
