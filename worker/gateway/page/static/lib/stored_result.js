/** A result that is too large for its event: read from the result store when somebody asks for it. */

import { html, useState } from "./ui.js";
import { Json, ProblemNote } from "./parts.js";
import { Problem } from "./api.js";
import { bytesText, download } from "./downloads.js";

/** A tab reads no larger one. */
const MOST_BYTES = 30_000_000;

/**
 * @param {object} props
 * @param {import("../app.js").App} props.app
 * @param {any} props.view Of the command; with a result once that was read.
 * @param {string} props.path Where the gateway serves it.
 * @param {(result: any) => void} props.onLoad Is handed it.
 */
export function StoredResult({ app, view, path, onLoad }) {
  const [problem, setProblem] = useState(null);
  const [isBusy, setIsBusy] = useState(false);
  const isRead = view.result !== null;
  const load = async () => {
    setIsBusy(true);
    setProblem(null);
    try {
      onLoad(await read(app.api, path));
    } catch (refused) {
      if (refused.name !== "Problem") throw refused;
      setProblem(refused);
    } finally {
      setIsBusy(false);
    }
  };
  return html`
    <p>It is too large for an event and lies at <code class="break">${view.dataref}</code>.</p>
    <p>
      ${!isRead && html`<button type="button" disabled=${isBusy} onClick=${load}>Show it</button> `}
      <button type="button" onClick=${() => download(app, path, `${view.id}-result.json`)}>Download</button>
    </p>
    <${ProblemNote} problem=${problem} />
    ${isRead && html`<${Json} value=${view.result} label="the result" />`}
  `;
}

async function read(api, path) {
  const answer = await api.fetch(path);
  const bytes = Number(answer.headers.get("content-length"));
  if (bytes <= MOST_BYTES) return answer.json();
  await answer.body.cancel();
  throw new Problem({ status: 413, code: "too_large", title: "Too large to be shown", detail: `It has ${bytesText(bytes)}; download it.` });
}
