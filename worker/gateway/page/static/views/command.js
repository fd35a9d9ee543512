/** One command: how far it is, what happened to it and when, what to do where it failed. */

import { html, useEffect, useState } from "../lib/ui.js";
import { useData, useEvents, useNow } from "../lib/data.js";
import { Card, CopyButton, Empty, Facts, Json, Loaded, More, ProblemNote, Skeleton, State, Time, ViewHeader } from "../lib/parts.js";
import { CommandActs } from "../lib/command_acts.js";
import { ERRORS, isOpen } from "../lib/contract.js";
import { ErrorLine, Timeline } from "../lib/timeline.js";
import { duration } from "../lib/format.js";
import { href } from "../lib/router.js";
import { isOfCommand } from "../lib/live.js";
import { pathOf } from "../lib/api.js";
import { StoredResult } from "../lib/stored_result.js";
import { RESULT_VIEWS } from "./results.js";

/** Of one that runs or polls no event tells; so it is looked at now and then. */
const EVERY_SECONDS = 5;
/** Of one command; a backfill tells how far it is every 5 seconds. */
const MOST_LIVE = 200;

/** @param {{app: import("../app.js").App, route: import("../app.js").Route}} props */
export default function Command({ app, route }) {
  const [, id] = route.path;
  const path = `v1/commands/${pathOf(id)}`;
  const [isEnded, setIsEnded] = useState(false);
  const [stored, setStored] = useState(null);
  const on = (event) => event.subject === id && isOfCommand(event);
  const view = useData(app, path, { on, every: isEnded ? 0 : EVERY_SECONDS });
  const events = useData(app, `${path}/events`, { on });
  const live = useLiveEvents(app, on);
  const message = useData(app, `${path}/message`);
  const now = useNow(isEnded ? 0 : 1);
  const { data } = view;
  useEffect(() => setIsEnded(Boolean(data && (data.ended_at || !isOpen(data.state)))), [data]);
  if (!data) {
    return html`
      <${Head} id=${id} />
      ${view.problem ? html`<${Unknown} problem=${view.problem} onRetry=${view.reload} />` : html`<${Skeleton} lines=${8} />`}
    `;
  }
  const sent = message.data?.message;
  const all = merged(events.data?.items ?? [], live);
  const check = all.findLast((event) => event.type.endsWith(".in_doubt"))?.data.check;
  const reload = () => {
    view.reload();
    events.reload();
  };
  const Result = RESULT_VIEWS[data.type];
  const whole = data.dataref && stored !== null ? { ...data, result: stored } : data;
  return html`
    <${Head} id=${id} type=${data.type}>
      <${State} state=${data.state} />
      <${CopyButton} text=${id} label="Copy id" name="Copy id" />
      <${CommandActs} app=${app} view=${data} message=${sent} check=${check} onDone=${reload} />
    <//>
    <${ProblemNote} problem=${view.problem} onRetry=${view.reload} />
    <div class="stack">
      ${data.state === "in_doubt" && html`<${Doubt} app=${app} check=${check} />`}
      ${data.error && html`<${WhatToDo} app=${app} error=${data.error} isOver=${isEnded} />`}
      <${Card} title="How far it is"><${About} view=${data} attributes=${sent ?? all[0] ?? {}} now=${now} /><//>
      ${Result && html`<${Result} app=${app} view=${whole} message=${sent} missing=${message.problem} events=${all} />`}
      <div class="grid pairs">
        <${Card} title="What happened">
          <${Loaded} of=${events}>
            ${({ complete }) => html`<${Timeline} events=${all} isComplete=${complete} view=${data} now=${now} />`}
          <//>
        <//>
        <div class="stack">
          <${Card} title="Its data"><${Sent} message=${message} /><//>
          ${data.state === "succeeded" && html`<${Card} title="Its result"><${Outcome} app=${app} view=${whole} path=${path} onLoad=${setStored} /><//>`}
        </div>
      </div>
    </div>
  `;
}

/** One that was just sent is known once a worker has read it. */
function Unknown({ problem, onRetry }) {
  if (problem.code !== "unknown_id") return html`<${ProblemNote} problem=${problem} onRetry=${onRetry} />`;
  return html`<${Card} title="Not known, or not yet"><p>${problem.detail}</p><p class="muted">This page looks again by itself.</p><//>`;
}

