/**
 * The events as they come, by server-sent events over fetch: EventSource can send no token.
 *
 * All views share one connection. What comes is handed on a few times a second at most, however many
 * events there are, and never kept here: a tab's memory stays flat. A tab that nobody sees has no connection:
 * browsers open six to a host over plain HTTP, and a seventh tab would get nothing at all.
 *
 * @typedef {object} LiveEvent A CloudEvent of the contract, with `entry`, its place in the stream.
 * @property {string} entry
 * @property {string} id
 * @property {string} type `<command type>.<state>`
 * @property {string} subject The command's id.
 * @property {string} source
 * @property {string} time
 * @property {string} [correlationid]
 * @property {any} data
 *
 * @typedef {object} Batch
 * @property {LiveEvent[]} events In their order.
 * @property {boolean} isGap Whether events before these may be missing: load anew what you show.
 * @property {string | null} begin The entry behind which they begin: what is loaded anew has to know it.
 *
 * @typedef {"off" | "connecting" | "live" | "stalled" | "lost"} LiveState `stalled`: the gateway can't read Redis.
 */

import { placeOf } from "./api.js";

/** How often what came is handed on. */
export const BATCH_MILLISECONDS = 250;
/** More are not handed on one by one: views load anew. */
const MOST_EVENTS = 2_000;
/** The gateway sends a sign of life every 15 seconds. */
const SILENCE_MILLISECONDS = 20_000;
const FIRST_PAUSE_MILLISECONDS = 500;
const LONGEST_PAUSE_MILLISECONDS = 10_000;

export class Live {
  /** @param {import("./api.js").Api} api */
  constructor(api) {
    this.api = api;
    /** @type {LiveState} */
    this.state = "off";
    /** When the connection was lost, in milliseconds. @type {number | null} */
    this.lostAt = null;
    /** @type {import("./api.js").Problem | null} */
    this.problem = null;
    this._subscribers = new Set();
    this._watchers = new Set();
    this._pending = [];
    this._isGap = false;
    this._timer = null;
    this._last = null;
    this._run = null;
    /** The entry behind which the next batch begins; null before the first connection. @type {string | null} */
    this.place = null;
  }

  /**
   * Hands batches to a function; returns what ends that.
   * @param {(batch: Batch) => void} receive
   * @returns {() => void}
   */
  subscribe(receive) {
    this._subscribers.add(receive);
    return () => this._subscribers.delete(receive);
  }

  /** Tells a function whenever the state changes; returns what ends that. @param {() => void} told */
  watch(told) {
    this._watchers.add(told);
    return () => this._watchers.delete(told);
  }

  /** Connects, and goes on connecting until `stop`. */
  start() {
    if (this._run) return;
    const run = { controller: new AbortController(), wake: () => {}, hide: () => {} };
    this._run = run;
    // A network that is back is not waited for.
    run.onOnline = () => run.wake();
    run.onSeen = () => (document.hidden ? run.hide() : run.wake());
    addEventListener("online", run.onOnline);
    document.addEventListener("visibilitychange", run.onSeen);
    void this._keepConnected(run);
  }

  /** Ends the connection and forgets where it was. */
  stop() {
    if (this._run) {
      this._release(this._run);
      this._run.controller.abort();
      this._run.wake();
    }
    this._run = null;
    this._last = null;
    this.place = null;
    this._pending = [];
    this._set("off");
  }

