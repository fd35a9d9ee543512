/** Now: one glance says whether it is well, and each trouble has the button that ends it. */

import { html, useMemo } from "../lib/ui.js";
import { useData, useEvents, useNow, useThrottled } from "../lib/data.js";
import { Card, Empty, Loaded, ProblemNote, State, Table, Time, ViewHeader } from "../lib/parts.js";
import { Chart } from "../lib/charts.js";
import { clock, count, counted, duration, words } from "../lib/format.js";
import { href } from "../lib/router.js";

/** Figures that no event tells: what is due, and how the workers do. */
const EVERY_SECONDS = 5;
/** A worker's loop that lags more makes leases late. */
const MUCH_LAG_SECONDS = 0.5;
const OPEN_STATES = ["accepted", "started", "running", "polling", "retrying", "progressed", "in_doubt", "resolved"];
const ENDED_STATES = ["succeeded", "failed", "cancelled", "rejected"];

/** @param {{app: import("../app.js").App}} props */
export default function Now({ app }) {
  const overview = useData(app, app.isUnlimited ? "v1/overview" : null, { every: EVERY_SECONDS });
  const workers = useData(app, app.isUnlimited ? "v1/workers" : null, { every: EVERY_SECONDS });
  const holds = useData(app, "v1/holds", { every: EVERY_SECONDS });
  const lanes = useData(app, "v1/lanes", { every: EVERY_SECONDS });
  const soon = useThrottled(overview.reload, 1_000);
  useEvents(app, (batch) => {
    if (batch.events.length || batch.isGap) soon();
  });
  return html`
    <${ViewHeader} title="Now">${overview.data && html`<span class="muted">as of <${Time} at=${overview.data.at} /></span>`}<//>
    <div class="stack">
      <${Troubles} app=${app} holds=${holds} lanes=${lanes} workers=${workers} />
      ${app.isUnlimited
        ? html`<${Loaded} of=${overview} lines=${6}>${(data) => html`<${Overview} data=${data} />`}<//>`
        : html`<${Empty}>This token sees ${app.me.types.join(", ")} only, so the figures of all commands are not for it.<//>`}
      ${app.isUnlimited && html`<${Workers} app=${app} workers=${workers} />`}
    </div>
  `;
}

/** What keeps workers from their work, each with its reason and its end. */
function Troubles({ app, holds, lanes, workers }) {
  const held = holds.data?.items ?? [];
  const paused = (lanes.data?.items ?? []).filter((lane) => lane.paused);
  const open = (workers.data?.items ?? []).filter((worker) => worker.breaker_open);
  const noWorker = workers.data && !workers.data.items.length;
  const mayAct = app.can("operate") && app.isUnlimited;
  const release = async () => {
    const yes = await app.confirm({
      title: "Release every hold?",
      text: "Workers claim again within a second. If the API still wants a pause, its next 429 holds them again.",
      action: "Release",
    });
    if (!yes) return;
    const done = await app.attempt("The release", () => app.api.post("v1/holds/release"));
    if (done) app.notify(`${counted(done.released.length, "hold")} released; ${counted(done.commands, "command")} due again.`);
    holds.reload();
  };
  const resume = async (lane) => {
    const yes = await app.confirm({
      title: `Resume the lane ${lane}?`,
      text: "The commands that wait in it run. Where the cause is not mended they fail, and it pauses again.",
      action: "Resume",
    });
    if (!yes) return;
    const done = await app.attempt("The resumption", () => app.api.post(`v1/lanes/${lane}/resume`));
    if (done) app.notify(done.resumed ? `The lane ${lane} is resumed.` : `The lane ${lane} was not paused any more.`);
    lanes.reload();
  };
  return html`
    <${ProblemNote} problem=${holds.problem ?? lanes.problem} />
    ${noWorker &&
    html`<${Card} title="No worker runs" kind="alarm">
      <p>Commands are kept and nothing is lost. Start one by <code>trainmaster worker</code>; one that runs tells of itself here within seconds.</p>
    <//>`}
    ${held.length > 0 &&
    html`<${Card}
      title=${held.some((hold) => hold.scope === "fleet") ? "All workers are held" : `${counted(held.length, "worker")} held`}
      kind="alarm"
      aside=${mayAct && html`<button type="button" onClick=${release}>Release ${held.length > 1 ? "all" : ""}</button>`}
    >
      <ul class="plain">
        ${held.map(
          (hold) => html`
            <li key=${hold.worker ?? "fleet"}>
              <strong>${hold.worker ?? "All workers"}</strong>: ${hold.reason}
              <span class="muted"> · since <${Time} at=${hold.since} /> · ${hold.rest_seconds === null ? "until the API takes its key" : `${duration(hold.rest_seconds)} left`}</span>
            </li>
          `,
        )}
      </ul>
    <//>`}
    ${paused.map(
      (lane) => html`
        <${Card}
          key=${lane.lane}
          title=${`The lane ${lane.lane} is paused`}
          kind="alarm"
          aside=${mayAct && html`<button type="button" onClick=${() => resume(lane.lane)}>Resume</button>`}
        >
          <p>${lane.reason}</p>
          <p class="muted">
            Nearly everything in it failed for good. Mend the cause; one command is tried${" "}
            ${lane.next_probe_at ? html`at <${Time} at=${lane.next_probe_at} />` : "now and then"}, and the first that succeeds resumes it.${" "}
            <a href=${href(["commands"], { state: "failed" })}>See what failed</a>
          </p>
        <//>
      `,
    )}
    ${open.length > 0 &&
    html`<${Card} title="The circuit breaker is open" kind="alarm">
      <p>${open.map((worker) => worker.name).join(", ")}: the API is in trouble, so nothing is asked of it. It is tried again by itself, and no command loses an attempt.</p>
    <//>`}
  `;
}

function Overview({ data }) {
  const lanes = data.lanes;
  const open = lanes.reduce((sum, lane) => sum + lane.open, 0);
  const due = lanes.reduce((sum, lane) => sum + lane.due, 0);
  const oldest = Math.max(...lanes.map((lane) => lane.oldest_due_seconds ?? -1));
  const hour = useMemo(() => totals(data.minutes), [data.minutes]);
  return html`
    <div class="figures">
      <${Figure} label="Due now" value=${count(due)} note=${oldest >= 0 ? `oldest for ${duration(oldest)}` : "nothing waits for a worker"} tone=${oldest > 60 ? "warn" : ""} />
      <${Figure} label="Open" value=${count(open)} note=${data.unread_messages ? `${count(data.unread_messages)} not read yet` : "accepted, not ended"} />
      <${Figure} label="In doubt" value=${count(data.states.in_doubt ?? 0)} tone=${data.states.in_doubt ? "doubt" : ""} to=${href(["commands"], { state: "in_doubt" })} note="an answer was lost" />
      <${Figure} label="Succeeded, last hour" value=${count(hour.succeeded)} to=${href(["commands"], { state: "succeeded" })} note=${`${count(hour.accepted)} accepted`} />
      <${Figure} label="Failed, last hour" value=${count(hour.failed)} tone=${hour.failed ? "bad" : ""} to=${href(["commands"], { state: "failed" })} note=${failureShare(hour)} />
      <${Figure} label="Dead letters" value=${count(data.dead_letters)} tone=${data.dead_letters ? "bad" : ""} to=${href(["dead-letters"])} note="kept until sent again" />
    </div>
    <div class="grid pairs">
      <${Rates} minutes=${data.minutes} />
      <${Latency} minutes=${data.minutes} />
      <${Lanes} lanes=${lanes} />
      <${States} data=${data} />
    </div>
  `;
}

function Figure({ label, value, note, tone = "", to }) {
  const inner = html`<span class="label">${label}</span><span class="value">${value}</span>${note && html`<span class="note">${note}</span>`}`;
  const kind = `figure ${tone ? `is-${tone}` : ""}`;
  return to ? html`<a class=${kind} href=${to}>${inner}</a>` : html`<div class=${kind}>${inner}</div>`;
}

function totals(minutes) {
  const sum = (name) => minutes.reduce((so, minute) => so + minute[name], 0);
  return { accepted: sum("accepted"), succeeded: sum("succeeded"), failed: sum("failed"), rejected: sum("rejected") };
}

function failureShare({ succeeded, failed }) {
  const ended = succeeded + failed;
  return ended ? `${((100 * failed) / ended).toFixed(1)} % of what ended` : "nothing ended";
}

const perMinute = (value) => (value < 10 && value % 1 ? value.toFixed(1) : count(Math.round(value)));
const minuteOf = (seconds) => clock(seconds * 1000).slice(0, -3);

function Rates({ minutes }) {
  const [x, series] = useMemo(
    () => [
      minutes.map((minute) => Date.parse(minute.at) / 1000),
      [
        { label: "Succeeded", tone: "good", values: minutes.map((minute) => minute.succeeded), isArea: true },
        { label: "Accepted", tone: "busy", values: minutes.map((minute) => minute.accepted) },
        { label: "Failed", tone: "bad", values: minutes.map((minute) => minute.failed + minute.rejected) },
      ],
    ],
    [minutes],
  );
  return html`<section class="card" aria-label="Rate"><${Chart} title="Commands a minute" note="last hour" x=${x} series=${series} format=${perMinute} formatX=${minuteOf} /></section>`;
}

function Latency({ minutes }) {
  const [x, series] = useMemo(
    () => [
      minutes.map((minute) => Date.parse(minute.at) / 1000),
      [
        { label: "Half are faster", tone: "accent", values: minutes.map((minute) => minute.p50_seconds), isArea: true },
        { label: "99 of 100 are faster", tone: "warn", values: minutes.map((minute) => minute.p99_seconds), isDashed: true },
      ],
    ],
    [minutes],
  );
  return html`<section class="card" aria-label="Latency"><${Chart} title="From acceptance to end" note="last hour" x=${x} series=${series} format=${duration} formatX=${minuteOf} /></section>`;
}

const LANE_COLUMNS = [
  { name: "lane", title: "Lane" },
  { name: "due", title: "Due", isNumber: true },
  { name: "open", title: "Open", isNumber: true },
  { name: "oldest", title: "Oldest due", isNumber: true },
  { name: "state", title: "" },
];

function Lanes({ lanes }) {
  return html`
    <${Card} title="Lanes">
      <${Table} caption="Lanes" columns=${LANE_COLUMNS}>
        ${lanes.map(
          (lane) => html`
            <tr key=${lane.lane}>
              <th scope="row">${lane.lane}</th>
              <td class="number">${count(lane.due)}</td>
              <td class="number">${count(lane.open)}</td>
              <td class="number">${lane.oldest_due_seconds === null ? "–" : duration(lane.oldest_due_seconds)}</td>
              <td>${lane.paused ? html`<${State} state="paused" />` : html`<span class="state good">claiming</span>`}</td>
            </tr>
          `,
        )}
      <//>
    <//>
  `;
}

const STATE_COLUMNS = [
  { name: "state", title: "State" },
  { name: "count", title: "Commands", isNumber: true },
];

function States({ data }) {
  const known = [...OPEN_STATES, ...ENDED_STATES];
  const others = Object.keys(data.states).filter((state) => !known.includes(state));
  const rows = [...known, ...others].filter((state) => data.states[state]);
  const behind = data.read_model;
  return html`
    <${Card} title="By state" aside=${behind.behind_events > 0 && html`the list is ${counted(behind.behind_events, "event")} behind`}>
      ${rows.length === 0
        ? html`<${Empty}>No command is known yet. Send one by <code>trainmaster submit</code>.<//>`
        : html`<${Table} caption="Commands by state" columns=${STATE_COLUMNS}>
            ${rows.map(
              (state) => html`
                <tr key=${state}>
                  <td><a href=${href(["commands"], { state })} aria-label=${`Commands that are ${words(state)}`}><${State} state=${state} /></a></td>
                  <td class="number">${count(data.states[state])}</td>
                </tr>
              `,
            )}
          <//>`}
    <//>
  `;
}

const WORKER_COLUMNS = [
  { name: "name", title: "Worker" },
  { name: "state", title: "State" },
  { name: "slots", title: "Busy", isNumber: true },
  { name: "lag", title: "Loop lag", isNumber: true },
  { name: "version", title: "Version" },
  { name: "up", title: "Up for", isNumber: true },
  { name: "seen", title: "Seen", isNumber: true },
];

function Workers({ app, workers }) {
  const now = useNow(5);
  const versions = new Set((workers.data?.items ?? []).map((worker) => worker.version));
  return html`
    <${Card} title="Workers" aside=${versions.size > 1 && html`<span class="state warn">${counted(versions.size, "version")} at once</span>`}>
      <${Loaded} of=${workers} lines=${2}>
        ${({ items }) =>
          items.length === 0
            ? html`<${Empty}>No worker has told of itself within the last 15 seconds.<//>`
            : html`<${Table} caption="Workers" columns=${WORKER_COLUMNS}>
                ${items.map((worker) => html`<${WorkerRow} key=${worker.name} worker=${worker} now=${now} />`)}
              <//>`}
      <//>
    <//>
  `;
}

function WorkerRow({ worker, now }) {
  const state = worker.stopping ? ["warn", "stopping"] : worker.breaker_open ? ["warn", "breaker open"] : ["good", "working"];
  const seconds = (time) => Math.max(0, Math.round((now - Date.parse(time)) / 1000));
  return html`
    <tr>
      <th scope="row" title=${`Process ${worker.pid} on ${worker.host}`}>${worker.name}</th>
      <td><span class=${`state ${state[0]}`}>${state[1]}</span></td>
      <td class="number">${worker.slots_used} of ${worker.slots}</td>
      <td class=${`number ${worker.loop_lag_seconds > MUCH_LAG_SECONDS ? "is-bad" : ""}`}>${duration(worker.loop_lag_seconds)}</td>
      <td>${worker.version} <span class="muted">Python ${worker.python}</span></td>
      <td class="number">${duration(seconds(worker.started_at))}</td>
      <td class="number">${seconds(worker.seen_at) ? `${duration(seconds(worker.seen_at))} ago` : "now"}</td>
    </tr>
  `;
}
