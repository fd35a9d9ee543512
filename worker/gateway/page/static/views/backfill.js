/** One backfill: how far, how fast, what failed and why; its report, its files, what was found. */

import { html, useState } from "../lib/ui.js";
import { useData, useNow } from "../lib/data.js";
import { Card, Empty, Facts, Loaded, State, Table, Time, ViewHeader } from "../lib/parts.js";
import { BackfillActs, Progress } from "../lib/backfill_parts.js";
import { hasEnded, rateText, secondsLeft, useRate } from "../lib/backfills.js";
import { ERRORS } from "../lib/contract.js";
import { bytesText, download } from "../lib/downloads.js";
import { Report } from "../lib/report.js";
import { Findings } from "../lib/findings.js";
import { count, duration, words } from "../lib/format.js";
import { href } from "../lib/router.js";
import { pathOf } from "../lib/api.js";

const EVERY_SECONDS = 2;
const FILES_EVERY_SECONDS = 15;
const REPORT = "report.html";
const FILE_COLUMNS = [
  { name: "name", title: "File" },
  { name: "bytes", title: "Size", isNumber: true },
  { name: "get", title: "Download" },
];
const FAILURE_COLUMNS = [
  { name: "reason", title: "Reason" },
  { name: "count", title: "Items", isNumber: true },
  { name: "means", title: "What it means, and what to do" },
];

/** @param {{app: import("../app.js").App, route: import("../app.js").Route}} props */
export default function Backfill({ app, route }) {
  const [, id] = route.path;
  const [isEnded, setIsEnded] = useState(false);
  const on = (event) => event.subject === id;
  const path = `v1/backfills/${pathOf(id)}`;
  const view = useData(app, path, { on, every: isEnded ? 0 : EVERY_SECONDS });
  const { data } = view;
  if (data && hasEnded(data) !== isEnded) setIsEnded(!isEnded);
  const above = html`<a href=${href(["backfills"])}>Backfills</a>`;
  return html`
    <${ViewHeader} above=${above} title=${html`<span class="id">${id}</span>`}>
      ${data && html`<${State} state=${data.state} /><${BackfillActs} app=${app} backfill=${data} onDone=${view.reload} />`}
    <//>
    <${Loaded} of=${view} lines=${8}>${(backfill) => html`<${Whole} app=${app} backfill=${backfill} path=${path} />`}<//>
  `;
}

