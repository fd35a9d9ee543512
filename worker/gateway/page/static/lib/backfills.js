/** What a backfill's figures come to: share, rate, time left; and what a person does with one. */

import { useRef } from "./ui.js";
import { pathOf } from "./api.js";
import { count, counted } from "./format.js";
import { href, navigate } from "./router.js";

/** The rate is told over so many seconds: long enough to be calm, short enough to see a pause. */
const RATE_SECONDS = 60;
const LEAST_RATE_SECONDS = 4;
const ENDED = ["succeeded", "failed", "cancelled", "rejected"];

/** Whether a backfill has ended. @param {{state: string}} backfill */
export function hasEnded(backfill) {
  return ENDED.includes(backfill.state);
}

/** Returns how many of its items have ended. */
export function doneOf(backfill) {
  return backfill.succeeded + backfill.failed + backfill.dropped;
}

/** Returns how many items it has, as far as known; null before. */
export function totalOf(backfill) {
  return backfill.total ?? (hasEnded(backfill) ? backfill.read : null);
}

/** Returns items a second since it was begun, until its end or now; null where nobody can tell. */
export function meanRate(backfill, now) {
  const begun = Date.parse(backfill.begun_at);
  const end = backfill.ended_at ? Date.parse(backfill.ended_at) : now;
  const done = backfill.succeeded + backfill.failed;
  return done && end > begun ? done / ((end - begun) / 1000) : null;
}

/**
 * Returns what takes a backfill as it was loaded and returns its items a second of the last minute,
 * or of all its time until there is enough to compare.
 */
export function useRate() {
  const samples = useRef([]);
  return (backfill, now) => {
    const { current } = samples;
    const done = backfill.succeeded + backfill.failed;
    const last = current.at(-1);
    if (last && last.done > done) current.length = 0;
    if (!last || last.of !== backfill) current.push({ of: backfill, at: now, done });
    while (current.length > 2 && now - current[0].at > RATE_SECONDS * 1000) current.shift();
    if (hasEnded(backfill)) return meanRate(backfill, now);
    const seconds = (current.at(-1).at - current[0].at) / 1000;
    return seconds < LEAST_RATE_SECONDS ? meanRate(backfill, now) : (current.at(-1).done - current[0].done) / seconds;
  };
}

/** Returns the seconds that are left at a rate; null where nobody can tell. */
export function secondsLeft(backfill, rate) {
  const total = totalOf(backfill);
  if (backfill.state !== "running" || total === null || !rate) return null;
  return Math.max(0, total - doneOf(backfill)) / rate;
}

/** A rate as it is read. @param {number | null} rate Items a second. */
export function rateText(rate) {
  if (rate === null) return "–";
  return rate < 1 ? `${count(Math.round(rate * 600) / 10)} / min` : `${count(Math.round(rate * 10) / 10)} / s`;
}

const QUESTIONS = {
  pause: () => ({
    title: "Pause this backfill?",
    text: "Items that run are finished; no further ones are started until it is resumed.",
    action: "Pause",
  }),
  resume: () => ({
    title: "Resume this backfill?",
    text: "It goes on with the items that wait.",
    action: "Resume",
  }),
  cancel: ({ open }) => ({
    title: "Cancel this backfill?",
    text: `${counted(open, "item")} that wait or run, and all that were not read yet, end here for good. The results so far are written.`,
    action: "Cancel the backfill",
    isDangerous: true,
  }),
  "retry-failed": ({ id, failed }) => ({
    title: "Run the failed items again?",
    text: `${counted(failed, "item")} that failed are run as a new backfill, ${id}.retry. If that is there already, nothing more is started.`,
    action: "Run them again",
  }),
};
const NAMES = { pause: "The pause", resume: "The resumption", cancel: "The cancellation", "retry-failed": "The retry" };
const SAID = { pause: "Paused.", resume: "It goes on.", cancel: "It is being cancelled." };

/** Asks, then does one of `pause`, `resume`, `cancel`, `retry-failed`; returns whether it was done. */
export async function steer(app, backfill, act) {
  if (!(await app.confirm(QUESTIONS[act](backfill)))) return false;
  const done = await app.attempt(NAMES[act], () => app.api.post(`v1/backfills/${pathOf(backfill.id)}/${act}`));
  if (!done) return false;
  if (act === "retry-failed") {
    app.notify(done.duplicate ? "It was started before." : "Started.");
    navigate(href(["backfills", done.id]));
  } else {
    app.notify(SAID[act]);
  }
  return true;
}

/** Returns what can be done with a backfill as it stands. @returns {string[]} */
export function actsFor(backfill) {
  switch (backfill.state) {
    case "running":
      return ["pause", "cancel"];
    case "paused":
      return ["resume", "cancel"];
    case "accepted":
    case "retrying":
      return ["cancel"];
    default:
      return hasEnded(backfill) && backfill.failed ? ["retry-failed"] : [];
  }
}
