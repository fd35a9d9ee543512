/**
 * The page of the gateway: no build step, no framework but Preact.
 *
 * - `lib/`: what views share. `ui.js` (html and hooks), `api.js` (requests and problems), `live.js`
 *   (events), `data.js` (hooks that load and follow), `parts.js` (small components), `format.js`,
 *   `dialogs.js`, `charts.js`, `keys.js`, `router.js`, `theme.js`, `shell.js` (what stands around a view).
 * - `views/`: one view per file; `views/index.js` lists them with their addresses.
 * - `vendor/`: what is not ours; `python -m tools.vendor` fetches it.
 *
 * A view is a module whose default export is one Preact component. It is given
 * `{route, app}` and returns what stands in <main>, beginning with one <h1> (see `ViewHeader`):
 *
 * @typedef {object} Route Where the page is: `#/commands/list-1?tab=data` is
 *   `{path: ["commands", "list-1"], query: {tab: "data"}}`, everything decoded.
 * @property {string[]} path
 * @property {Record<string, string>} query
 *
 * @typedef {object} App What a view may use; it is the same object for as long as somebody is signed in.
 * @property {Me} me Who is signed in: `GET /v1/me`.
 * @property {(scope: "submit" | "read" | "operate") => boolean} can Whether their token has a scope: show no
 *   button for what it may not do.
 * @property {boolean} isUnlimited Whether the token sees commands of every type.
 * @property {import("./lib/api.js").Api} api `api.get(path)`, `api.post(path, body)`…; throws `Problem`.
 * @property {import("./lib/live.js").Live} live Events as they come; see `useEvents` in `lib/data.js`.
 * @property {(text: string, kind?: "good" | "bad") => void} notify Says something at the foot of the page,
 *   for screen readers too.
 * @property {(title: string, body: Function, props?: object) => Promise<any>} dialog Shows a component in a
 *   dialog; it is given `{...props, app, close}`, and `close(value)` is what the promise comes to;
 *   Escape gives undefined.
 * @property {(question: {title: string, text?: any, action: string, isDangerous?: boolean}) => Promise<boolean>} confirm
 *   Asks before something is done.
 * @property {(what: string, act: () => Promise<any>) => Promise<any>} attempt Does something, and
 *   says so where it fails; gives undefined then.
 *
 * @typedef {object} Me
 * @property {string} name
 * @property {string[]} scopes
 * @property {string[] | null} types Types of commands that the token is limited to.
 * @property {string[] | null} projects
 * @property {boolean} needs_token
 */

import { render, html } from "./lib/ui.js";
import { Shell } from "./lib/shell.js";
import { applyTheme } from "./lib/theme.js";

applyTheme();
const root = document.getElementById("app");
root.replaceChildren();
render(html`<${Shell} />`, root);
