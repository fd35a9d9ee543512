/** Which commands are listed: a filter as the address, the gateway and the page itself have it. */

import { html, useEffect, useId, useRef, useState } from "./ui.js";
import { Field } from "./parts.js";
import { COMMAND_TYPES, EVENT_STATES } from "./contract.js";
import { href, navigate, parse } from "./router.js";
import { words } from "./format.js";

/** Names of a filter's parts, as `GET /v1/commands` has them. */
export const FILTER_NAMES = ["state", "type", "id", "correlationid", "text", "since", "until"];
/** Typing rests for so long before what was typed is asked for. */
const REST_MILLISECONDS = 250;
const AT_FIRST = ["text", "state", "type"];

/**
 * Returns the filter of an address. A token that is limited to types has to name one of them.
 * @param {Record<string, string>} query
 * @param {import("../app.js").Me} me
 * @returns {Record<string, string>}
 */
export function filterOf(query, me) {
  const filter = Object.fromEntries(FILTER_NAMES.filter((name) => query[name]).map((name) => [name, query[name]]));
  if (me.types?.length && !filter.type) [filter.type] = me.types;
  return filter;
}

/**
 * Whether a command fits a filter, as far as the page can tell: it judges what comes live.
 * @param {Record<string, string>} filter
 * @param {{id: string, type: string, state: string, correlationid: string | null, changed_at: string, error: {message: string} | null}} row
 */
export function fits(filter, row) {
  const time = Date.parse(row.changed_at);
  const text = filter.text?.toLowerCase();
  return (
    (!filter.state || filter.state === row.state) &&
    (!filter.type || filter.type === row.type) &&
    (!filter.correlationid || filter.correlationid === row.correlationid) &&
    (!filter.id || row.id.startsWith(filter.id)) &&
    (!filter.since || time >= Date.parse(filter.since)) &&
    (!filter.until || time < Date.parse(filter.until)) &&
    (!text || row.id.toLowerCase().includes(text) || Boolean(row.error?.message?.toLowerCase().includes(text)))
  );
}

/** The fields of a filter; what is put in stands in the address at once. */
export function FilterBar({ app, filter, path }) {
  const [draft, setDraft] = useState(filter);
  const id = useId();
  const kept = JSON.stringify(filter);
  const further = FILTER_NAMES.filter((name) => !AT_FIRST.includes(name) && filter[name]).length;
  const [isOpen, setIsOpen] = useState(further > 0);
  const timer = useRef(null);
  useEffect(() => {
    // Not while somebody types: the address is behind what they have typed.
    if (timer.current === null) setDraft(filter);
  }, [kept]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const go = (next) => {
    timer.current = null;
    // Who has typed may have left meanwhile.
    if (parse(location.hash).path.join("/") === path.join("/")) navigate(href(path, next), { replace: true });
  };
  const set = (name, rest) => (event) => {
    const next = { ...draft, [name]: event.currentTarget.value };
    setDraft(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => go(next), rest);
  };
  const now = (event) => {
    event.preventDefault();
    clearTimeout(timer.current);
    go(draft);
  };
  const clear = () => {
    clearTimeout(timer.current);
    setDraft({});
    go({});
  };
  const setTime = (name) => (event) => {
    const { value } = event.currentTarget;
    const next = { ...draft, [name]: value ? new Date(value).toISOString() : "" };
    setDraft(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => go(next), REST_MILLISECONDS);
  };
  const types = app.me.types?.length ? app.me.types : COMMAND_TYPES;
  return html`
    <form class="filters" role="search" aria-label="Filter" onSubmit=${now}>
      <${Field} label="Text">
        <input
          type="search"
          data-search
          maxlength="200"
          placeholder="in the id or the error  ( / )"
          value=${draft.text ?? ""}
          onInput=${set("text", REST_MILLISECONDS)}
        />
      <//>
      <${Field} label="State">
        <select value=${draft.state ?? ""} onChange=${set("state", 0)}>
          <option value="">any</option>
          ${EVENT_STATES.map((state) => html`<option key=${state} value=${state}>${words(state)}</option>`)}
        </select>
      <//>
      <${Field} label="Type">
        <select value=${draft.type ?? ""} onChange=${set("type", 0)}>
          ${!app.me.types?.length && html`<option value="">any</option>`}
          ${[...types].sort().map((type) => html`<option key=${type} value=${type}>${type}</option>`)}
        </select>
      <//>
      <button type="button" aria-expanded=${isOpen} aria-controls=${id} onClick=${() => setIsOpen(!isOpen)}>More${further > 0 ? ` (${further})` : ""}</button>
      ${Object.keys(filter).length > 0 && html`<button type="button" class="quiet" onClick=${clear}>Clear</button>`}
      <div class="further" id=${id} hidden=${!isOpen}>
        <${Field} label="Id begins with"><input value=${draft.id ?? ""} spellcheck=${false} onInput=${set("id", REST_MILLISECONDS)} /><//>
        <${Field} label="Correlation id"><input value=${draft.correlationid ?? ""} spellcheck=${false} onInput=${set("correlationid", REST_MILLISECONDS)} /><//>
        <${Field} label="Changed since"><input type="datetime-local" step="1" value=${local(draft.since)} onChange=${setTime("since")} /><//>
        <${Field} label="Changed before"><input type="datetime-local" step="1" value=${local(draft.until)} onChange=${setTime("until")} /><//>
      </div>
    </form>
  `;
}

/** Returns a time as a field of the browser has it, in the time of this place. */
function local(value) {
  if (!value || Number.isNaN(Date.parse(value))) return "";
  const date = new Date(value);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
