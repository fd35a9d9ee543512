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
 * @property {string[]} [types] A token that is limited to types must be so to one of these.
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
  { path: "trainings", title: "Trainings", key: "t", list: () => import("./trainings.js"), types: ["train", "watch_training"] },
  { path: "backfills", title: "Backfills", key: "b", list: () => import("./backfills.js"), one: () => import("./backfill.js"), types: ["backfill"] },
  { path: "webhooks", title: "Webhooks", key: "w", list: () => import("./webhooks.js"), one: () => import("./delivery.js"), isUnlimited: true },
  { path: "sinks", title: "Sinks", key: "s", list: () => import("./sinks.js"), one: () => import("./sink.js"), isUnlimited: true },
  { path: "actions", title: "Who did what", key: "a", list: () => import("./actions.js"), isUnlimited: true },
];

/** Whether a token sees what a view shows. @param {View} view @param {import("../app.js").App} app */
export function isFor(view, app) {
  return app.isUnlimited || (!view.isUnlimited && (!view.types || view.types.some((type) => app.me.types.includes(type))));
}

/** Returns what loads the view of a route; undefined where there is none. @param {import("../app.js").Route} route */
export function viewOf(route) {
  const [name = VIEWS[0].path, ...rest] = route.path;
  const view = VIEWS.find((each) => each.path === name);
  if (!view || rest.length > 1 || (rest.length && !view.one)) return undefined;
  return { view, load: rest.length ? view.one : view.list };
}
