/** What a training came to, on the page of its command. */

import { html } from "../lib/ui.js";
import { Card, Facts } from "../lib/parts.js";
import { LossChart, lastLoss, lossText } from "../lib/losses.js";
import { duration } from "../lib/format.js";
import { href } from "../lib/router.js";

/** @param {{view: any, message: any}} props */
export function TrainingResult({ view, message }) {
  const iteration = view.result?.iteration;
  if (!iteration) return null;
  const model = message?.data?.model_uuid;
  return html`
    <${Card}
      title="Its losses"
      aside=${model && html`<a href=${href(["trainings"], { model })}>Compare with the model's other trainings</a>`}
    >
      <${LossChart} title="Loss" trainings=${[{ name: "loss", iteration }]} />
      <${Facts}
        of=${[
          ["Last loss", lossText(lastLoss(iteration))],
          ["Epochs", iteration.epochs],
          ["Batch size", iteration.batch_size],
          ["Trained for", typeof iteration.duration === "number" ? duration(iteration.duration) : null],
        ]}
      />
    <//>
  `;
}
