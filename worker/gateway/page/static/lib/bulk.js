/**
 * Acts on all commands of a list: counted before, done in pieces, each piece told. What comes later stays.
 *
 * What the gateway's bulk acts know (a type, a correlation id; of what failed also the state and times) they
 * are told. Any other filter of a list, like a text, is only known to the list: then its ids are collected and
 * acted upon.
 */

import { html, useEffect, useRef, useState } from "./ui.js";
import { ProblemNote } from "./parts.js";
import { OPEN_STATES, PERHAPS_DONE } from "./contract.js";
import { count, counted, words } from "./format.js";
import { withQuery } from "./api.js";

/** Of one request that lists. */
const PAGE = 1_000;
/** Of one request that acts: few enough that one is done in seconds, and small enough for its body. */
const IDS = 2_000;

const LETTERS = ["reason", "type", "state", "correlationid", "since", "until"];
const ACTS = {
  cancel: {
    path: "v1/commands/cancel",
    title: "Cancel commands",
    verb: "Cancel",
    done: "cancelled",
    noun: "command",
    of: "All commands that have not ended",
    states: OPEN_STATES,
    known: ["type", "correlationid"],
    text: "What was done at the API stays: trainings that run go on there.",
    isDangerous: true,
  },
  replay: {
    path: "v1/commands/replay",
    title: "Send failed commands again",
    verb: "Send again",
    done: "sent again",
    noun: "command",
    of: "All commands that failed or were rejected and have a dead letter",
    states: ["failed", "rejected"],
    known: ["type", "correlationid", "state", "since", "until"],
    text: "Each is sent as a new command, as it was. What may have been done already (outcome unknown) and what would be rejected again stays.",
  },
  replayLetters: {
    path: "v1/dead-letters/replay",
    title: "Send dead letters again",
    verb: "Send again",
    done: "sent again",
    noun: "command",
    of: "All dead letters",
    known: LETTERS,
    text: "Each is sent as a new command, as it was, and its letter is gone. What may have been done already stays unless its reason is chosen, and so does what would be rejected again.",
  },
  purgeLetters: {
    path: "v1/dead-letters/purge",
    title: "Delete dead letters",
    verb: "Delete",
    done: "deleted",
    noun: "dead letter",
    of: "All dead letters",
    known: LETTERS,
    text: "They are gone for good: nobody can send these commands again from here.",
    isDangerous: true,
  },
};

/**
 * Shows the dialog of a bulk act; comes to an end with it.
 * @param {import("../app.js").App} app
 * @param {keyof ACTS} act
 * @param {Record<string, string>} filter Of the list.
 */
export function openBulk(app, act, filter) {
  return app.dialog(ACTS[act].title, Bulk, { act, filter });
}

/**
 * Returns what an act would come to.
 * @param {import("./api.js").Api} api
 * @param {keyof ACTS} act
 * @param {Record<string, string>} filter
 * @param {(found: number) => void} onFound is told how many ids were collected so far.
 * @param {AbortSignal} signal
 * @returns {Promise<{count: number, how: string, outcomes: Record<string, number>, ids: string[] | null, body: object}>}
 */
export async function plan(api, act, filter, onFound, signal) {
  const { path, states, known } = ACTS[act];
  if (states && filter.state && !states.includes(filter.state)) {
    return { count: 0, how: "", outcomes: {}, ids: [], body: {} };
  }
  if (Object.keys(filter).every((name) => known.includes(name))) {
    const asked = Object.keys(filter).length ? { ...filter } : { all: true };
    const dry = await api.post(path, { ...asked, dry_run: true }, { signal });
    // What comes after the count was not asked about, and what is sent again may fail again at once.
    const body = { ...asked, until: dry.until };
    // What would be refused is counted too, and stays.
    const sent = path.endsWith("/replay") ? (dry.outcomes.replayed ?? 0) : dry.matched;
    const how = dry.more ? "at least " : "";
    if (!dry.more || !states) return { count: sent, how, outcomes: dry.outcomes, ids: null, body };
    const all = await countAll(api, states, filter, signal);
    return { ...all, ids: null, body };
  }
  const ids = [];
  for (const state of filter.state ? [filter.state] : states) {
    for await (const row of rows(api, { ...filter, state }, signal)) {
      if (act === "cancel" || !PERHAPS_DONE.includes(row.error?.code)) ids.push(row.id);
      onFound(ids.length);
    }
  }
  return { count: ids.length, how: "", outcomes: {}, ids, body: {} };
}

async function countAll(api, states, filter, signal) {
  const outcomes = {};
  let isExact = true;
  for (const state of filter.state ? [filter.state] : states) {
    const told = await api.get(withQuery("v1/command-count", { ...filter, state }), { signal });
    if (told.count) outcomes[state] = told.count;
    isExact &&= told.exact;
  }
  return { count: Object.values(outcomes).reduce((sum, each) => sum + each, 0), how: isExact ? "" : "at least ", outcomes };
}

