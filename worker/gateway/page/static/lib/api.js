/**
 * Requests to the gateway. Addresses are relative to the page, so that it also works behind a proxy's prefix.
 */

import { UnansweredActs } from "./unanswered.js";

const TOKEN_KEY = "trainmaster.token";
/** Tells who asks, and what they may do. */
export const ME = "v1/me";
/** No answer came, or one of something before the gateway that heard none. */
const NO_ANSWER = [0, 502, 504];

/** What the gateway answers a request that went wrong, as RFC 9457 has it, or what happened instead. */
export class Problem extends Error {
  /** @param {{status: number, code: string, title: string, detail: string, problems?: {path: string, message: string}[]}} body */
  constructor(body) {
    super(body.detail || body.title);
    this.name = "Problem";
    this.status = body.status;
    this.code = body.code;
    this.title = body.title;
    this.detail = body.detail;
    this.problems = body.problems ?? [];
  }

  /** Whether asking again may help. */
  get isPassing() {
    return this.isUnanswered || this.status === 429 || this.status === 503;
  }

  /** Whether nobody knows what became of the request. */
  get isUnanswered() {
    return NO_ANSWER.includes(this.status);
  }
}

/** @typedef {object} Options @property {AbortSignal} [signal] @property {Record<string, string>} [headers] */

export class Api {
  /**
   * @param {(problem: Problem) => void} onUnauthorized is told when the gateway asks for a token, or another one.
   * @param {() => void} onForbidden is told when the token may do less than was thought.
   */
  constructor(onUnauthorized, onForbidden = () => {}) {
    this.onUnauthorized = onUnauthorized;
    this.onForbidden = onForbidden;
    this._unanswered = new UnansweredActs();
  }

  /** The token of this tab; the browser forgets it with the tab. */
  get token() {
    return sessionStorage.getItem(TOKEN_KEY);
  }

  set token(secret) {
    if (secret) sessionStorage.setItem(TOKEN_KEY, secret);
    else sessionStorage.removeItem(TOKEN_KEY);
  }

  /**
   * Returns what a path answers, as JSON values.
   * @param {string} path like `v1/commands`.
   * @param {Options} [options]
   * @throws {Problem}
   */
  async get(path, options = {}) {
    return bodyOf(await this.fetch(path, options));
  }

  /**
   * Returns what a path answers, and the last event that it knows: null where it is not made of events.
   * @param {string} path
   * @param {Options} [options]
   * @returns {Promise<{body: any, lastEvent: string | null}>}
   * @throws {Problem}
   */
  async getWithPlace(path, options = {}) {
    const answer = await this.fetch(path, options);
    return { body: await bodyOf(answer), lastEvent: placeOf(answer) };
  }

  /**
   * Posts a body and returns the answer's JSON values.
   * @param {string} path
   * @param {any} [body] JSON values.
   * @param {Options} [options]
   * @throws {Problem}
   */
  async post(path, body, options = {}) {
    return this.send("POST", path, body, options);
  }

  /** Deletes; returns undefined. @param {string} path @throws {Problem} */
  async delete(path) {
    return this.send("DELETE", path);
  }

  /** @private */
  async send(method, path, body, options = {}) {
    const asked = { ...options, method, headers: { ...options.headers } };
    if (body !== undefined) {
      asked.body = JSON.stringify(body);
      asked.headers["Content-Type"] = "application/json";
    }
    // Of what it would come to nothing may have been done, though its answer got lost.
    if (body?.dry_run) return bodyOf(await this.fetch(path, { ...asked, isRead: true }));
    // Browsers send a request once more by themselves where a connection ends without an answer.
    const act = { method, path, body: asked.body };
    const key = this._unanswered.begin(act);
    asked.headers["Idempotency-Key"] = key;
    try {
      const answer = await this.fetch(path, asked);
      const found = answer.status === 204 ? undefined : await bodyOf(answer);
      this._unanswered.done(act);
      return found;
    } catch (problem) {
      if (problem.name === "Problem" && !problem.isPassing) this._unanswered.refused(act);
      else this._unanswered.lost(act, key);
      throw problem;
    }
  }

