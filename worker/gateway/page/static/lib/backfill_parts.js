/** Small components of backfills: how far one is, and its buttons. */

import { html } from "./ui.js";
import { actsFor, doneOf, hasEnded, steer, totalOf } from "./backfills.js";
import { count } from "./format.js";

const TITLES = { pause: "Pause…", resume: "Resume…", cancel: "Cancel…", "retry-failed": "Retry failed…" };

/** How far a backfill is, as a bar and in words. */
export function Progress({ backfill }) {
  const total = totalOf(backfill);
  const done = doneOf(backfill);
  const share = total ? Math.min(1, done / total) : hasEnded(backfill) ? 1 : null;
  const text = total === null ? `${count(done)} of those read so far` : `${count(done)} of ${count(total)}`;
  return html`
    <span class="bar-and-text">
      <progress aria-label=${`Progress of ${backfill.id}`} max="1" value=${share ?? undefined}></progress>
      <span>${text}${share !== null && total ? html` <span class="muted">${percent(share)}</span>` : ""}</span>
    </span>
  `;
}

function percent(share) {
  // 100 % is told at the end alone.
  return `${share < 1 ? Math.min(99.9, Math.floor(share * 1000) / 10) : 100} %`;
}

/** Buttons for what can be done with a backfill as it stands. */
export function BackfillActs({ app, backfill, onDone, isSmall = false }) {
  if (!app.can("operate")) return null;
  return actsFor(backfill).map(
    (act) => html`
      <button
        key=${act}
        type="button"
        class=${isSmall ? "small" : act === "retry-failed" || act === "resume" ? "primary" : ""}
        aria-label=${isSmall ? `${TITLES[act].replace("…", "")} ${backfill.id}` : undefined}
        onClick=${() => void steer(app, backfill, act).then((done) => done && onDone())}
      >
        ${TITLES[act]}
      </button>
    `,
  );
}
