/** What becomes of deliveries, by rule. */

import { html } from "./ui.js";
import { href } from "./router.js";

/** What a rule can make of a delivery, how that looks, and what it means. */
export const OUTCOMES = {
  submitted: ["good", "Its commands were sent."],
  coalesced: ["busy", "It joined a window; one command is made of all its deliveries at the window's end."],
  no_match: ["", "The rule is not about such a delivery."],
  not_allowed: ["warn", "The rule does not allow this project."],
  invalid: ["bad", "What the rule made of it is no command."],
  unreadable: ["bad", "The body can't be read."],
  loop: ["warn", "It stems from the rule's own commands, too many times over."],
};

const GRAVITY = ["bad", "warn", "good", "busy", ""];

/** The outcome of all rules of a delivery. */
export function OutcomeState({ delivery }) {
  const tones = delivery.rules.map(({ outcome }) => OUTCOMES[outcome]?.[0] ?? "");
  const tone = GRAVITY.find((each) => tones.includes(each)) ?? "";
  return html`<span class=${`state ${tone}`}>${delivery.outcome.replaceAll("_", " ")}</span>`;
}

/** The address of a delivery on the page. */
export function deliveryHref({ source, id }) {
  return href(["webhooks", `${source}/${id}`]);
}
