/** Pictures of frames that the gateway serves, kept while they are shown. */

import { useLayoutEffect, useRef, useState } from "./ui.js";
import { withQuery } from "./api.js";

/** A tab holds so many pictures of a clip at a time. */
const MOST_PICTURES = 24;
/** Whoever runs through many with a slider stops at few of them. */
const REST_MILLISECONDS = 120;

/** Why there is none of what names no file. */
export const AT_ENCORD = "There is no picture here: the item lies at Encord, and the gateway fetches nothing from elsewhere.";

/**
 * Returns what tells of the picture of a frame, and loads it when it is first asked for.
 * @param {import("../app.js").App} app
 * @param {object} of
 * @param {string} of.path Where the gateway serves it.
 * @param {Record<string, any>} [of.query]
 * @param {string | null} of.why Why there is none, where that is known before it is asked for.
 * @param {boolean} [of.isReady] Whether it is known what to ask for.
 * @param {import("./predictions.js").Frame[]} frames
 * @returns {(number: number) => {url: string | null, why: string | null}}
 */
export function usePictures(app, { path, query = {}, why, isReady = true }, frames) {
  const [, setCount] = useState(0);
  const kept = useRef(new Map());
  const none = useRef(null);
  const gone = useRef(new AbortController());
  // At once: whoever runs through many is gone before a frame is drawn, and what was begun for them ends.
  useLayoutEffect(
    () => () => {
      gone.current.abort();
      for (const { url } of kept.current.values()) if (url) URL.revokeObjectURL(url);
    },
    [],
  );
  const isClip = frames.length > 1 || frames[0]?.number > 0;
  const load = async (number) => {
    const { signal } = gone.current;
    kept.current.set(number, { url: null, why: null });
    await new Promise((resolve) => setTimeout(resolve, REST_MILLISECONDS));
    if (signal.aborted) return;
    let picture;
    try {
      const blob = await app.api.blob(withQuery(path, { ...query, frame: isClip ? number : undefined }), { signal });
      if (signal.aborted) return;
      picture = { url: URL.createObjectURL(blob), why: null };
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (problem.name !== "Problem") throw problem;
      picture = { url: null, why: `There is no picture: ${problem.detail}` };
      // What can't be shown of one frame can't be of the others, so it is not asked for each.
      if (problem.code === "no_picture" && ![...kept.current.values()].some(({ url }) => url)) none.current = picture;
    }
    kept.current.set(number, picture);
    forgetOldest(kept.current);
    setCount((count) => count + 1);
  };
  return (number) => {
    if (why || !isReady) return { url: null, why };
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
