/** What trainings lost, epoch by epoch, as curves. */

import { html } from "./ui.js";
import { Chart } from "./charts.js";
import { Empty } from "./parts.js";

/** More curves in one chart can't be told apart. */
const MOST_CURVES = 12;
const TONES = ["accent", "good", "warn", "doubt", "bad", "busy"];

/**
 * Returns the curves of a loss log, each by its name: an epoch has one loss, or several with names.
 * What is no number is left out.
 * @param {Record<string, any> | null | undefined} log
 * @returns {Map<string, Map<number, number>>} Losses by epoch.
 */
export function curvesOf(log) {
  const curves = new Map();
  for (const [epoch, losses] of Object.entries(log ?? {})) {
    const named = losses !== null && typeof losses === "object" ? Object.entries(losses) : [["loss", losses]];
    for (const [name, loss] of named) {
      if (!Number.isFinite(Number(epoch)) || typeof loss !== "number" || !Number.isFinite(loss)) continue;
      if (!curves.has(name)) curves.set(name, new Map());
      curves.get(name).set(Number(epoch), loss);
    }
  }
  return curves;
}

/** Returns the loss of the last epoch; null where there is none. @param {any} iteration */
export function lastLoss(iteration) {
  const [curve] = curvesOf(iteration?.loss_log).values();
  return curve ? curve.get(Math.max(...curve.keys())) : null;
}

/** A loss as it is read. @param {number | null | undefined} value */
export function lossText(value) {
  return value === null || value === undefined ? "–" : value.toPrecision(3);
}

/**
 * A chart of the losses of trainings, one curve each.
 * @param {{title: string, note?: string, trainings: {name: string, iteration: any}[]}} props
 */
export function LossChart({ title, note, trainings }) {
  const all = trainings.flatMap(({ name, iteration }) => {
    const curves = [...curvesOf(iteration?.loss_log)];
    return curves.map(([kind, curve]) => ({ label: curves.length > 1 ? `${name}, ${kind}` : name, curve }));
  });
  if (!all.length) return html`<${Empty}>No loss was logged.<//>`;
  const shown = all.slice(0, MOST_CURVES);
  const epochs = [...new Set(shown.flatMap(({ curve }) => [...curve.keys()]))].sort((one, other) => one - other);
  const series = shown.map(({ label, curve }, at) => ({
    label,
    tone: TONES[at % TONES.length],
    isDashed: at >= TONES.length,
    values: epochs.map((epoch) => curve.get(epoch) ?? null),
  }));
  const more = all.length > shown.length ? ` The newest ${MOST_CURVES} of ${all.length}.` : "";
  return html`<${Chart}
    title=${title}
    note=${`${note ?? "by epoch"}.${more}`}
    x=${epochs}
    series=${series}
    format=${lossText}
    xLabel="Epoch"
    isTime=${false}
    height=${220}
  />`;
}
