/** One command as a timeline: its events, what it waited for between them, and what comes next. */

import { html } from "./ui.js";
import { State, Time } from "./parts.js";
import { count, counted, duration } from "./format.js";
import { ENDS } from "./contract.js";
import { told } from "./live.js";

/**
 * @typedef {object} Step
 * @property {string} state
 * @property {string} at
 * @property {any} data Of the event; of several `progressed` the last one's.
 * @property {number} times How many events it stands for.
 * @property {string} id
 *
 * @typedef {object} Span What lies between two steps.
 * @property {"run" | "wait" | "train" | "doubt"} kind
 * @property {number} seconds
 * @property {string} label
 */

/** Returns a command's events as steps: how far a backfill has come is one, however often it was told. @param {import("./live.js").LiveEvent[]} events @returns {Step[]} */
export function steps(events) {
  const result = [];
  for (const event of events) {
    const { state } = told(event);
    const last = result.at(-1);
    if (state === "progressed" && last?.state === "progressed") {
      Object.assign(last, { at: event.time, data: event.data, times: last.times + 1 });
    } else {
      result.push({ state, at: event.time, data: event.data ?? {}, times: 1, id: event.id });
    }
  }
  return result;
}

/**
 * Returns what lies between steps, the last one up to now.
 * @param {Step[]} all
 * @param {number} now In milliseconds.
 * @returns {Span[]}
 */
export function spans(all, now) {
  const result = [];
  all.forEach((step, at) => {
    if (ENDS.includes(step.state)) return;
    const begin = Date.parse(step.at);
    const end = at + 1 < all.length ? Date.parse(all[at + 1].at) : now;
    if (step.state === "retrying") {
      const retryAt = Math.min(end, Math.max(begin, Date.parse(step.data.retry_at)));
      result.push(span("wait", retryAt - begin, "waits for the next attempt"));
      if (end > retryAt) result.push(span("run", end - retryAt, `attempt ${step.data.attempt + 1}`));
      return;
    }
    const [kind, label] = KINDS[step.state] ?? ["run", "waits or runs"];
    result.push(span(kind, end - begin, label));
  });
  return result.filter((each) => each.seconds > 0);
}

const KINDS = {
  accepted: ["run", "waiting for a worker, and running"],
  started: ["train", "the training runs at the API"],
  progressed: ["run", "goes on"],
  in_doubt: ["doubt", "the API is asked what happened"],
  resolved: ["run", "goes on as a person said"],
};

function span(kind, milliseconds, label) {
  return { kind, seconds: milliseconds / 1000, label };
}

/** @param {{events: import("./live.js").LiveEvent[], isComplete: boolean, view: any, now: number}} props */
export function Timeline({ events, isComplete, view, now }) {
  const all = steps(events);
  const between = spans(all, now);
  const isOpen = !view.ended_at && !ENDS.includes(all.at(-1)?.state);
  return html`
    ${between.length > 0 && html`<${Bar} spans=${between} />`}
    ${!isComplete && html`<p class="muted">Events from before are no longer kept; these are the rest.</p>`}
    <ol class="timeline">
      ${all.map((step, at) => html`<${StepItem} key=${step.id} step=${step} before=${all[at - 1]} />`)}
      ${isOpen && html`<${Next} view=${view} />`}
    </ol>
  `;
}

function Bar({ spans: all }) {
  const whole = all.reduce((sum, each) => sum + each.seconds, 0);
  return html`
    <div class="spans" aria-hidden="true">
      ${all.map(
        (each, at) =>
          html`<span key=${at} class=${`span ${each.kind}`} style=${{ flexGrow: (1000 * each.seconds) / whole }} title=${`${duration(each.seconds)}: ${each.label}`}></span>`,
      )}
    </div>
    <ul class="spans-legend" aria-label="Time by what it was spent on">
      ${[...sums(all)].map(([label, { kind, seconds }]) => html`<li key=${label} class=${kind}><strong>${duration(seconds)}</strong> ${label}</li>`)}
    </ul>
  `;
}

function sums(all) {
  const result = new Map();
  for (const { kind, seconds, label } of all) {
    const name = label.startsWith("attempt") ? "in later attempts" : label;
    result.set(name, { kind, seconds: (result.get(name)?.seconds ?? 0) + seconds });
  }
  return result;
}

function StepItem({ step, before }) {
  const since = before && (Date.parse(step.at) - Date.parse(before.at)) / 1000;
  return html`
    <li>
      <div class="step-head">
        <${State} state=${step.state} />
        <${Time} at=${step.at} />
        ${since !== undefined && html`<span class="muted">after ${duration(since)}</span>`}
        ${step.times > 1 && html`<span class="muted">told ${count(step.times)} times</span>`}
      </div>
      <div class="step-text">${SAID[step.state]?.(step.data)}</div>
    </li>
  `;
}

function Next({ view }) {
  const isLooked = view.due_at && view.state !== "running";
  return html`
    <li class="next">
      <div class="step-head"><${State} state=${view.state} /> <span class="muted">now</span></div>
      <div class="step-text">
        ${view.state === "submitted" && "It stands in its stream; no worker has read it yet."}
        ${view.state === "running" && "A worker runs it."}
        ${isLooked && html`Somebody looks at it again <${Time} at=${view.due_at} relative />, at <${Time} at=${view.due_at} />.`}
      </div>
    </li>
  `;
}

/** What each state says of itself. */
const SAID = {
  accepted: () => "Valid, and recorded in the ledger.",
  started: (data) => html`The training <code>${data.training_uuid}</code> exists at the API.`,
  progressed: (data) =>
    html`${count(data.read)} read, ${count(data.succeeded)} succeeded, ${count(data.failed)} failed, ${count(data.open)} open. ${data.reason}`,
  retrying: (data) => html`Attempt ${data.attempt} failed: <${ErrorLine} error=${data.error} /> – the next is at <${Time} at=${data.retry_at} />.`,
  in_doubt: (data) => html`<${ErrorLine} error=${data.error} /> – ${data.check}`,
  resolved: (data) =>
    html`${data.by} said: ${data.created ? html`it was created as <code>${data.created}</code>.` : "nothing was created; the call is sent again."}`,
  succeeded: (data) => html`Done after ${duration(data.duration_seconds)}, ${counted(data.attempts, "attempt")}.`,
  failed: (data) => html`Given up after ${counted(data.attempts, "attempt")}: <${ErrorLine} error=${data.error} />`,
  cancelled: (data) => html`${data.note ?? "Nothing more is done for it."} ${data.training_uuid && html`The training <code>${data.training_uuid}</code> goes on at the API.`}`,
  rejected: (data) => html`Never accepted: <${ErrorLine} error=${data.error} />`,
};

/** An error in a line: its code, the API's status where it answered, its message. */
export function ErrorLine({ error }) {
  if (!error) return null;
  return html`<code>${error.code}</code>${error.status && html` (HTTP ${error.status})`} ${error.message}`;
}
