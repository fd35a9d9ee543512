// Bee-Queue: one process, jobs moved from list to list.

import Queue from "bee-queue";

import { batches, main } from "./main.js";
import { resultEvent } from "./work.js";
import { EVENTS, QUEUE, RECOVERY_MS, concurrency, openPredictor, redisUrl } from "./worker.js";

const BATCH = 500;

function open(options) {
  return new Queue(QUEUE, {
    redis: { url: redisUrl() },
    stallInterval: RECOVERY_MS,
    getEvents: false,
    sendEvents: false,
    storeJobs: false,
    removeOnSuccess: true,
    ...options,
  });
}

async function work() {
  const predict = openPredictor();
  const queue = open({ isWorker: true });
  queue.on("error", console.error);
  queue.on("failed", (_, error) => console.error(error));
  await queue.ready();
  queue.process(concurrency(), async ({ data }) => {
    const event = resultEvent(data.id, await predict(data));
    await new Promise((resolve, reject) => {
      // Bee-Queue's own client of Redis, which writes commands as they come.
      queue.client.xadd(EVENTS, "*", "event", event, (error) => (error ? reject(error) : resolve()));
    });
  });
  queue.checkStalledJobs(RECOVERY_MS / 2);
  return () => queue.close();
}

async function produce() {
  const queue = open({ isWorker: false });
  await queue.ready();
  const job = (one) => queue.createJob(one).setId(one.id).retries(3);
  return {
    async add(messages) {
      for (const batch of batches(messages, BATCH)) {
        const [failed] = await queue.saveAll(batch.map(job));
        if (failed) throw failed[1];
      }
    },
    close: () => queue.close(),
  };
}

await main({ work, produce });
