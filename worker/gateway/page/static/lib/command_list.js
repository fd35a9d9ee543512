/** The rows of a list of commands: loaded by pages, and changed by what comes live. */

import { useCallback, useEffect, useRef, useState } from "./ui.js";
import { RELOAD_MILLISECONDS, useCatchUp, useEvents, useThrottled } from "./data.js";
import { fits } from "./filters.js";
import { isBefore, isOfCommand, told } from "./live.js";
import { withQuery } from "./api.js";

/** Drawing a row takes the browser longer than the gateway takes to find it. */
export const PAGE_ROWS = 50;
/** With more, the first page is loaded anew: the tab holds no more, however long it stays open. */
const MOST_ROWS = 300;
/** A list is a moment behind the events: those that it does not know yet are told to it once more. */
const MOST_RECENT = 500;
/** What a list knows last that has taken no event in. */
const NO_EVENT = "0-0";
/** A search gives short pages; so many that bring nothing are asked for before somebody has to ask for more. */
const MOST_EMPTY_PAGES = 20;

/**
 * @typedef {object} Row As `GET /v1/commands` has it.
 * @property {string} id
 * @property {string} type
 * @property {string} state
 * @property {string | null} correlationid
 * @property {number} attempts
 * @property {string | null} accepted_at
 * @property {string} changed_at
 * @property {{code: string, message: string} | null} error
 */

/**
 * Loads a page of commands and follows the events.
 * @param {import("../app.js").App} app
 * @param {Record<string, string>} filter
 * @param {string | undefined} cursor Of the page; the first one without it.
 * @param {() => "follow" | "hold" | "off"} mode Asked at each batch: whether new rows are shown, counted, or let pass.
 */
export function useCommands(app, filter, cursor, mode) {
  const wanted = JSON.stringify([filter, cursor]);
  const [state, setState] = useState({ wanted: "", rows: [], next: null, problem: null, isLoading: true, missed: 0 });
  const now = useRef(null);
  /** @type {{current: import("./live.js").LiveEvent[]}} */
  const recent = useRef([]);
  /** The event that the list has to know: those behind it are in `recent`. @type {{current: string | null}} */
  const since = useRef(null);
  const known = useRef(NO_EVENT);
  const again = useRef(null);
  const load = useCallback(async () => {
    now.current?.abort();
    const controller = new AbortController();
    now.current = controller;
    setState((old) => ({ ...old, isLoading: true }));
    try {
      const { rows, next, lastEvent } = await readPages(app.api, filter, cursor, controller.signal);
      if (controller.signal.aborted) return;
      if (lastEvent === NO_EVENT && known.current !== NO_EVENT) {
        // It was begun anew: what came before may be of a Redis that was emptied.
        recent.current = [];
        since.current = app.live.place;
      }
      known.current = lastEvent ?? NO_EVENT;
      const unknown = recent.current.filter((event) => !lastEvent || isBefore(lastEvent, event.entry));
      const shown = withUnknown(rows, unknown, filter, !cursor);
      setState({ wanted, rows: shown.rows, next, problem: null, isLoading: false, missed: 0 });
      // What it does not know yet, and nobody else here either, comes with the next load.
      const kept = unknown.length < MOST_RECENT ? since.current : unknown[0].entry;
      again.current(lastEvent, shown.isWhole ? kept : unknown.at(-1).entry);
    } catch (problem) {
      if (controller.signal.aborted) return;
      if (problem.name !== "Problem") throw problem;
      setState((old) => ({ ...old, problem, isLoading: false }));
    }
  }, [app, wanted]);
  useEffect(() => {
    since.current = app.live.place;
  }, [app]);
  useEffect(() => {
    void load();
    return () => now.current?.abort();
  }, [load]);
  const reload = useThrottled(load, RELOAD_MILLISECONDS);
  again.current = useCatchUp(reload, () => mode() === "follow");
  useEvents(app, (batch) => {
    recent.current = [...recent.current, ...batch.events.filter(isOfCommand)].slice(-MOST_RECENT);
    if (batch.isGap) since.current = batch.begin;
    const how = mode();
    if (how === "off" || state.wanted !== wanted) return;
    const changed = apply(state.rows, batch.events, filter);
    const isFirst = !cursor;
    const shown = isFirst && how === "follow";
    const mustReload = batch.isGap || (shown && (changed.isOutOfOrder || changed.rows.length + changed.added.length > MOST_ROWS));
    if (mustReload) reload();
    if (!changed.isChanged && !changed.added.length) return;
    setState((old) => ({
      ...old,
      rows: shown ? [...changed.added, ...changed.rows].slice(0, MOST_ROWS) : changed.rows,
      missed: isFirst && !shown ? old.missed + changed.added.length + (changed.isOutOfOrder ? 1 : 0) : old.missed,
    }));
  });
  return { ...state, isStale: state.wanted !== wanted, reload: load };
}