  /** Returns what a path answers as a Blob, for pictures and files. @param {string} path @param {Options} [options] */
  async blob(path, options = {}) {
    return bodyOf(await this.fetch(path, options), "blob");
  }

  /**
   * Returns the response to a request that went well.
   * @param {string} path
   * @param {RequestInit & {isRead?: boolean}} [options] Whether it does nothing: what it is, where they don't say, the method does.
   * @returns {Promise<Response>}
   * @throws {Problem}
   */
  async fetch(path, { isRead, ...options } = {}) {
    const { token } = this;
    const doesNothing = isRead ?? (options.method ?? "GET") === "GET";
    const address = new URL(withoutSteps(path), here());
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    let answer;
    try {
      answer = await fetch(address, { ...options, headers, credentials: "omit" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw unanswered(doesNothing, "The gateway does not answer. It may be restarting; look whether it runs and whether you are connected.");
    }
    if (answer.ok) return answer;
    const problem = await problemOf(answer, doesNothing);
    if (problem.status === 401 && this.token === token) this.onUnauthorized(problem);
    if (problem.status === 403 && path !== ME) this.onForbidden();
    throw problem;
  }
}

/**
 * Returns a path with a query, without what is empty.
 * @param {string} path
 * @param {Record<string, any>} query
 */
export function withQuery(path, query) {
  const told = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(told.map(([name, value]) => [name, String(value)])).toString();
  return text ? `${path}?${text}` : path;
}

/** Returns a path of parts, each encoded: an id may hold a slash. @param {...string} parts */
export function pathOf(...parts) {
  return parts.map((part) => (isStep(part) ? part.replaceAll(".", "%2E") : encodeURIComponent(part))).join("/");
}

/** Returns the entry of an answer's `Last-Event-ID`, null without one. @param {Response} answer */
export function placeOf(answer) {
  return answer.headers.get("Last-Event-ID");
}

function isStep(part) {
  return part === "." || part === "..";
}

/** Returns a path without the ids `.` and `..`, which are steps to a browser however they are encoded. */
function withoutSteps(path) {
  const found = /^v1\/(?:(command|backfill|dead-letter)s|deliveries(\/[^/?]+))\/((?:%2E){1,2})(?=$|[/?])/.exec(path);
  if (!found) return path;
  const [start, kind = `delivery${found[2]}`, , id] = found;
  const [rest, query = ""] = path.slice(start.length).split("?");
  return `v1/${kind}${rest}?${new URLSearchParams([["id", decodeURIComponent(id)], ...new URLSearchParams(query)])}`;
}

function here() {
  return location.href.split(/[?#]/, 1)[0];
}

/** Returns the body of an answer, which may be lost behind its head. @param {Response} answer @param {"json" | "blob"} kind @throws {Problem} */
async function bodyOf(answer, kind = "json") {
  try {
    return await answer[kind]();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      status: 0,
      code: "unreadable",
      title: "The answer can't be read",
      detail: "The answer broke off, or something before the gateway gave another one. Look at how it stands, then try again.",
    });
  }
}

/** What is asked for again is done once: it keeps its key. */
function unanswered(doesNothing, detail, status = 0) {
  return new Problem({
    status,
    code: "unreachable",
    title: "The gateway can't be reached",
    detail: doesNothing ? detail : `${detail} It may have been done all the same. Look at how it stands, or try it again now: it is not done twice.`,
  });
}

async function problemOf(answer, doesNothing) {
  const type = answer.headers.get("content-type") ?? "";
  if (type.includes("json")) {
    const body = await answer.json().catch(() => null);
    if (body && typeof body.code === "string") return new Problem(body);
  }
  const detail = `Something before the gateway answered ${answer.status} ${answer.statusText}.`;
  if (NO_ANSWER.includes(answer.status)) return unanswered(doesNothing, detail, answer.status);
  return new Problem({ status: answer.status, code: "http_error", title: `The answer is ${answer.status}`, detail });
}
