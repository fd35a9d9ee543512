/** What a prediction found, drawn over its picture, on the page of its command. */

import { html, useMemo } from "../lib/ui.js";
import { Card } from "../lib/parts.js";
import { Drawing } from "../lib/drawing.js";
import { AT_ENCORD, usePictures } from "../lib/pictures.js";
import { framesOf } from "../lib/predictions.js";
import { pathOf } from "../lib/api.js";

/** @param {{app: import("../app.js").App, view: any, message: any, missing: any}} props */
export function PredictionResult({ app, view, message, missing }) {
  const frames = useMemo(() => framesOf(view.result?.frames), [view.result]);
  const path = `v1/commands/${pathOf(view.id)}/picture`;
  const pictureOf = usePictures(app, { path, why: whyNone(message, missing), isReady: Boolean(message) }, frames);
  if (!frames.length) return null;
  return html`
    <${Card} title="What was found" kind="wide"><${Drawing} frames=${frames} pictureOf=${pictureOf} label="The picture" /><//>
  `;
}

function whyNone(message, missing) {
  if (missing) return `There is no picture: ${missing.detail}`;
  return message?.data?.data_uuid ? AT_ENCORD : null;
}
