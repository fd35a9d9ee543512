/**
 * The report of a backfill, in place: a page of its own with styles of its own, in a shadow tree.
 *
 * The page's policy allows no inline style and no frame. So the report is read without being run, only
 * what a report is made of is copied, and its styles are put in by script, which the policy allows.
 */

import { html, useEffect, useRef, useState } from "./ui.js";
import { Card, ProblemNote, Skeleton } from "./parts.js";
import { onThemeChange } from "./theme.js";
import { useText } from "./texts.js";

/** Nothing that runs, loads, leads away or asks for input. */
const ELEMENTS = new Set(
  (
    "main a h1 h2 h3 p dl dt dd div span small code strong em b i ul ol li br table thead tbody tr th td caption figure figcaption " +
    "svg g path rect circle ellipse line polyline polygon text tspan defs use clippath symbol title desc metadata"
  ).split(" "),
);
const ATTRIBUTES = /^(class|id|style|role|scope|colspan|rowspan|title|aria-[a-z]+|viewBox|xmlns|width|height|x|y|x1|x2|y1|y2|cx|cy|r|rx|ry|d|points|transform|fill|stroke|clip-path|opacity|text-anchor|preserveAspectRatio|(fill|stroke|font|clip)-[a-z]+)$/;

/** @param {{app: import("../app.js").App, path: string}} props */
export function Report({ app, path }) {
  const [isOpen, setIsOpen] = useState(false);
  return html`
    <${Card}
      title="Its report"
      aside=${html`<button type="button" class="small" aria-expanded=${isOpen} onClick=${() => setIsOpen(!isOpen)}>${isOpen ? "Hide the report" : "Show the report"}</button>`}
    >
      ${isOpen ? html`<${Shown} app=${app} path=${path} />` : html`<p class="muted">Figures and plots: classes, confidences, times.</p>`}
    <//>
  `;
}

function Shown({ app, path }) {
  const holder = useRef(null);
  const { text, problem } = useText(app, path);
  useEffect(() => {
    if (text === null) return undefined;
    show(holder.current, text);
    return onThemeChange(() => show(holder.current, text));
  }, [text]);
  return html`
    <${ProblemNote} problem=${problem} />
    ${text === null && !problem && html`<${Skeleton} />`}
    <div ref=${holder} class="report"></div>
  `;
}

function show(holder, text) {
  const root = holder.shadowRoot ?? holder.attachShadow({ mode: "open" });
  const styles = [];
  // Taken out before it is parsed: parsed, even an inert style is one that the policy refuses.
  const bare = text
    .replace(/<style[^>]*>([\s\S]*?)<\/style>/gi, (_, style) => (styles.push(style), ""))
    .replace(/\sstyle=/gi, " data-style=");
  const parsed = new DOMParser().parseFromString(bare, "text/html");
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(ofHost(styles.join("\n"), isDark(holder)));
  root.adoptedStyleSheets = [sheet];
  root.replaceChildren(...copies(parsed.body));
}

/** Returns styles of a page as those of a shadow tree. */
function ofHost(styles, dark) {
  return `${styles}\n:host h3 { font-size: 1.3rem; } main { padding: 12px 16px 24px; }`
    .replaceAll(/\bh[12](?=\s*[{,])/g, lower)
    .replaceAll(":root", ":host")
    .replaceAll(/\bbody(?=\s*\{)/g, ":host")
    .replaceAll("(prefers-color-scheme: dark)", dark ? "all" : "not all");
}

/** Returns a heading's name beneath that of a card, for the page has its one <h1>; a link leads nowhere here. */
function lower(name) {
  return { h1: "h3", h2: "h4", a: "span" }[name] ?? name;
}

function isDark(element) {
  return getComputedStyle(element).colorScheme === "dark" || (document.documentElement.dataset.theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
}

function copies(parent) {
  return [...parent.childNodes].map(copy).filter(Boolean);
}

function copy(node) {
  if (node.nodeType === Node.TEXT_NODE) return document.createTextNode(node.data);
  if (node.nodeType !== Node.ELEMENT_NODE || !ELEMENTS.has(node.localName.toLowerCase())) return null;
  const made = document.createElementNS(node.namespaceURI, lower(node.localName));
  for (const { name, value } of node.attributes) {
    if (name === "data-style") made.style.cssText = value;
    else if ((name === "href" || name === "xlink:href") && value.startsWith("#") && node.localName === "use") made.setAttribute("href", value);
    else if (ATTRIBUTES.test(name)) made.setAttribute(name, value);
  }
  made.append(...copies(node));
  return made;
}
