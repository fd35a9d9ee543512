// What the contenders' programs share: `node NAME.js work` until SIGTERM, or `node NAME.js produce`
// for orders on standard input.

import { createInterface } from "node:readline";

import { message } from "./work.js";

/**
 * Runs one of two ways as the command line says.
 *
 * @param {{work: () => Promise<() => Promise<void>>, produce: () => Promise<object>}} contender
 *   `work` starts a worker and gives what closes it; `produce` gives `add(messages)` and `close()`.
 */
export async function main({ work, produce }) {
  if (process.argv[2] === "work") {
    const close = await work();
    process.once("SIGTERM", () => close().then(() => process.exit(0)));
  } else {
    await takeOrders(await produce());
  }
}

/**
 * Adds what is ordered, and answers each order, once all of it is added, with when it began: in
 * seconds by the machine's monotonic clock, the one that Python has as well.
 */
async function takeOrders(producer) {
  process.stdout.write("ready\n");
  for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    const messages = [];
    for (let number = 0; number < order.count; number++) {
      messages.push(message(order, order.first + number));
    }
    const began = process.hrtime.bigint();
    await producer.add(messages);
    process.stdout.write(`${Number(began) / 1e9}\n`);
  }
  await producer.close();
  process.exit(0);
}

/** Yields messages in lists of `size` at most. */
export function* batches(messages, size) {
  for (let start = 0; start < messages.length; start += size) {
    yield messages.slice(start, start + size);
  }
}
