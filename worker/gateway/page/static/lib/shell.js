/** What stands around a view: navigation, who is signed in, the connection's state, dialogs. */

import { html, useEffect, useMemo, useRef, useState } from "./ui.js";
import { Api, ME } from "./api.js";
import { attempting, Modal, useDialogs, useNotices } from "./dialogs.js";
import { areShortcutsOn, listen, turnShortcuts } from "./keys.js";
import { Live } from "./live.js";
import { Boundary, Empty, Field, ProblemNote, Skeleton, ViewHeader } from "./parts.js";
import { href, navigate, useRoute } from "./router.js";
import { chosenTheme, nextTheme } from "./theme.js";
import { useLiveState } from "./data.js";
import { VIEWS, isFor, viewOf } from "../views/index.js";

const THEMES = { system: "as the system", light: "light", dark: "dark" };
const ICONS = { system: "◐", light: "☀", dark: "☾" };

/** The whole page. */
export function Shell() {
  const { api, me, problem, signIn, signOut, load } = useSession();
  const notices = useNotices();
  const appOf = useRef(null);
  const dialogs = useDialogs(() => appOf.current);
  const app = useMemo(() => me && makeApp(api, me, notices.notify, dialogs), [api, me]);
  appOf.current = app;
  useEffect(() => {
    if (!app?.can("read")) return undefined;
    app.live.start();
    return () => app.live.stop();
  }, [app]);
  const route = useRoute();
  useEffect(
    () =>
      listen({
        help: () => void dialogs.dialog("Keyboard", Help),
        go: (letter) => {
          const view = VIEWS.find((each) => each.key === letter);
          if (view) navigate(href([view.path]));
        },
      }),
    [],
  );
  const needsToken = problem?.status === 401;
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <${Header} app=${app} route=${route} onHelp=${() => void dialogs.dialog("Keyboard", Help)} onSignOut=${signOut} />
    <main id="main" tabindex="-1">
      ${app
        ? html`<${Stage} app=${app} route=${route} />`
        : problem && !needsToken
          ? html`<${ViewHeader} title="Not connected" /><${ProblemNote} problem=${problem} onRetry=${load} />`
          : html`<${ViewHeader} title="trainmaster" /><${Skeleton} />`}
    </main>
    ${notices.element} ${dialogs.element}
    ${needsToken && html`<${TokenDialog} problem=${problem} hasToken=${Boolean(api.token)} onToken=${signIn} />`}
  `;
}

/** Who is signed in, and how that changes. */
function useSession() {
  const [state, setState] = useState({ me: null, problem: null });
  const acts = useRef(null);
  if (!acts.current) {
    const api = new Api(
      (problem) => setState((old) => ({ ...old, problem })),
      () => void lookAgain(),
    );
    const load = async () => {
      try {
        const me = await api.get(ME);
        setState({ me, problem: null });
      } catch (problem) {
        if (problem.name !== "Problem") throw problem;
        setState((old) => ({ ...old, problem }));
      }
    };
    // What the token may do can change under an open page; all views begin anew then.
    const lookAgain = async () => {
      const me = await api.get(ME).catch(() => null);
      if (me) setState((old) => (JSON.stringify(me) === JSON.stringify(old.me) ? old : { me, problem: null }));
    };
    const signIn = (secret) => {
      api.token = secret;
      return load();
    };
    const signOut = () => {
      api.token = null;
      setState({ me: null, problem: null });
      return load();
    };
    acts.current = { api, load, signIn, signOut };
  }
  useEffect(() => void acts.current.load(), []);
  return { ...state, ...acts.current };
}

function makeApp(api, me, notify, { dialog, confirm }) {
  return {
    me,
    can: (scope) => me.scopes.includes(scope),
    isUnlimited: !me.types?.length,
    api,
    live: new Live(api),
    notify,
    dialog,
    confirm,
    attempt: attempting(notify),
  };
}

/** The view of the route, loaded when it is first needed. */
function Stage({ app, route }) {
  const found = viewOf(route);
  const [loaded, setLoaded] = useState(null);
  const [failed, setFailed] = useState(null);
  const load = found?.load;
  useEffect(() => {
    if (!load) return undefined;
    let isWanted = true;
    setFailed(null);
    load().then(
      (module) => isWanted && setLoaded({ load, View: module.default }),
      (error) => isWanted && setFailed(error),
    );
    return () => {
      isWanted = false;
    };
  }, [load]);
  const place = route.path.join("/");
  useEffect(() => {
    const [, id] = route.path;
    document.title = [id, found?.view.title ?? "Not found", "trainmaster"].filter(Boolean).join(" · ");
  }, [place]);
  useFocusOnChange(place);
  if (!app.can("read")) {
    return html`
      <${ViewHeader} title="Nothing to see" />
      <${Empty}>The token <code>${app.me.name}</code> may not read. Make one by <code>trainmaster tokens create NAME --scope read</code>.<//>
    `;
  }
  if (!found) {
    return html`
      <${ViewHeader} title="Not found" />
      <${Empty}>There is no view at this address. <a href=${href(["now"])}>Go to Now</a>.<//>
    `;
  }
  if (failed) {
    const problem = { title: "This view can't be loaded", detail: "The gateway may be restarting; load the page anew." };
    return html`<${ViewHeader} title=${found.view.title} /><${ProblemNote} problem=${problem} onRetry=${() => location.reload()} />`;
  }
  if (loaded?.load !== load) return html`<${ViewHeader} title=${found.view.title} /><${Skeleton} lines=${6} />`;
  return html`<${Boundary} of=${place}><${loaded.View} key=${place} route=${route} app=${app} /><//>`;
}