  async _keepConnected(run) {
    let pause = FIRST_PAUSE_MILLISECONDS;
    this._set("connecting");
    while (this._run === run) {
      if (document.hidden) {
        this._set("connecting");
        await seen(run);
        pause = FIRST_PAUSE_MILLISECONDS;
        continue;
      }
      try {
        await this._connect(run, () => (pause = FIRST_PAUSE_MILLISECONDS));
      } catch (error) {
        if (this._run !== run) return;
        this.problem = error.name === "Problem" ? error : null;
        if (error.status === 401 || error.status === 403) {
          this._set("off");
          this._release(run);
          this._run = null;
          return;
        }
      }
      if (this._run !== run) return;
      if (document.hidden) continue;
      this._set("lost");
      await pauseFor(pause, run);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MILLISECONDS);
    }
  }

  _release(run) {
    removeEventListener("online", run.onOnline);
    document.removeEventListener("visibilitychange", run.onSeen);
  }

  /** Reads one connection to its end. */
  async _connect(run, onConnected) {
    const one = new AbortController();
    const end = () => one.abort();
    run.controller.signal.addEventListener("abort", end);
    run.hide = end;
    let silence = setTimeout(end, SILENCE_MILLISECONDS);
    try {
      const headers = this._last ? { "Last-Event-ID": this._last } : {};
      const answer = await this.api.fetch("v1/events", { headers, signal: one.signal, cache: "no-store" });
      if (!this._last) {
        this.place = placeOf(answer);
        this._last = this.place;
        // Nobody knows what happened between what views have loaded and here.
        this._gap();
      }
      const parse = parser((message) => this._receive(message));
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      onConnected();
      this.problem = null;
      this._set("live");
      for (;;) {
        const { done, value } = await reader.read();
        if (done || this._run !== run) return;
        clearTimeout(silence);
        silence = setTimeout(end, SILENCE_MILLISECONDS);
        parse(value);
      }
    } finally {
      clearTimeout(silence);
      run.controller.signal.removeEventListener("abort", end);
    }
  }

  _receive({ id, event, data, comment }) {
    this._set(comment === "stalled" ? "stalled" : "live");
    if (id) this._last = id;
    if (event === "trainmaster.gap" || event === "trainmaster.dropped") {
      // After `dropped` the gateway ends the connection; we go on from the last event that we have.
      if (event === "trainmaster.gap") this._gap();
      return;
    }
    if (!data) return;
    let found;
    try {
      found = JSON.parse(data);
    } catch {
      return;
    }
    found.entry = id;
    this._pending.push(found);
    if (this._pending.length > MOST_EVENTS) {
      this._pending = [];
      this._isGap = true;
      this.place = id;
    }
    this._schedule();
  }

  _gap() {
    this._isGap = true;
    this._schedule();
  }

  _schedule() {
    this._timer ??= setTimeout(() => {
      this._timer = null;
      const batch = { events: this._pending, isGap: this._isGap, begin: this.place };
      this.place = this._pending.at(-1)?.entry ?? this.place;
      this._pending = [];
      this._isGap = false;
      for (const receive of [...this._subscribers]) receive(batch);
    }, BATCH_MILLISECONDS);
  }

  _set(state) {
    if (state === "lost") this.lostAt ??= Date.now();
    if (state === this.state) return;
    this.state = state;
    if (state === "live" || state === "off") this.lostAt = null;
    for (const told of [...this._watchers]) told();
  }
}

/** Returns the command type and the state that an event tells of. @param {LiveEvent} event */
export function told(event) {
  const at = event.type.lastIndexOf(".");
  return { type: event.type.slice(0, at), state: event.type.slice(at + 1) };
}

/** Whether an entry of the stream stands before another one. @param {string} entry @param {string} other */
export function isBefore(entry, other) {
  const [at, number] = entry.split("-").map(Number);
  const [otherAt, otherNumber] = other.split("-").map(Number);
  return at < otherAt || (at === otherAt && number < otherNumber);
}

/** Whether an event is about a command, rather than about an item of a backfill. @param {LiveEvent} event */
export function isOfCommand(event) {
  return event.source === "/trainmaster";
}

/**
 * Returns what takes pieces of a stream and hands on its messages.
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
 * @param {(message: {id: string, event: string, data: string, comment?: string}) => void} handOn Comments too.
 */
export function parser(handOn) {
  let rest = "";
  let message = { id: "", event: "", data: [] };
  return (piece) => {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (message.id || message.event || message.data.length) {
          handOn({ ...message, data: message.data.join("\n") });
        }
        message = { id: "", event: "", data: [] };
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) handOn({ id: "", event: "", data: "", comment: line.slice(1).trim() });
      if (colon <= 0) continue;
      const value = line.slice(colon + 1).replace(/^ /, "");
      switch (line.slice(0, colon)) {
        case "id":
          message.id = value;
          break;
        case "event":
          message.event = value;
          break;
        case "data":
          message.data.push(value);
          break;
      }
    }
  };
}

/** Waits until somebody sees the tab, or the run is stopped. */
function seen(run) {
  return new Promise((resolve) => (run.wake = resolve));
}

function pauseFor(milliseconds, run) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds * (0.75 + Math.random() / 2));
    run.wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}
