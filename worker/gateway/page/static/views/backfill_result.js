/** Leads from a backfill's command to the backfill. */

import { html } from "../lib/ui.js";
import { Card } from "../lib/parts.js";
import { href } from "../lib/router.js";

/** @param {{view: any}} props */
export function BackfillResult({ view }) {
  if (view.state === "submitted" || view.state === "rejected") return null;
  return html`<${Card} title="The backfill"><p><a href=${href(["backfills", view.id])}>Its progress, failures, report and files</a></p><//>`;
}
