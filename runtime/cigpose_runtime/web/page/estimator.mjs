/** Runs a model with onnxruntime-web, packed or not, on WebGPU where that is right and faster. */

import { readModel } from "./contract.mjs";
import { boxToCrop, writeCrop } from "./crop.mjs";
import { decode } from "./decode.mjs";
import { PageError, said } from "./errors.mjs";

const ENGINE = new URL("engine/", import.meta.url);
const MOST_PEOPLE = 8; // at once; more run no faster and take more memory
const MOST_THREADS = 8;

/** Scores on WebGPU may differ by this share of the CPU's, at least of 1: wrong ones differ by far
 * more, and float32 in another order by less than a thousandth. A GPU computes fp16 files in
 * float16, the CPU in float32: as far apart as golden vectors of such files may be. */
const TOLERANCE = 0.01;
const TOLERANCE_FP16 = 0.05;

/**
 * Opens a model. bytes: Uint8Array of its file. device: "auto", "wasm" or "webgpu".
 * Returns {contract, device, note, estimate}. note: why it is that device. Throws PageError.
 */
export async function openModel(bytes, device) {
  const contract = readModel(bytes);
  const adapter =
    device === "wasm" ? null : await navigator.gpu?.requestAdapter().catch(() => null);
  if (device === "webgpu" && !adapter) {
    throw new PageError("expected WebGPU, found none in this browser; choose the CPU");
  }
  const ort = await importEngine(Boolean(adapter));
  const cpu = await open(ort, bytes, contract, "wasm");
  if (!adapter) {
    return { ...cpu, note: device === "wasm" ? "" : "no WebGPU in this browser" };
  }
  let gpu;
  try {
    gpu = await open(ort, bytes, contract, "webgpu");
    const note = await compared(gpu, cpu, device === "webgpu");
    await cpu.close();
    return { ...gpu, note };
  } catch (error) {
    await gpu?.close();
    if (device === "webgpu") throw error;
    return { ...cpu, note: `WebGPU refused: ${said(error)}` };
  }
}

async function importEngine(withWebGpu) {
  const ort = await import(new URL(`ort.${withWebGpu ? "webgpu" : "wasm"}.bundle.min.mjs`, ENGINE));
  ort.env.wasm.numThreads = self.crossOriginIsolated
    ? Math.min(navigator.hardwareConcurrency, MOST_THREADS)
    : 1;
  return ort;
}

async function open(ort, bytes, contract, device) {
  let session;
  try {
    session = await ort.InferenceSession.create(bytes, {
      executionProviders: [device],
      logSeverityLevel: 3, // errors: warnings about a graph are for who exports it
    });
  } catch (error) {
    throw new PageError(`expected a model that onnxruntime-web runs, found: ${said(error)}`);
  }
  const run = contract.isPacked ? runPacked : runCrops;
  return {
    contract,
    device,
    estimate: (frame, boxes) => run(ort, session, contract, frame, boxes),
    close: () => session.release(),
  };
}

/** Both on one frame, twice, since the first run prepares. Throws unless WebGPU is to be used. */
async function compared(gpu, cpu, isAskedFor) {
  const frame = noise(256, 256);
  const seconds = new Map();
  const scores = new Map();
  for (const model of [gpu, cpu]) {
    await model.estimate(frame, [[0, 0, 256, 256]]);
    const start = performance.now();
    const people = await model.estimate(frame, [[0, 0, 256, 256]]);
    seconds.set(model, performance.now() - start);
    scores.set(
      model,
      people.flatMap((person) => person.scores),
    );
  }
  const times = `${seconds.get(gpu).toFixed(0)} ms, the CPU ${seconds.get(cpu).toFixed(0)} ms`;
  const expected = scores.get(cpu);
  if (!expected.length) {
    // a detector that sees nobody in noise
    if (isAskedFor) return "not compared with the CPU: nobody is on the test picture";
    throw new PageError("it cannot be compared, as nobody is on the test picture");
  }
  const found = scores.get(gpu);
  const tolerance = cpu.contract.model.precision === "fp16" ? TOLERANCE_FP16 : TOLERANCE;
  const isRight =
    found.length === expected.length &&
    found.every(
      (s, i) => Math.abs(s - expected[i]) <= tolerance * Math.max(1, Math.abs(expected[i])),
    );
  if (!isRight) throw new PageError("its scores are not those of the CPU");
  if (!isAskedFor && seconds.get(gpu) > seconds.get(cpu)) throw new PageError(`it takes ${times}`);
  return `takes ${times}`;
}

/** A grey level for each pixel, always the same ones. */
function noise(width, height) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let i = 0, state = 1; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = state >>> 24;
  }
  return { data, width, height };
}

async function runPacked(ort, session, contract, frame, boxes) {
  const pixels = new ort.Tensor("uint8", fed(frame, contract), [frame.height, frame.width, 4]);
  if (contract.findsPeople) {
    const outputs = await session.run({ frame: pixels });
    return people(outputs, rows(outputs.boxes.data, 4), Array.from(outputs.box_scores.data));
  }
  const found = [];
  for (const part of parts(boxes)) {
    const given = new ort.Tensor("float32", Float32Array.from(part.flat()), [part.length, 4]);
    found.push(...people(await session.run({ frame: pixels, boxes: given }), part));
  }
  return found;
}

function fed(frame, contract) {
  const pixels = new Uint8Array(frame.data.buffer, frame.data.byteOffset, frame.data.length);
  if (contract.metadata.frame_color_order === "rgb") return pixels;
  const swapped = pixels.slice();
  for (let i = 0; i < swapped.length; i += 4) {
    [swapped[i], swapped[i + 2]] = [swapped[i + 2], swapped[i]];
  }
  return swapped;
}

function people(outputs, boxes, boxScores) {
  const count = outputs.scores.dims[1];
  return boxes.map((box, person) => ({
    box,
    boxScore: boxScores?.[person],
    keypoints: rows(
      outputs.keypoints.data.subarray(person * count * 2, (person + 1) * count * 2),
      2,
    ),
    scores: Array.from(outputs.scores.data.subarray(person * count, (person + 1) * count)),
  }));
}

async function runCrops(ort, session, { model }, frame, boxes) {
  const size = 3 * model.input_w * model.input_h;
  const found = [];
  for (const part of parts(boxes)) {
    const crops = part.map((box) => boxToCrop(box, model));
    const input = new Float32Array(part.length * size);
    crops.forEach((crop, i) =>
      writeCrop(frame, crop, model, input.subarray(i * size, (i + 1) * size)),
    );
    const outputs = await session.run({
      input: new ort.Tensor("float32", input, [part.length, 3, model.input_h, model.input_w]),
    });
    const of = ({ data }, person) => {
      const length = data.length / part.length;
      return data.subarray(person * length, (person + 1) * length);
    };
    crops.forEach((crop, i) => {
      const pose = decode(of(outputs.simcc_x, i), of(outputs.simcc_y, i), crop, model);
      found.push({ box: part[i], ...pose });
    });
  }
  return found;
}

function parts(boxes) {
  const starts = Array.from(
    { length: Math.ceil(boxes.length / MOST_PEOPLE) },
    (_, i) => i * MOST_PEOPLE,
  );
  return starts.map((start) => boxes.slice(start, start + MOST_PEOPLE));
}

function rows(data, length) {
  return Array.from({ length: data.length / length }, (_, i) =>
    Array.from(data.subarray(i * length, (i + 1) * length)),
  );
}
