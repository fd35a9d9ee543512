/** Texts of the gateway that are no JSON values. */

import { useEffect, useState } from "./ui.js";

/** Loads a text once; null before. @param {import("../app.js").App} app @param {string} path */
export function useText(app, path) {
  const [state, setState] = useState({ text: null, problem: null });
  useEffect(() => {
    const controller = new AbortController();
    app.api
      .fetch(path, { signal: controller.signal })
      .then((answer) => answer.text())
      .then(
        (text) => setState({ text, problem: null }),
        (problem) => !controller.signal.aborted && setState({ text: null, problem }),
      );
    return () => controller.abort();
  }, [path]);
  return state;
}
