/** Charts by uPlot, which is loaded where one is first shown. */

import { html, useEffect, useRef, useState } from "./ui.js";
import { onThemeChange } from "./theme.js";

/** So few are drawn as points too. */
const FEW_POINTS = 15;
/** Between the marks of an axis of whole numbers. */
const WHOLE_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

let loading = null;

/** Returns uPlot, once its style is there. */
function loadUPlot() {
  loading ??= Promise.all([import("../vendor/uplot.js"), loadStyle()]).then(([module]) => module.default);
  return loading;
}

function loadStyle() {
  return new Promise((resolve, reject) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL("../vendor/uplot.css", import.meta.url).href;
    link.onload = resolve;
    link.onerror = reject;
    document.head.append(link);
  });
}

/**
 * @typedef {object} Series
 * @property {string} label
 * @property {string} tone A colour of style.css without its dashes, like `good`.
 * @property {(number | null)[]} values
 * @property {boolean} [isArea] Whether it is filled below.
 * @property {boolean} [isDashed]
 */

/**
 * A chart with its caption, and its figures as a table for whoever does not see it.
 * @param {object} props
 * @param {string} props.title
 * @param {any} [props.note] What the caption adds.
 * @param {number[]} props.x Seconds since 1970, or whole numbers if `isTime` is false.
 * @param {Series[]} props.series
 * @param {(value: number) => string} props.format How values are told.
 * @param {(value: number) => string} [props.formatX] How places on x are told in the table.
 * @param {string} [props.xLabel]
 * @param {boolean} [props.isTime]
 * @param {number} [props.height] In pixels.
 */
export function Chart({ title, note, x, series, format, formatX = String, xLabel = "Time", isTime = true, height = 180 }) {
  const holder = useRef(null);
  const plot = useRef(null);
  const [uPlot, setUPlot] = useState(null);
  const [theme, setTheme] = useState(0);
  useEffect(() => {
    let isWanted = true;
    loadUPlot().then((found) => isWanted && setUPlot(() => found), console.error);
    const end = onThemeChange(() => setTheme((number) => number + 1));
    return () => {
      isWanted = false;
      end();
    };
  }, []);
  const shape = JSON.stringify([series.map(({ label, tone, isArea, isDashed }) => [label, tone, isArea, isDashed]), isTime, height]);
  useEffect(() => {
    if (!uPlot) return undefined;
    const element = holder.current;
    const width = () => Math.max(200, element.clientWidth);
    plot.current = new uPlot(options({ series, format, formatX, isTime, height, width: width() }), [x, ...series.map((each) => each.values)], element);
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: width(), height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [uPlot, theme, shape]);
  useEffect(() => plot.current?.setData([x, ...series.map((each) => each.values)]), [x, series]);
  return html`
    <figure class="chart">
      <figcaption><strong>${title}</strong>${note && html` <span class="muted">${note}</span>`}</figcaption>
      <div class="plot" ref=${holder} aria-hidden="true"></div>
      <ul class="legend" aria-hidden="true">
        ${series.map((each) => html`<li key=${each.label} class=${`tone-${each.tone} ${each.isDashed ? "dashed" : ""}`}>${each.label}</li>`)}
      </ul>
      <details>
        <summary>As a table</summary>
        <${Figures} title=${title} x=${x} series=${series} format=${format} formatX=${formatX} xLabel=${xLabel} />
      </details>
    </figure>
  `;
}

function Figures({ title, x, series, format, formatX, xLabel }) {
  return html`
    <div class="table-wrap" tabindex="0" role="region" aria-label=${title}>
      <table>
        <caption class="sr">${title}</caption>
        <thead>
          <tr><th scope="col">${xLabel}</th>${series.map(({ label }) => html`<th key=${label} scope="col" class="number">${label}</th>`)}</tr>
        </thead>
        <tbody>
          ${x.map(
            (place, at) => html`
              <tr key=${place}>
                <th scope="row">${formatX(place)}</th>
                ${series.map(({ label, values }) => html`<td key=${label} class="number">${values[at] === null ? "–" : format(values[at])}</td>`)}
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

/** Pixels for labels of 12 pixels' height, of which the longest is to be read whole. @param {string[] | null} labels */
function widthOf(labels) {
  return Math.max(48, 7 * Math.max(0, ...(labels ?? []).map((label) => label.length)) + 14);
}

function options({ series, format, formatX, isTime, height, width }) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => resolved(style.getPropertyValue(`--${name}`));
  const font = `12px ${style.fontFamily}`;
  const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font, gap: 6 };
  return {
    width,
    height,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: isTime }, y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [
      isTime ? { ...axis, size: 26, values: (_plot, places) => places.map((place) => formatX(place)) } : { ...axis, size: 26, incrs: WHOLE_STEPS },
      { ...axis, size: (_plot, labels) => widthOf(labels), values: (_plot, values) => values.map(format) },
    ],
    series: [
      {},
      ...series.map(({ label, tone, isArea, isDashed }) => ({
        label,
        stroke: colour(tone),
        fill: isArea ? withAlpha(colour(tone)) : undefined,
        dash: isDashed ? [5, 4] : undefined,
        width: 1.6,
        // Between gaps there is no line to see.
        points: { size: 4, show: (plot, at) => plot.data[at].filter((value) => value !== null).length < FEW_POINTS },
        spanGaps: true,
      })),
    ],
  };
}

/** Returns a colour as a canvas takes it: of `light-dark()` it knows nothing. */
function resolved(value) {
  const probe = document.createElement("span");
  probe.style.color = value;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function withAlpha(colour) {
  return colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.14)");
}