/** Returns the events that came live: what is read is a moment behind them. */
function useLiveEvents(app, on) {
  const [live, setLive] = useState([]);
  useEvents(app, (batch) => {
    const own = batch.events.filter(on);
    if (own.length) setLive((old) => [...old, ...own].slice(-MOST_LIVE));
  });
  return live;
}

function merged(items, live) {
  const known = new Set(items.map((event) => event.id));
  return [...items, ...live.filter((event) => !known.has(event.id))];
}

function Head({ id, type, children }) {
  const above = html`<a href=${href(["commands"])}>Commands</a>${type && html` / <a href=${href(["commands"], { type })}>${type}</a>`}`;
  return html`<${ViewHeader} above=${above} title=${html`<span class="id">${id}</span>`}>${children}<//>`;
}

/** A call that creates something has no answer: what a person does about it. */
function Doubt({ app, check }) {
  return html`
    <${Card} title="An answer was lost: look at Encord" kind="alarm">
      ${check && html`<p class="break">${check}</p>`}
      <p>Nothing is sent again meanwhile; the API is asked until it knows. Who knows better settles the doubt.</p>
      <${More} app=${app} at="operations.md, In doubt" />
    <//>
  `;
}

/** An error, and what a person does about it. */
function WhatToDo({ app, error, isOver }) {
  const known = ERRORS[error.code];
  return html`
    <${Card} title=${isOver ? "Why it ended, and what to do" : "What its last attempt met"} kind=${isOver ? "bad" : "alarm"}>
      <p class="error-line"><${ErrorLine} error=${error} /></p>
      ${error.problems?.length > 0 &&
      html`<ul class="problems">${error.problems.map(({ path, message }) => html`<li key=${path}><code>${path || "the whole"}</code> ${message}</li>`)}</ul>`}
      ${known &&
      html`
        <p><strong>${known.means}</strong> ${known.act}</p>
        <${More} app=${app} at=${known.more} />
      `}
    <//>
  `;
}

/** @param {{view: any, attributes: any, now: number}} props `attributes` of the command as sent; its events repeat them. */
function About({ view, attributes, now }) {
  const end = view.ended_at ? Date.parse(view.ended_at) : now;
  const took = view.accepted_at && (end - Date.parse(view.accepted_at)) / 1000;
  return html`
    <${Facts}
      of=${[
        ["Lane", view.lane],
        ["Attempts", view.attempts],
        ["Accepted", view.accepted_at && html`<${Time} at=${view.accepted_at} />`],
        view.ended_at
          ? ["Ended", html`<${Time} at=${view.ended_at} />`]
          : ["Looked at again", view.due_at && html`<${Time} at=${view.due_at} relative />`],
        [view.ended_at ? "Took" : "So far", took === null ? null : duration(Math.max(0, took))],
        ["Deadline", attributes.deadline && html`<${Time} at=${attributes.deadline} />`],
        ["Correlation id", attributes.correlationid && html`<a class="id" href=${href(["commands"], { correlationid: attributes.correlationid })}>${attributes.correlationid}</a>`],
        ["Caused by", attributes.causationid && html`<a class="id" href=${href(["commands", attributes.causationid])}>${attributes.causationid}</a>`],
        ["Settled", view.resolution && Object.entries(view.resolution).map(([name, value]) => `${name}: ${value}`).join(", ")],
      ]}
    />
    ${view.progress &&
    html`<details class="under"><summary>Its progress as the worker keeps it</summary><${Json} value=${view.progress} label="the progress" /></details>`}
  `;
}

function Sent({ message }) {
  if (message.problem?.status === 404) return html`<${Empty}>${message.problem.detail}<//>`;
  return html`<${Loaded} of=${message}>${(data) => html`<${Json} value=${data.message} label="the command as it was sent" />`}<//>`;
}

function Outcome({ app, view, path, onLoad }) {
  if (view.dataref) return html`<${StoredResult} app=${app} view=${view} path=${`${path}/result`} onLoad=${onLoad} />`;
  if (view.result !== null && view.result !== undefined) return html`<${Json} value=${view.result} label="the result" />`;
  return html`<${Empty}>It gave nothing back, or its event is no longer kept.<//>`;
}
