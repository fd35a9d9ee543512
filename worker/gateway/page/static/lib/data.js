/** Hooks that load what a view shows, and keep it fresh. */

import { isBefore } from "./live.js";
import { useCallback, useEffect, useRef, useState } from "./ui.js";

/** So often an answer is loaded anew at most, however many events there are. */
export const RELOAD_MILLISECONDS = 800;
/** Between two looks at an answer that is behind the events and comes no nearer. */
const LONGEST_LOOK_MILLISECONDS = 30_000;
/** So long an answer is waited for before it is asked for anew. */
const PATIENCE_MILLISECONDS = 30_000;

/**
 * @typedef {object} Loaded
 * @property {any} data What was answered last; undefined before.
 * @property {import("./api.js").Problem | null} problem Of the last try.
 * @property {boolean} isLoading
 * @property {() => void} reload
 */

/**
 * Loads a path and keeps it fresh.
 * @param {import("../app.js").App} app
 * @param {string | null} path Null loads nothing.
 * @param {object} [options]
 * @param {number} [options.every] Seconds between two loads, while the tab is seen.
 * @param {(event: import("./live.js").LiveEvent) => boolean} [options.on] Which events load it anew.
 * @returns {Loaded}
 */
export function useData(app, path, { every = 0, on } = {}) {
  const [state, setState] = useState({ path, data: undefined, problem: null, isLoading: path !== null });
  const now = useRef(null);
  // The event that the answer has to know: it may be made of events, and a moment behind them.
  const wanted = useRef(null);
  const again = useRef(null);
  const load = useCallback(async () => {
    if (path === null) return;
    now.current?.abort();
    const controller = new AbortController();
    now.current = controller;
    setState((old) => (old.path === path ? { ...old, isLoading: true } : { path, data: undefined, problem: null, isLoading: true }));
    try {
      const { body: data, lastEvent } = await app.api.getWithPlace(path, { signal: controller.signal });
      if (controller.signal.aborted) return;
      setState({ path, data, problem: null, isLoading: false });
      again.current(lastEvent, wanted.current);
    } catch (problem) {
      if (controller.signal.aborted) return;
      if (problem.name !== "Problem") throw problem;
      setState((old) => ({ ...old, problem, isLoading: false }));
    }
  }, [app, path]);

  useEffect(() => {
    // What was handed on before nobody here has heard.
    wanted.current = app.live.place;
    void load();
    return () => now.current?.abort();
  }, [load]);
  const reload = useThrottled(load, RELOAD_MILLISECONDS);
  useInterval(reload, path === null ? 0 : every);
  again.current = useCatchUp(reload);
  useEvents(app, (batch) => {
    if (path === null) return;
    const last = on && batch.events.findLast(on);
    if (batch.isGap) wanted.current = batch.begin;
    if (last) wanted.current = last.entry;
    if (batch.isGap || last) reload();
  });
  const isOther = state.path !== path;
  return {
    data: isOther ? undefined : state.data,
    problem: isOther ? null : state.problem,
    isLoading: isOther ? path !== null : state.isLoading,
    reload: load,
  };
}

/**
 * Hands batches of events to a function while a component is shown; the function may be a new one each time.
 * @param {import("../app.js").App} app
 * @param {(batch: import("./live.js").Batch) => void} receive
 */
export function useEvents(app, receive) {
  const latest = useRef(receive);
  latest.current = receive;
  useEffect(() => app.live.subscribe((batch) => latest.current(batch)), [app]);
}

/** Calls a function every so many seconds while the tab is seen, and when it is seen again. */
export function useInterval(call, seconds) {
  const latest = useRef(call);
  latest.current = call;
  useEffect(() => {
    if (!seconds) return undefined;
    let calledAt = Date.now();
    const tick = () => {
      if (document.hidden) return;
      calledAt = Date.now();
      void latest.current();
    };
    const timer = setInterval(tick, seconds * 1000);
    const onSeen = () => {
      if (!document.hidden && Date.now() - calledAt >= seconds * 1000) tick();
    };
    document.addEventListener("visibilitychange", onSeen);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", onSeen);
    };
  }, [seconds]);
}

/**
 * Returns a function that calls another one at once, and so often at most; the last call is not lost.
 * The next one waits for what the last one promised: begun anew at each event, an answer that takes longer than the
 * pause between two of them would never be shown.
 */
export function useThrottled(call, milliseconds) {
  const latest = useRef(call);
  latest.current = call;
  const kept = useRef({ timer: null, at: -Infinity, isCalling: false, isAsked: false });
  useEffect(
    () => () => {
      clearTimeout(kept.current.timer);
      kept.current.isAsked = false;
    },
    [],
  );
  return useCallback(
    function ask() {
      const { current } = kept;
      if (current.isCalling) current.isAsked = true;
      if (current.isCalling || current.timer !== null) return;
      const wait = Math.max(0, current.at + milliseconds - performance.now());
      current.timer = setTimeout(async () => {
        current.timer = null;
        current.at = performance.now();
        current.isCalling = true;
        try {
          await noLonger(latest.current());
        } finally {
          const { isAsked } = current;
          current.isCalling = current.isAsked = false;
          if (isAsked) ask();
        }
      }, wait);
    },
    [milliseconds],
  );
}

/** Waits for a promise, but not for ever: no answer may ever come where the network is lost. */
async function noLonger(promise) {
  let timer;
  const patience = new Promise((resolve) => (timer = setTimeout(resolve, PATIENCE_MILLISECONDS)));
  await Promise.race([promise, patience]).finally(() => clearTimeout(timer));
}

/**
 * Returns what is told which event an answer knows last, and which one it has to know: it loads anew until it does.
 * An answer that comes no nearer, as where Redis was emptied, is asked for more and more seldom.
 * @param {() => void} load
 * @param {() => boolean} [isFree] Asked before: whether what is shown may be replaced now.
 * @returns {(known: string | null, wanted: string | null) => void}
 */
export function useCatchUp(load, isFree = () => true) {
  const latest = useRef(null);
  latest.current = { load, isFree };
  const kept = useRef({ timer: null, known: null, pause: 0 });
  useEffect(() => () => clearTimeout(kept.current.timer), []);
  return useCallback((known, wanted) => {
    const { current } = kept;
    clearTimeout(current.timer);
    const isBehind = known && wanted && isBefore(known, wanted);
    const isNoNearer = isBehind && known === current.known;
    current.pause = isNoNearer ? Math.min(current.pause * 2, LONGEST_LOOK_MILLISECONDS) : RELOAD_MILLISECONDS;
    current.known = isBehind ? known : null;
    if (!isBehind) return;
    const look = () => {
      if (latest.current.isFree()) void latest.current.load();
      else current.timer = setTimeout(look, RELOAD_MILLISECONDS);
    };
    current.timer = setTimeout(look, current.pause);
  }, []);
}

/** Returns the time in milliseconds, anew every so many seconds. */
export function useNow(seconds = 1) {
  const [now, setNow] = useState(Date.now());
  useInterval(() => setNow(Date.now()), seconds);
  return now;
}

/** Returns the state of the events' connection. @param {import("./live.js").Live} live */
export function useLiveState(live) {
  const [, setCount] = useState(0);
  useEffect(() => live.watch(() => setCount((count) => count + 1)), [live]);
  return { state: live.state, lostAt: live.lostAt, problem: live.problem };
}