async function* rows(api, filter, signal) {
  let cursor;
  do {
    const page = await api.get(withQuery("v1/commands", { ...filter, cursor, limit: PAGE }), { signal });
    yield* page.items;
    cursor = page.next_cursor;
  } while (cursor);
}

/**
 * Does what was planned, a request after the other, until nothing is left.
 * @param {import("./api.js").Api} api
 * @param {keyof ACTS} act
 * @param {{ids: string[] | null, body: object}} planned
 * @param {(done: number, outcomes: Record<string, number>) => void} onProgress
 * @param {AbortSignal} signal
 */
export async function carryOut(api, act, planned, onProgress, signal) {
  const outcomes = {};
  let done = 0;
  const request = async (body) => {
    const answer = await api.post(ACTS[act].path, { ...body, dry_run: false }, { signal });
    done += answer.done;
    for (const [name, number] of Object.entries(answer.outcomes)) outcomes[name] = (outcomes[name] ?? 0) + number;
    onProgress(done, { ...outcomes });
    return answer;
  };
  if (planned.ids) {
    for (let at = 0; at < planned.ids.length; at += IDS) await request({ ids: planned.ids.slice(at, at + IDS) });
    return;
  }
  // What is refused stays and would be met again: a round that did nothing is the last.
  for (let answer = await request(planned.body); answer.more && answer.done > 0; ) answer = await request(planned.body);
}

function Bulk({ app, act, filter, close }) {
  const { verb, done: doneWord, noun, of, text, isDangerous } = ACTS[act];
  const [state, setState] = useState({ step: "counting", found: 0, planned: null, done: 0, outcomes: {}, problem: null });
  const controller = useRef(new AbortController());
  const change = (more) => setState((old) => ({ ...old, ...more }));
  const guard = async (work) => {
    try {
      await work();
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (problem.name !== "Problem") throw problem;
      change({ problem, step: "over" });
    }
  };
  const look = () =>
    guard(async () => {
      const planned = await plan(app.api, act, filter, (found) => found % PAGE === 0 && change({ found }), controller.current.signal);
      change({ step: "asking", planned });
    });
  useEffect(() => {
    void look();
    return () => controller.current.abort();
  }, []);
  const doIt = (event) => {
    event.preventDefault();
    if (state.step !== "asking" || !state.planned.count) return undefined;
    change({ step: "doing" });
    return guard(async () => {
      await carryOut(app.api, act, state.planned, (done, outcomes) => change({ done, outcomes }), controller.current.signal);
      change({ step: "over" });
    });
  };
  const { step, planned } = state;
  const number = planned && `${planned.how}${counted(planned.count, noun)}`;
  return html`
    <form onSubmit=${doIt}>
      <div class="modal-body" aria-live="polite">
        <p>${describe(filter, of)}</p>
        ${step === "counting" && html`<p role="status">Counting… ${state.found > 0 && count(state.found)}</p>`}
        ${step === "asking" && (planned.count ? html`<p class="big">${number}</p><${Outcomes} of=${planned.outcomes} /><p class="muted">${text}</p>` : html`<p class="big">None</p><${Outcomes} of=${planned.outcomes} />`)}
        ${(step === "doing" || step === "over") &&
        html`
          <p class="big">${count(state.done)} of ${number ?? "all"} ${doneWord}</p>
          ${planned && html`<progress max=${Math.max(1, planned.count)} value=${state.done} aria-label=${doneWord}></progress>`}
          <${Outcomes} of=${state.outcomes} />
        `}
        <${ProblemNote} problem=${state.problem} />
      </div>
      <div class="modal-foot">
        ${step === "over"
          ? html`<button type="button" class="primary" onClick=${() => close(true)}>Close</button>`
          : html`<button type="button" onClick=${() => close(step === "doing")}>${step === "doing" ? "Stop here" : "Keep as it is"}</button>`}
        ${step === "asking" &&
        planned.count > 0 &&
        html`<button type="submit" class=${isDangerous ? "danger" : "primary"}>${verb} ${number}</button>`}
      </div>
    </form>
  `;
}

function Outcomes({ of }) {
  const entries = Object.entries(of);
  if (!entries.length) return null;
  return html`<ul class="outcomes">${entries.map(([name, number]) => html`<li key=${name}>${count(number)} ${words(name)}</li>`)}</ul>`;
}

function describe(filter, of) {
  const told = Object.entries(filter).map(([name, value]) => html`<code>${name}=${value}</code> `);
  return told.length ? html`${of} that fit ${told}` : `${of}.`;
}
