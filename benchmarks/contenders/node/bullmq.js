// BullMQ: one process, jobs taken by scripts that also end the last one.

import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";

import { batches, main } from "./main.js";
import { resultEvent } from "./work.js";
import { EVENTS, QUEUE, RECOVERY_MS, concurrency, openPredictor, redisUrl } from "./worker.js";

const BATCH = 500;

// A worker may wait for Redis as long as it takes.
const connect = (options) => new Redis(redisUrl(), { maxRetriesPerRequest: null, ...options });

async function work() {
  const predict = openPredictor();
  const events = connect({ enableAutoPipelining: true });
  const worker = new Worker(
    QUEUE,
    async ({ data }) => {
      await events.xadd(EVENTS, "*", "event", resultEvent(data.id, await predict(data)));
    },
    {
      connection: connect(),
      concurrency: concurrency(),
      lockDuration: RECOVERY_MS,
      stalledInterval: RECOVERY_MS / 2,
      maxStalledCount: 3,
    },
  );
  worker.on("error", console.error);
  worker.on("failed", (_, error) => console.error(error));
  return () => worker.close();
}

async function produce() {
  const connection = connect();
  const queue = new Queue(QUEUE, { connection });
  const job = (one) => ({
    name: "predict",
    data: one,
    opts: { jobId: one.id, attempts: 3, removeOnComplete: true },
  });
  return {
    async add(messages) {
      for (const batch of batches(messages, BATCH)) await queue.addBulk(batch.map(job));
    },
    async close() {
      await queue.close();
      await connection.quit();
    },
  };
}

await main({ work, produce });
