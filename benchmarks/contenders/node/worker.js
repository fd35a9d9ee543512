// What a worker of Node finds in its environment, and how it asks the API.

import { readFileSync } from "node:fs";

import { Pool } from "undici";

import { Signer, requestBody } from "./work.js";

export const EVENTS = "bench:events";
export const QUEUE = "bench";
// After so long a worker that is silent counts as dead.
export const RECOVERY_MS = 10_000;

/** How many messages a worker may have under way, as its starter says. */
export const concurrency = () => Number(process.env.BENCH_CONCURRENCY);

/** Where Redis is. */
export const redisUrl = () => process.env.BENCH_REDIS_URL;

/** Returns a function that asks the API about a message, and gives the frames of the reply. */
export function openPredictor() {
  const pool = new Pool(process.env.ENCORD_DOMAIN, { connections: concurrency(), pipelining: 1 });
  const signer = new Signer(readFileSync(process.env.BENCH_KEY_PEM_FILE, "utf-8"));
  const path = process.env.BENCH_PATH;
  return async (one) => {
    const body = requestBody(one);
    const headers = signer.headers("POST", path, body);
    headers.Accept = "application/json";
    headers["Content-Type"] = "application/json";
    const reply = await pool.request({ method: "POST", path, body, headers });
    if (reply.statusCode !== 200) throw new Error(`the API answered ${reply.statusCode}`);
    return (await reply.body.json()).result;
  };
}