function Whole({ app, backfill, path }) {
  const isBegun = Boolean(backfill.begun_at);
  const every = hasEnded(backfill) ? 0 : FILES_EVERY_SECONDS;
  // What has ended has other files than what runs.
  const files = useData(app, isBegun ? `${path}/results${hasEnded(backfill) ? "?" : ""}` : null, { every });
  return html`
    <div class="stack">
      ${backfill.reason && html`<${Card} title=${`Why it is ${words(backfill.state)}`} kind=${backfill.state === "failed" ? "bad" : "alarm"}><p class="break">${backfill.reason}</p><//>`}
      <${Numbers} backfill=${backfill} />
      <div class="grid pairs">
        <${Failures} app=${app} backfill=${backfill} />
        <${Card} title="About it"><${About} backfill=${backfill} /><//>
      </div>
      ${isBegun && html`<${Files} app=${app} files=${files} id=${backfill.id} path=${path} />`}
      ${files.data?.items.length > 0 && html`<${Findings} app=${app} files=${files.data.items} path=${path} />`}
    </div>
  `;
}

function Numbers({ backfill }) {
  const now = useNow(hasEnded(backfill) ? 0 : 1);
  const rateOf = useRate();
  const rate = rateOf(backfill, now);
  const left = secondsLeft(backfill, rate);
  const end = backfill.ended_at ? Date.parse(backfill.ended_at) : now;
  const took = backfill.begun_at ? Math.max(0, Math.round((end - Date.parse(backfill.begun_at)) / 1000)) : null;
  const figures = [
    ["Succeeded", count(backfill.succeeded)],
    ["Failed", count(backfill.failed), backfill.failed ? "is-bad" : ""],
    ["Wait or run", count(backfill.open)],
    ...(backfill.dropped ? [["Dropped", count(backfill.dropped)]] : []),
    ["Rate", rateText(rate)],
    hasEnded(backfill) ? ["Took", duration(took)] : ["Time left", duration(left === null ? null : Math.ceil(left))],
  ];
  return html`
    <${Card} title="How far it is"><p class="wide-bar"><${Progress} backfill=${backfill} /></p><//>
    <dl class="figures">
      ${figures.map(([label, value, tone = ""]) => html`<div key=${label} class=${`figure ${tone}`}><dt>${label}</dt><dd class="value">${value}</dd></div>`)}
    </dl>
  `;
}

function Failures({ app, backfill }) {
  const sorted = Object.entries(backfill.failures).sort((one, other) => other[1] - one[1]);
  return html`
    <${Card} title="What failed, by reason">
      ${sorted.length === 0
        ? html`<${Empty}>Nothing failed${hasEnded(backfill) ? "" : " so far"}.<//>`
        : html`<${Table} caption="What failed, by reason" columns=${FAILURE_COLUMNS}>
            ${sorted.map(
              ([code, number]) => html`
                <tr key=${code}>
                  <th scope="row">${words(code)}</th>
                  <td class="number">${count(number)}</td>
                  <td class="wrap">${ERRORS[code] && html`${ERRORS[code].means} <span class="muted">${ERRORS[code].act}</span>`}</td>
                </tr>
              `,
            )}
          <//>`}
    <//>
  `;
}

function About({ backfill }) {
  const passed = Object.entries(backfill.passed_over);
  return html`
    <${Facts}
      of=${[
        ["Begun", html`<${Time} at=${backfill.begun_at} />`],
        ["Ended", backfill.ended_at && html`<${Time} at=${backfill.ended_at} />`],
        ["Read", count(backfill.read)],
        ["Total", backfill.total === null ? "not known yet" : count(backfill.total)],
        ["Led by", hasEnded(backfill) ? null : backfill.led ? "a process at the moment" : "nobody at the moment"],
        ["Began by", backfill.origin === "console" ? "a console; it is led there" : html`<a href=${href(["commands", backfill.id])}>its command</a>`],
        ["Source", html`<code>${backfill.source}</code>`],
        ["Output", html`<code>${backfill.output}</code>`],
        ["Passed over", passed.length ? passed.map(([kind, number]) => `${count(number)} ${words(kind)}`).join(", ") : null],
        ["Warnings", backfill.result?.warnings?.length ? html`<ul class="plain">${backfill.result.warnings.map((each, at) => html`<li key=${at}>${each.file}: ${each.message}</li>`)}</ul>` : null],
      ]}
    />
  `;
}

function Files({ app, files, id, path }) {
  const hasReport = files.data?.items.some((each) => each.name === REPORT);
  return html`
    ${hasReport && html`<${Report} app=${app} path=${`${path}/results/${REPORT}`} />`}
    <${Card} title="Its files">
      <${Loaded} of=${files}>
        ${({ items }) =>
          items.length === 0
            ? html`<${Empty}>No file is there yet: parts come while it runs, the others at its end.<//>`
            : html`<${Table} caption="Files of results" columns=${FILE_COLUMNS}>
                ${items.map(
                  (file) => html`
                    <tr key=${file.name}>
                      <th scope="row"><code>${file.name}</code></th>
                      <td class="number">${file.bytes === null ? "–" : bytesText(file.bytes)}</td>
                      <td>
                        <button type="button" class="small" aria-label=${`Download ${file.name}`} onClick=${() => download(app, `${path}/results/${file.name}`, `${id}-${file.name.split("/").at(-1)}`)}>
                          Download
                        </button>
                      </td>
                    </tr>
                  `,
                )}
              <//>`}
      <//>
    <//>
  `;
}
