/** What a prediction found, drawn over its picture, on the page of its command. */

import { html, useEffect, useMemo, useRef, useState } from "../lib/ui.js";
import { Card } from "../lib/parts.js";
import { Drawing } from "../lib/drawing.js";
import { framesOf } from "../lib/predictions.js";
import { pathOf } from "../lib/api.js";

/** A tab holds so many pictures of a clip at a time. */
const MOST_PICTURES = 24;

/** @param {{app: import("../app.js").App, view: any, message: any, missing: any}} props */
export function PredictionResult({ app, view, message, missing }) {
  const frames = useMemo(() => framesOf(view.result?.frames), [view.result]);
  const pictureOf = usePictures(app, view.id, { message, missing }, frames);
  if (!frames.length) return null;
  return html`
    <${Card} title="What was found" kind="wide"><${Drawing} frames=${frames} pictureOf=${pictureOf} label="The picture" /><//>
  `;
}

/** Returns what tells of the picture of a frame, and loads it when it is first asked for. */
function usePictures(app, id, { message, missing }, frames) {
  const [, setCount] = useState(0);
  const kept = useRef(new Map());
  const none = useRef(null);
  const isGone = useRef(false);
  useEffect(
    () => () => {
      isGone.current = true;
      for (const { url } of kept.current.values()) if (url) URL.revokeObjectURL(url);
    },
    [],
  );
  const isClip = frames.length > 1 || frames[0]?.number > 0;
  const load = async (number) => {
    kept.current.set(number, { url: null, why: null });
    const path = `v1/commands/${pathOf(id)}/picture${isClip ? `?frame=${number}` : ""}`;
    let picture;
    try {
      picture = { url: URL.createObjectURL(await app.api.blob(path)), why: null };
    } catch (problem) {
      if (problem.name !== "Problem") throw problem;
      picture = { url: null, why: `There is no picture: ${problem.detail}` };
      // What can't be shown of one frame can't be of the others, so it is not asked for each.
      if (problem.code === "no_picture" && ![...kept.current.values()].some(({ url }) => url)) none.current = picture;
    }
    if (isGone.current) {
      if (picture.url) URL.revokeObjectURL(picture.url);
      return;
    }
    kept.current.set(number, picture);
    forgetOldest(kept.current);
    setCount((count) => count + 1);
  };
  return (number) => {
    if (missing) return { url: null, why: `There is no picture: ${missing.detail}` };
    if (!message) return { url: null, why: null };
    if (message.data?.data_uuid) return { url: null, why: "There is no picture here: the item lies at Encord, and the gateway fetches nothing from elsewhere." };
    if (none.current) return none.current;
    const found = kept.current.get(number);
    if (!found) void load(number);
    return found ?? { url: null, why: null };
  };
}

function forgetOldest(pictures) {
  for (const [number, { url }] of pictures) {
    if (pictures.size <= MOST_PICTURES) return;
    if (url) URL.revokeObjectURL(url);
    pictures.delete(number);
  }
}
