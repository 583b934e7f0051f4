// What the page's reader sees of models: JSON on stdin, a list of them in base64; one answer each.

import { readFileSync } from "node:fs";

const page = new URL("../../runtime/cigpose_runtime/web/page/", import.meta.url);
const { readOnnxFile } = await import(new URL("onnx_file.mjs", page));
const { PageError } = await import(new URL("errors.mjs", page));

const models = JSON.parse(readFileSync(0, "utf-8"));
const answers = models.map((model) => {
  try {
    return readOnnxFile(new Uint8Array(Buffer.from(model, "base64")));
  } catch (error) {
    if (error instanceof PageError) return { refused: error.message };
    return { failed: error.stack };
  }
});
console.log(JSON.stringify(answers));
