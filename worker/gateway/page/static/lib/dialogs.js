/** Dialogs, one at a time, and the notices at the foot of the page. */

import { html, useEffect, useId, useRef, useState } from "./ui.js";
import { ProblemNote } from "./parts.js";

/** So long a notice stays; a bad one stays until it is closed. */
const NOTICE_MILLISECONDS = 6_000;
const MOST_NOTICES = 4;

/** A dialog of the browser, so that the focus stays in it and Escape closes it. */
export function Modal({ title, onClose, children, size = "" }) {
  const dialog = useRef(null);
  const id = useId();
  useEffect(() => {
    const { current } = dialog;
    const before = document.activeElement;
    current.showModal();
    // A browser closes on a second Escape whatever it was told at the first.
    const onClosed = () => (onClose ? onClose() : current.showModal());
    current.addEventListener("close", onClosed);
    return () => {
      current.removeEventListener("close", onClosed);
      current.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  const onCancel = (event) => {
    event.preventDefault();
    onClose?.();
  };
  return html`
    <dialog ref=${dialog} class=${`modal ${size}`} aria-labelledby=${id} onCancel=${onCancel}>
      <div class="modal-head">
        <h2 id=${id}>${title}</h2>
        ${onClose && html`<button type="button" class="quiet" onClick=${() => onClose()} aria-label="Close">✕</button>`}
      </div>
      ${children}
    </dialog>
  `;
}

/** Asks before something is done; what it does is in the button. */
function Question({ text, action, isDangerous, close }) {
  return html`
    <form
      onSubmit=${(event) => {
        event.preventDefault();
        close(true);
      }}
    >
      <div class="modal-body">${typeof text === "string" ? html`<p>${text}</p>` : text}</div>
      <div class="modal-foot">
        <button type="button" onClick=${() => close(false)}>Keep as it is</button>
        <button type="submit" class=${isDangerous ? "danger" : "primary"} autofocus>${action}</button>
      </div>
    </form>
  `;
}

/**
 * Returns `dialog` and `confirm` of the app, and the element that shows them.
 * @param {() => any} appOf
 */
export function useDialogs(appOf) {
  const [open, setOpen] = useState(null);
  const acts = useRef(null);
  if (!acts.current) {
    let number = 0;
    const dialog = (title, body, props = {}) =>
      new Promise((resolve) => {
        number += 1;
        setOpen((before) => {
          before?.resolve(undefined);
          return { title, body, props, resolve, number };
        });
      });
    const confirm = async ({ title, ...rest }) => Boolean(await dialog(title, Question, rest));
    acts.current = { dialog, confirm };
  }
  const close = (value) => {
    open.resolve(value);
    setOpen(null);
  };
  const element =
    open &&
    html`
      <${Modal} key=${open.number} title=${open.title} onClose=${() => close(undefined)} size=${open.props.size ?? ""}>
        <${open.body} ...${open.props} app=${appOf()} close=${close} />
      <//>
    `;
  return { ...acts.current, element };
}

/** Returns `notify` of the app, and the element that shows notices. */
export function useNotices() {
  const [notices, setNotices] = useState([]);
  const acts = useRef(null);
  if (!acts.current) {
    let number = 0;
    const remove = (key) => setNotices((old) => old.filter((each) => each.key !== key));
    const notify = (said, kind = "good") => {
      number += 1;
      const key = number;
      setNotices((old) => [...old, { key, said, kind }].slice(-MOST_NOTICES));
      if (kind === "good") setTimeout(() => remove(key), NOTICE_MILLISECONDS);
    };
    acts.current = { notify, remove };
  }
  const element = html`
    <div class="notices" role="status" aria-live="polite">
      ${notices.map(
        ({ key, said, kind }) => html`
          <div key=${key} class=${`notice ${kind}`}>
            <div>${said}</div>
            <button type="button" class="quiet" aria-label="Close this notice" onClick=${() => acts.current.remove(key)}>✕</button>
          </div>
        `,
      )}
    </div>
  `;
  return { notify: acts.current.notify, element };
}

/** Returns `attempt` of the app: it does something, and says so where it fails. */
export function attempting(notify) {
  return async (what, act) => {
    try {
      return await act();
    } catch (problem) {
      if (problem.name !== "Problem") throw problem;
      const said = problem.isUnanswered ? `${what} got no answer.` : `${what} did not work.`;
      notify(html`<strong>${said}</strong> <${ProblemNote} problem=${problem} isPlain />`, "bad");
      return undefined;
    }
  };
}
