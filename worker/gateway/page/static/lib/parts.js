/** Small components that all views share. */

import { Component, html, useEffect, useId, useRef, useState } from "./ui.js";
import { ago, clock, fullTime, pretty, words } from "./format.js";
import { href } from "./router.js";
import { useNow } from "./data.js";

/** The head of a view: its one <h1>, what it says beside it, and its buttons. */
export function ViewHeader({ title, above, children }) {
  return html`
    <header class="view-head">
      <div>
        ${above && html`<p class="above">${above}</p>`}
        <h1>${title}</h1>
      </div>
      ${children && html`<div class="view-acts">${children}</div>`}
    </header>
  `;
}

/** What went wrong and what to do, as the gateway says it. */
export function ProblemNote({ problem, isPlain = false, onRetry }) {
  if (!problem) return null;
  const rest = html`
    ${isPlain ? "" : html`<strong>${problem.title}.</strong> `}${problem.detail}
    ${problem.problems?.length > 0 &&
    html`<ul>
      ${problem.problems.map(({ path, message }) => html`<li><code>${path || "the whole"}</code> ${message}</li>`)}
    </ul>`}
  `;
  if (isPlain) return rest;
  return html`
    <div class="problem" role="alert">
      <div>${rest}</div>
      ${onRetry && html`<button type="button" onClick=${onRetry}>Try again</button>`}
    </div>
  `;
}

/**
 * What was loaded, or why there is nothing: children is a function of the data.
 * What was shown stays while it is loaded anew, also where that fails.
 */
export function Loaded({ of, children, lines = 3 }) {
  const { data, problem, reload } = of;
  return html`
    ${problem && html`<${ProblemNote} problem=${problem} onRetry=${reload} />`}
    ${data !== undefined ? children(data) : !problem && html`<${Skeleton} lines=${lines} />`}
  `;
}

/** Stands where something will be. */
export function Skeleton({ lines = 3 }) {
  return html`
    <div class="skeleton" role="status" aria-label="Loading">
      ${Array.from({ length: lines }, (_, at) => html`<span key=${at}></span>`)}
    </div>
  `;
}

/** Says that there is nothing, and what that means. */
export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

/** The state of a command, a backfill or a training. */
export function State({ state }) {
  return html`<span class=${`state ${state}`}>${words(state)}</span>`;
}

/** A time: the clock's, or how long ago it was, and all of it as a title. */
export function Time({ at, relative = false }) {
  if (!at) return html`<span class="none">–</span>`;
  const date = new Date(at);
  return html`<time datetime=${date.toISOString()} title=${fullTime(date)}>${relative ? html`<${Ago} date=${date} />` : clock(date)}</time>`;
}

function Ago({ date }) {
  useNow(1);
  return ago(date, Date.now());
}

/** A card with a heading. */
export function Card({ title, aside, children, level = 2, kind = "" }) {
  const id = useId();
  return html`
    <section class=${`card ${kind}`} aria-labelledby=${id}>
      <div class="card-head">
        ${level === 2 ? html`<h2 id=${id}>${title}</h2>` : html`<h3 id=${id}>${title}</h3>`}
        ${aside && html`<div class="card-aside">${aside}</div>`}
      </div>
      ${children}
    </section>
  `;
}

/**
 * A table that scrolls by itself where it is wide.
 * @param {{caption: string, isCaptionHidden?: boolean, columns: {name: string, title: any, isNumber?: boolean, className?: string}[], children: any}} props
 *   `children` are its rows: <tr> with one <td> or <th scope="row"> for each column.
 */
export function Table({ caption, isCaptionHidden = true, columns, children, isBusy = false }) {
  return html`
    <div class="table-wrap" tabindex="0" role="region" aria-label=${caption}>
      <table aria-busy=${isBusy}>
        <caption class=${isCaptionHidden ? "sr" : ""}>${caption}</caption>
        <thead>
          <tr>
            ${columns.map(
              ({ name, title, isNumber, className = "" }) =>
                html`<th key=${name} scope="col" class=${`${isNumber ? "number" : ""} ${className}`}>${title}</th>`,
            )}
          </tr>
        </thead>
        <tbody>${children}</tbody>
      </table>
    </div>
  `;
}

/** Names and values, as a list of both. @param {{of: [any, any][]}} props What is null or undefined is left out. */
export function Facts({ of }) {
  return html`
    <dl class="facts">
      ${of
        .filter((fact) => fact && fact[1] !== null && fact[1] !== undefined)
        .map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
    </dl>
  `;
}

/**
 * Leads to the section of the docs that tells more: a link where the gateway knows where they are published.
 * @param {{app: import("../app.js").App, at: string}} props `at` is a page and perhaps a heading, like `operations.md, Holds`.
 */
export function More({ app, at }) {
  const [page, heading] = at.split(", ");
  const anchor = heading ? `#${heading.toLowerCase().replaceAll(/[^\w\s-]/g, "").replaceAll(/\s/g, "-")}` : "";
  const docs = app.me.docs_url;
  return html`<p class="muted">More: ${docs ? html`<a href=${`${docs}/${page}${anchor}`} target="_blank" rel="noreferrer">${heading ?? page}</a>` : html`<cite>docs/${at}</cite>`}</p>`;
}

/** A link to a command. */
export function CommandLink({ id, ...rest }) {
  return html`<a class="id" href=${href(["commands", id])} ...${rest}>${id}</a>`;
}

/** JSON for people to read and copy; a long one is cut until it is asked for. */
export function Json({ value, label, most = 20_000 }) {
  const [isWhole, setIsWhole] = useState(false);
  const text = typeof value === "string" ? value : pretty(value);
  const isCut = !isWhole && text.length > most;
  return html`
    <div class="json">
      <${CopyButton} text=${text} label=${`Copy ${label}`} />
      <pre tabindex="0" role="group" aria-label=${label}>${isCut ? text.slice(0, most) : text}</pre>
      ${isCut && html`<button type="button" onClick=${() => setIsWhole(true)}>Show all ${text.length.toLocaleString("en")} characters</button>`}
    </div>
  `;
}

/** Copies a text. */
export function CopyButton({ text, label, name = "Copy" }) {
  const [said, setSaid] = useState(name);
  const timer = useRef(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied");
    } catch {
      setSaid("The browser refuses");
    }
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setSaid(name), 2_000);
  };
  return html`<button type="button" class="copy" onClick=${copy} aria-label=${said === name ? label : said}>${said}</button>`;
}

/** A field with its label. */
export function Field({ label, hint, children }) {
  return html`<label class="field"><span>${label}</span>${children}${hint && html`<small>${hint}</small>`}</label>`;
}

/** Says that something broke in place of what it would have shown; the rest of the page goes on. */
export class Boundary extends Component {
  constructor(props) {
    super(props);
    this.state = { error: null, of: props.of };
  }

  static getDerivedStateFromError(error) {
    return { error };
  }

  static getDerivedStateFromProps(props, state) {
    return props.of === state.of ? null : { error: null, of: props.of };
  }

  componentDidCatch(error) {
    console.error(error);
  }

  render() {
    const { error } = this.state;
    if (!error) return this.props.children;
    return html`
      <div class="problem" role="alert">
        <div><strong>This view failed.</strong> ${String(error.message ?? error)} – a defect of the page; the browser's console has more.</div>
        <button type="button" onClick=${() => this.setState({ error: null })}>Try again</button>
      </div>
    `;
  }
}
