/** From SimCC vectors to keypoints in the frame: cigpose_runtime/estimation/decode.py. */

import { PageError } from "./errors.mjs";

const f32 = Math.fround;

/**
 * One person's keypoints: [[x, y], ...] in frame pixels, and scores, the lower of two peaks.
 * simccX, simccY: Float32Array, the vectors of all keypoints after each other.
 */
export function decode(simccX, simccY, { center, scale }, model) {
  const count = model.num_keypoints;
  const keypoints = [];
  const scores = [];
  for (let keypoint = 0; keypoint < count; keypoint++) {
    const [x, peakX] = highest(simccX, keypoint, count);
    const [y, peakY] = highest(simccY, keypoint, count);
    const score = peakX > peakY ? peakY : peakX;
    const bins = score > 0 ? [x, y] : [-1, -1]; // not found
    const sides = [model.input_w, model.input_h];
    keypoints.push(
      bins.map((bin, axis) => {
        const inCrop = f32(bin / f32(model.split_ratio));
        return f32((inCrop / sides[axis]) * scale[axis] + center[axis] - 0.5 * scale[axis]);
      }),
    );
    scores.push(score);
  }
  return { keypoints, scores };
}

/** The first highest bin of a keypoint's vector, and what is there. */
function highest(simcc, keypoint, count) {
  const bins = simcc.length / count;
  let best = keypoint * bins;
  for (let bin = best; bin < (keypoint + 1) * bins; bin++) {
    if (!Number.isFinite(simcc[bin])) {
      throw new PageError(
        "expected finite numbers from the model, found others; choose the CPU, or export it again",
      );
    }
    if (simcc[bin] > simcc[best]) best = bin;
  }
  return [best - keypoint * bins, simcc[best]];
}
