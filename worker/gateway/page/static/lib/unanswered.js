/** Acts whose end nobody knows: asked for again soon, each is the same one, and the gateway does it once. */

const KEPT = "trainmaster.acts";
/** So soon; the gateway knows an act for longer. */
const SAME_ACT_MILLISECONDS = 120_000;
/** A longer act is forgotten with a reload: a browser keeps five million characters. */
const MOST_CHARACTERS = 20_000;

/**
 * What an act is: the same method, path and body are the same act.
 * @typedef {object} Act @property {string} method @property {string} path @property {string} [body]
 */

export class UnansweredActs {
  constructor() {
    /** Of each its key, and when its answer got lost: null while it is under way. @type {Map<string, {key: string, path: string, at: number | null}>} */
    this._acts = new Map(kept());
  }

  /** Returns the key of an act that is asked for now. @param {Act} act */
  begin(act) {
    const before = this._acts.get(name(act));
    const isSame = before && (before.at === null || Date.now() - before.at < SAME_ACT_MILLISECONDS);
    const key = isSame ? before.key : newKey();
    this._note(act, key, null);
    return key;
  }

  /** @param {Act} act @param {string} key */
  lost(act, key) {
    this._note(act, key, Date.now());
  }

  /** An answer that it was not done says nothing of other acts. @param {Act} act */
  refused(act) {
    this._acts.delete(name(act));
    this._keep();
  }

  /**
   * What was done may have changed what other acts are about: a pause after a resumption is a new one. An act on
   * something else stays what it was.
   * @param {Act} act
   */
  done(act) {
    const place = placeOf(act);
    for (const [other, { path }] of this._acts) if (path.startsWith(place)) this._acts.delete(other);
    this.refused(act);
  }

  /** @private */
  _note(act, key, at) {
    this._acts.set(name(act), { key, path: act.path, at });
    this._keep();
  }

  /** Whoever looks how it stands may load the page anew. @private */
  _keep() {
    const short = [...this._acts].filter(([act]) => act.length <= MOST_CHARACTERS);
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(short));
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
    }
  }
}

function name({ method, path, body = "" }) {
  return `${method} ${path} ${body}`;
}

/** Returns what the paths of all acts begin with that are about the same, or a part of it: of one in bulk all of its kind. */
function placeOf({ method, path }) {
  const [place] = path.split("?");
  return method === "DELETE" ? place : place.slice(0, place.lastIndexOf("/") + 1);
}

/** What was under way when the page was left got no answer either. */
function kept() {
  const found = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  return found.map(([act, { at, ...rest }]) => [act, { ...rest, at: at ?? Date.now() }]);
}

/** A random text; `crypto.randomUUID` is not there where the page came over plain HTTP. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
