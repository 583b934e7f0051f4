/** Asks the worker, from the page. */

import { PageError } from "./errors.mjs";

const worker = new Worker(new URL("worker.mjs", import.meta.url), { type: "module" });
const waiting = new Map();
let last = 0;

worker.onmessage = ({ data: { number, answer, error } }) => {
  const { resolve, reject } = waiting.get(number);
  waiting.delete(number);
  if (error === undefined) resolve(answer);
  else reject(new PageError(error));
};

worker.onerror = (event) => {
  event.preventDefault();
  const error = new PageError(
    `the model's thread ended: ${event.message ?? "it did not start"}; load the page again`,
  );
  for (const { reject } of waiting.values()) reject(error);
  waiting.clear();
};

function ask(kind, asked, moved) {
  const number = ++last;
  return new Promise((resolve, reject) => {
    waiting.set(number, { resolve, reject });
    worker.postMessage({ number, kind, ...asked }, moved);
  });
}

/** Opens the model in `bytes`, Uint8Array, which it takes. Returns {contract, device, note}. */
export const openModel = (bytes, device) => ask("open", { bytes, device }, [bytes.buffer]);

/** The poses in a frame {data, width, height}, which it takes: {people, milliseconds}. */
export const estimate = (frame, boxes) => ask("estimate", { frame, boxes }, [frame.data.buffer]);
