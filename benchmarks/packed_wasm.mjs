// Packed files on onnxruntime-web's wasm, in Node: node packed_wasm.mjs ENGINE FOLDER
//
// ENGINE is the folder of onnxruntime-web. FOLDER has packed.onnx, and frame.bin, boxes.bin and
// sizes.json for each number that the latter lists; keypoints and scores are written beside them.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const [engine, folder] = process.argv.slice(2);
const ort = await import(join(engine, "dist", "ort.node.min.mjs"));
ort.env.wasm.numThreads = 1;
const read = (name) => readFileSync(join(folder, name));
const options = { executionProviders: ["wasm"] };
const session = await ort.InferenceSession.create(read("packed.onnx"), options);
for (const [number, [height, width, people]] of JSON.parse(read("sizes.json")).entries()) {
  const boxes = new Float32Array(new Uint8Array(read(`boxes_${number}.bin`)).buffer);
  const { keypoints, scores } = await session.run({
    frame: new ort.Tensor("uint8", new Uint8Array(read(`frame_${number}.bin`)), [height, width, 3]),
    boxes: new ort.Tensor("float32", boxes, [people, 4]),
  });
  writeFileSync(join(folder, `keypoints_${number}.bin`), keypoints.data);
  writeFileSync(join(folder, `scores_${number}.bin`), scores.data);
}