/** Returns rows that were just read, with the events that the list did not know yet, and whether none is missing. */
function withUnknown(rows, unknown, filter, isFirst) {
  const { added, rows: changed, isOutOfOrder } = apply(rows, unknown, filter);
  if (!isFirst) return { rows: changed, isWhole: true };
  const newest = rows.length ? Date.parse(rows[0].accepted_at ?? rows[0].changed_at) : 0;
  return { rows: [...added.filter((row) => Date.parse(row.changed_at) >= newest), ...changed], isWhole: !isOutOfOrder };
}

/** Returns a whole page, though a search may give it in short ones, and the last event that all of it knows. */
async function readPages(api, filter, cursor, signal) {
  let rows = [];
  let next = cursor;
  let lastEvent = null;
  for (let empty = 0; empty < MOST_EMPTY_PAGES; ) {
    const query = { ...filter, cursor: next, limit: PAGE_ROWS - rows.length };
    const { body: page, lastEvent: known } = await api.getWithPlace(withQuery("v1/commands", query), { signal });
    lastEvent ??= known;
    rows = rows.concat(page.items);
    empty += page.items.length ? 0 : 1;
    next = page.next_cursor;
    if (next === null || rows.length >= PAGE_ROWS) break;
  }
  return { rows, next, lastEvent };
}

/**
 * Returns rows as they are after events.
 * @param {Row[]} rows
 * @param {import("./live.js").LiveEvent[]} events
 * @param {Record<string, string>} filter
 */
export function apply(rows, events, filter) {
  const places = new Map(rows.map((row, at) => [row.id, at]));
  const result = [...rows];
  /** @type {Map<string, Row>} */
  const added = new Map();
  let isChanged = false;
  let isOutOfOrder = false;
  for (const event of events) {
    if (!isOfCommand(event)) continue;
    const { state } = told(event);
    const at = places.get(event.subject);
    const before = at === undefined ? added.get(event.subject) : result[at];
    // A rejected message may name the id of a command that goes on.
    if (before && (state === "rejected" || Date.parse(event.time) < Date.parse(before.changed_at))) continue;
    const row = next(before, event);
    if (at !== undefined) {
      result[at] = row;
      isChanged = true;
    } else if (before || ((state === "accepted" || state === "rejected") && fits(filter, row))) {
      added.set(row.id, row);
    } else if (fits(filter, row) && filter.state) {
      // It was heard of before, so its place is not at the head.
      isOutOfOrder = true;
    }
  }
  const fitting = [...added.values()].filter((row) => fits(filter, row)).reverse();
  return { rows: result, added: fitting, isChanged, isOutOfOrder };
}

function next(before, event) {
  const { type, state } = told(event);
  const { error, attempts, attempt } = event.data ?? {};
  return {
    id: event.subject,
    type,
    correlationid: event.correlationid ?? null,
    accepted_at: state === "accepted" ? event.time : null,
    ...before,
    state,
    attempts: attempts ?? attempt ?? before?.attempts ?? 0,
    changed_at: event.time,
    error: error ? { code: error.code, message: error.message } : null,
  };
}
