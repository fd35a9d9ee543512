/**
 * The views by the first part of their address.
 *
 * @typedef {object} View
 * @property {string} path The first part of its address: `#/<path>`.
 * @property {string} title
 * @property {string} key With `g` before it, goes there.
 * @property {() => Promise<{default: Function}>} list Loads the view.
 * @property {() => Promise<{default: Function}>} [one] Loads the view of `#/<path>/<id>`.
 * @property {boolean} [isUnlimited] Whether it is only for tokens that are not limited to types.
 *
 * @type {View[]}
 */
export const VIEWS = [
  { path: "now", title: "Now", key: "n", list: () => import("./now.js") },
  { path: "commands", title: "Commands", key: "c", list: () => import("./commands.js"), one: () => import("./command.js") },
  {
    path: "dead-letters",
    title: "Dead letters",
    key: "d",
    list: () => import("./dead_letters.js"),
    one: () => import("./dead_letter.js"),
  },
];

/** Returns what loads the view of a route; undefined where there is none. @param {import("../app.js").Route} route */
export function viewOf(route) {
  const [name = VIEWS[0].path, ...rest] = route.path;
  const view = VIEWS.find((each) => each.path === name);
  if (!view || rest.length > 1 || (rest.length && !view.one)) return undefined;
  return { view, load: rest.length ? view.one : view.list };
}
