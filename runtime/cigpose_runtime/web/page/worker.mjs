/** The thread that runs models, so that the page stays quick: what main.mjs asks, one at a time. */

import { said } from "./errors.mjs";
import { openModel } from "./estimator.mjs";

let model = null;

const ANSWERS = {
  async open({ bytes, device }) {
    const opened = await openModel(bytes, device);
    await model?.close();
    model = opened;
    return { contract: model.contract, device: model.device, note: model.note };
  },
  async estimate({ frame, boxes }) {
    const start = performance.now();
    const people = await model.estimate(frame, boxes);
    return { people, milliseconds: performance.now() - start };
  },
};

async function answer({ number, kind, ...asked }) {
  try {
    self.postMessage({ number, answer: await ANSWERS[kind](asked) });
  } catch (error) {
    self.postMessage({ number, error: said(error) });
  }
}

let turn = Promise.resolve();
self.onmessage = ({ data }) => {
  turn = turn.then(() => answer(data)); // a session runs once at a time
};
