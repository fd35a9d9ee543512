/** Addresses of the page: everything behind the `#`, so that one can be passed on. */

import { useEffect, useState } from "./ui.js";
import { withQuery } from "./api.js";

/** Returns where an address is. @param {string} hash @returns {import("../app.js").Route} */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#?\/?/, "").split(/\?(.*)/s);
  return {
    path: path.split("/").filter(Boolean).map(decode),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

/**
 * Returns the address of a path.
 * @param {string[]} path like `["commands", id]`.
 * @param {Record<string, any>} [query] What is empty is left out.
 */
export function href(path, query = {}) {
  return withQuery(`#/${path.map(encodeURIComponent).join("/")}`, query);
}

/** Goes to an address; with `replace` the one before is not gone back to. */
export function navigate(address, { replace = false } = {}) {
  if (address === location.hash) return;
  if (replace) {
    history.replaceState(null, "", address);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = address;
  }
}

/** Returns where the page is, anew whenever that changes. @returns {import("../app.js").Route} */
export function useRoute() {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const onChange = () => setRoute(parse(location.hash));
    addEventListener("hashchange", onChange);
    return () => removeEventListener("hashchange", onChange);
  }, []);
  return route;
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