/** After a change of the view, who reads by ear or key begins at its head. */
function useFocusOnChange(place) {
  const before = useRef(place);
  useEffect(() => {
    if (before.current === place) return;
    before.current = place;
    document.getElementById("main").focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [place]);
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function Header({ app, route, onHelp, onSignOut }) {
  const [name = VIEWS[0].path] = route.path;
  const nav = useRef(null);
  // On a phone the names of the views are wider than the screen.
  useEffect(() => nav.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" }), [name]);
  const shown = VIEWS.filter((view) => app && isFor(view, app));
  return html`
    <header class="top">
      <a class="brand" href=${href(["now"])}><img src="page/icon.svg" alt="" width="20" height="20" /> trainmaster</a>
      <nav aria-label="Views" ref=${nav}>
        <ul>
          ${shown.map(
            (view) => html`
              <li key=${view.path}>
                <a href=${href([view.path])} aria-current=${view.path === name ? "page" : undefined}>${view.title}</a>
              </li>
            `,
          )}
        </ul>
      </nav>
      <div class="top-right">
        ${app?.can("read") && html`<${Connection} live=${app.live} />`}
        <${ThemeButton} />
        <button type="button" class="quiet" onClick=${onHelp} aria-label="Help: keys" title="Keys (?)">?</button>
        ${app && html`<${Identity} app=${app} onSignOut=${onSignOut} />`}
      </div>
    </header>
  `;
}

const TITLES = {
  live: "Events come as they happen",
  stalled: "The gateway can't read Redis: what is shown is from before; what happened meanwhile comes once it can",
};
const SAID = { live: "Live", connecting: "Connecting", stalled: "Redis is away, waiting", lost: "Connection lost, trying again", off: "Not live" };

/** Says whether events come, and when they no longer do. */
function Connection({ live }) {
  const { state, problem } = useLiveState(live);
  const title = TITLES[state] ?? problem?.detail ?? SAID[state];
  return html`<span class=${`connection ${state}`} role="status" title=${title}>${SAID[state]}</span>`;
}

function ThemeButton() {
  const [theme, setTheme] = useState(chosenTheme());
  const label = `Colours: ${THEMES[theme]}`;
  return html`<button type="button" class="quiet" title=${label} aria-label=${`${label}. Change`} onClick=${() => setTheme(nextTheme())}>${ICONS[theme]}</button>`;
}

function Identity({ app, onSignOut }) {
  const { me } = app;
  const scopes = me.scopes.join(", ");
  const limits = [me.types?.length ? `types ${me.types.join(", ")}` : "", me.projects?.length ? `${me.projects.length} projects` : ""];
  const title = [`Scopes: ${scopes}`, ...limits.filter(Boolean)].join("; ");
  return html`
    <span class="identity" title=${title}>${me.name}</span>
    ${app.api.token && html`<button type="button" class="quiet" onClick=${onSignOut}>Sign out</button>`}
  `;
}

/** Asks for a token; the gateway said why. */
function TokenDialog({ problem, hasToken, onToken }) {
  const [secret, setSecret] = useState("");
  const [isBusy, setIsBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    if (!secret.trim()) return;
    setIsBusy(true);
    await onToken(secret.trim());
    setIsBusy(false);
  };
  return html`
    <${Modal} title="Sign in with a token">
      <form onSubmit=${submit}>
        <div class="modal-body">
          ${hasToken && html`<${ProblemNote} problem=${problem} />`}
          <${Field} label="Token" hint="Kept in this tab alone, and forgotten with it.">
            <input
              type="password"
              name="token"
              autocomplete="off"
              spellcheck=${false}
              autofocus
              required
              placeholder="tm_…"
              value=${secret}
              onInput=${(event) => setSecret(event.currentTarget.value)}
            />
          <//>
          <p class="muted">
            Make one by <code>trainmaster tokens create NAME --scope read</code>; to act from here it also needs${" "}
            <code>--scope operate</code>.
          </p>
        </div>
        <div class="modal-foot"><button type="submit" class="primary" disabled=${isBusy}>Sign in</button></div>
      </form>
    <//>
  `;
}

const KEYS = [
  ["/", "search"],
  ["j, k", "next and previous row"],
  ["Enter", "open the row"],
  ["Escape", "close a dialog"],
  ["?", "this help"],
];

function Help() {
  const [isOn, setIsOn] = useState(areShortcutsOn());
  const turn = (event) => {
    turnShortcuts(event.currentTarget.checked);
    setIsOn(event.currentTarget.checked);
  };
  return html`
    <div class="modal-body">
      <dl class="keys">
        ${[...KEYS, ...VIEWS.map(({ key, title }) => [`g ${key}`, title])].map(
          ([key, said]) => html`<div key=${key}><dt>${key.split(/(, | )/).map((part) => (part.trim().replace(",", "") ? html`<kbd>${part}</kbd>` : part))}</dt><dd>${said}</dd></div>`,
        )}
      </dl>
      <label class="check"><input type="checkbox" checked=${isOn} onChange=${turn} /> Single keys do these</label>
      <p class="muted">
        <a href="docs">All of this over HTTP</a> · <a href="page/vendor/THIRD-PARTY.txt">Licences of others</a>
      </p>
    </div>
  `;
}
