// Poses in a picture with onnxruntime-node: node estimate.mjs FILE.onnx PICTURE.ppm [L,T,R,B ...]
//
// FILE.onnx is one that `cigpose-tools pack` made. With a detector inside it finds the people
// itself; otherwise each further argument is a person's box in pixels. PICTURE.ppm is a binary PPM
// (ImageMagick: convert photo.jpg picture.ppm). Prints one JSON object.
// Once, in this folder: npm ci --ignore-scripts

import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";

/** A binary PPM of 8 bits as a tensor (height, width, 3) of RGB. */
function readPpm(path) {
  const bytes = readFileSync(path);
  const header = /^P6\s+(?:#.*\s+)*(\d+)\s+(\d+)\s+255\s/.exec(bytes.toString("latin1", 0, 512));
  if (!header) throw new Error(`${path}: expected a binary PPM of 8 bits; convert the picture`);
  const [width, height] = header.slice(1).map(Number);
  const pixels = new Uint8Array(bytes.subarray(header[0].length));
  return new ort.Tensor("uint8", pixels, [height, width, 3]);
}

/** An output as nested arrays of its shape. */
function nested(tensor) {
  let flat = Array.from(tensor.data);
  for (const size of tensor.dims.slice(1).reverse()) {
    flat = Array.from({ length: flat.length / size }, (_, i) =>
      flat.slice(i * size, (i + 1) * size),
    );
  }
  return flat;
}

const [file, picture, ...boxes] = process.argv.slice(2);
const session = await ort.InferenceSession.create(file);
const feeds = { frame: readPpm(picture) };
if (session.inputNames.includes("boxes")) {
  const numbers = boxes.flatMap((box) => box.split(",").map(Number));
  feeds.boxes = new ort.Tensor("float32", Float32Array.from(numbers), [boxes.length, 4]);
}
const outputs = await session.run(feeds);
const people = Object.entries(outputs).map(([name, tensor]) => [name, nested(tensor)]);
console.log(JSON.stringify(Object.fromEntries(people)));
