/** Links to the pages of a list that is walked through by a cursor. */

import { html } from "./ui.js";
import { href } from "./router.js";

/** @param {{path: string[], query: Record<string, string>, next: string | null}} props `next` is `next_cursor` of the answer. */
export function Pages({ path, query, next }) {
  if (!query.cursor && !next) return null;
  return html`
    <nav class="pages" aria-label="Pages">
      ${query.cursor && html`<a class="button" href=${href(path, { ...query, cursor: "" })}>Newest</a>`}
      ${next && html`<a class="button" href=${href(path, { ...query, cursor: next })}>Older</a>`}
    </nav>
  `;
}
