// Runs a model in onnxruntime-web's WebAssembly: node runner.mjs PACKAGE JOB.json
//
// PACKAGE is the folder of the npm package. JOB.json and what is left are those of runners.py.

import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, jobFile] = process.argv.slice(2);
const job = JSON.parse(readFileSync(jobFile, "utf8"));
const dist = resolve(folder, "dist");
const ort = await import(pathToFileURL(join(dist, "ort.wasm.min.mjs")));
ort.env.wasm.numThreads = job.threads;

const bytes = readFileSync(job.images);
const images = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
const session = await ort.InferenceSession.create(readFileSync(job.model));
const feeds = { input: new ort.Tensor("float32", images, job.shape) };

const outputs = await session.run(feeds);
for (const name of ["simcc_x", "simcc_y"]) writeFileSync(join(job.out, name), outputs[name].data);
const seconds = [];
for (let round = 0; round < job.rounds; round += 1) {
  const [started, before] = [performance.now(), process.cpuUsage()];
  await session.run(feeds);
  const { user, system } = process.cpuUsage(before);
  seconds.push([(performance.now() - started) / 1e3, (user + system) / 1e6]);
}
writeFileSync(join(job.out, "seconds.json"), JSON.stringify(seconds));
