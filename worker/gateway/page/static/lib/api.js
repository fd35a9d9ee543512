/**
 * Requests to the gateway. Addresses are relative to the page, so that it also works behind a proxy's prefix.
 */

const TOKEN_KEY = "trainmaster.token";

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
    return this.status === 0 || this.status === 429 || this.status === 503 || this.status === 502;
  }
}

/** @typedef {object} Options @property {AbortSignal} [signal] @property {Record<string, string>} [headers] */

export class Api {
  /** @param {(problem: Problem) => void} onUnauthorized is told when the gateway asks for a token, or another one. */
  constructor(onUnauthorized) {
    this.onUnauthorized = onUnauthorized;
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
    return (await this.fetch(path, options)).json();
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
    return { body: await answer.json(), lastEvent: placeOf(answer) };
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
    const asked = { ...options, method };
    if (body !== undefined) {
      asked.body = JSON.stringify(body);
      asked.headers = { ...options.headers, "Content-Type": "application/json" };
    }
    const answer = await this.fetch(path, asked);
    return answer.status === 204 ? undefined : answer.json();
  }

  /** Returns what a path answers as a Blob, for pictures and files. @param {string} path @param {Options} [options] */
  async blob(path, options = {}) {
    return (await this.fetch(path, options)).blob();
  }

  /**
   * Returns the response to a request that went well.
   * @param {string} path
   * @param {RequestInit} [options]
   * @returns {Promise<Response>}
   * @throws {Problem}
   */
  async fetch(path, options = {}) {
    const { token } = this;
    const address = new URL(withoutSteps(path), here());
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    let answer;
    try {
      answer = await fetch(address, { ...options, headers, credentials: "omit" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem({
        status: 0,
        code: "unreachable",
        title: "The gateway can't be reached",
        detail: "The gateway does not answer. It may be restarting; look whether it runs and whether you are connected.",
      });
    }
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (problem.status === 401 && this.token === token) this.onUnauthorized(problem);
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
  const found = /^v1\/(command|backfill)s\/((?:%2E){1,2})(?=$|[/?])/.exec(path);
  if (!found) return path;
  const [start, kind, id] = found;
  const [rest, query = ""] = path.slice(start.length).split("?");
  return `v1/${kind}${rest}?${new URLSearchParams([["id", decodeURIComponent(id)], ...new URLSearchParams(query)])}`;
}

function here() {
  return location.href.split(/[?#]/, 1)[0];
}

async function problemOf(answer) {
  const type = answer.headers.get("content-type") ?? "";
  if (type.includes("json")) {
    const body = await answer.json().catch(() => null);
    if (body && typeof body.code === "string") return new Problem(body);
  }
  return new Problem({
    status: answer.status,
    code: "http_error",
    title: `The answer is ${answer.status}`,
    detail: `Something before the gateway answered ${answer.status} ${answer.statusText}.`,
  });
}
