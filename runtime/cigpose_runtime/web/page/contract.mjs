/** What a model says it takes and returns, from its metadata, checked against its graph. */

import { PageError } from "./errors.mjs";
import { readOnnxFile } from "./onnx_file.mjs";

const PACKED_KEY = "cigpose_frame";
const CROPS_KEY = "cigpose_meta";

/** The newest schema versions that are known; one made from another file has version 2. */
const NEWEST = { [PACKED_KEY]: 1, [CROPS_KEY]: 2 };

const isInt = (least, most) => (value) =>
  Number.isInteger(value) && value >= least && value <= most;
const isNumber = (least, most) => (value) =>
  Number.isFinite(value) && value >= least && value <= most;
const isList = (holds, length) => (value) =>
  Array.isArray(value) && (length === undefined || value.length === length) && value.every(holds);

/** The fields that running a model takes, with the limits of model_file/contract_fields.py. */
const RULES = {
  schema_version: isInt(0, NEWEST[CROPS_KEY]),
  dataset: (value) => typeof value === "string",
  num_keypoints: isInt(1, 1024),
  input_w: isInt(1, 1024),
  input_h: isInt(1, 1024),
  split_ratio: isNumber(1e-6, 2 ** 21),
  mean: isList(isNumber(-1e6, 1e6), 3),
  std: isList(isNumber(1e-6, 1e6), 3),
  color_order: (value) => ["rgb", "bgr"].includes(value),
  box_padding: isNumber(1, 10),
  decode: (value) => value === "simcc-argmax",
  keypoint_names: isList((value) => typeof value === "string"),
  skeleton: isList(isList(isInt(0, 1023), 2)),
  precision: (value) => typeof value === "string",
};

const FRAME_RULES = {
  schema_version: isInt(1, NEWEST[PACKED_KEY]),
  frame_color_order: (value) => ["rgb", "bgr"].includes(value),
  box_form: (value) => value === "ltrb",
  score_rule: (value) => value === "lower-simcc-peak",
};

/**
 * The model in these bytes (Uint8Array): {isPacked, findsPeople, metadata, model}.
 * metadata: its whole document, to show. model: the fields of RULES. Throws PageError.
 */
export function readModel(bytes) {
  const file = readOnnxFile(bytes);
  const packed = entry(file, PACKED_KEY);
  const metadata = packed ?? entry(file, CROPS_KEY);
  if (!metadata) {
    throw new PageError(
      "expected a model that cigpose-tools exported or packed, found an ONNX file without its " +
        "metadata; export it with cigpose-tools",
    );
  }
  if (packed) check(metadata, FRAME_RULES, PACKED_KEY);
  const model = (packed ? metadata.model : metadata) ?? {};
  if (model.schema_version < 2) model.precision = "fp32"; // which such files do not say
  check(model, RULES, CROPS_KEY);
  if (model.derived_from?.batch) {
    throw new PageError(
      `expected a model for any number of people, found one for ${model.derived_from.batch} at a time; open the file that it was made from`,
    );
  }
  const { num_keypoints: count } = model;
  if (model.keypoint_names.length !== count || model.skeleton.flat().some((k) => k >= count)) {
    throw new PageError(
      `expected names and lines of ${count} keypoints in the metadata, found others; export the model again`,
    );
  }
  const findsPeople = Boolean(packed?.detector);
  checkInterface(file, packed ? frameInterface(findsPeople) : CROPS_INTERFACE);
  return { isPacked: Boolean(packed), findsPeople, metadata, model };
}

const CROPS_INTERFACE = ["input float32", "simcc_x float32", "simcc_y float32"];

function frameInterface(findsPeople) {
  const poses = ["keypoints float32", "scores float32"];
  const boxes = findsPeople ? ["boxes float32", "box_scores float32"] : ["boxes float32"];
  return ["frame uint8", ...boxes, ...poses];
}

function checkInterface(file, expected) {
  const found = [...file.inputs, ...file.outputs].map((value) => `${value.name} ${value.elemType}`);
  if (found.join() !== expected.join()) {
    throw new PageError(
      `expected the inputs and outputs ${expected.join(", ")}, found ` +
        `${found.slice(0, 6).join(", ") || "none"}; export the model again`,
    );
  }
}

function entry(file, key) {
  const texts = file.metadata.filter(([name]) => name === key).map(([, value]) => value);
  if (!texts.length) return null;
  let document = null;
  try {
    if (texts.length === 1) document = JSON.parse(texts[0]);
  } catch {} // as if it said something else than an object
  if (document === null || typeof document !== "object" || Array.isArray(document)) {
    throw new PageError(
      `expected one JSON object as ${key}, found another; export the model again`,
    );
  }
  return document;
}

function check(document, rules, key) {
  const { schema_version: version } = document;
  if (Number.isInteger(version) && version > NEWEST[key]) {
    throw new PageError(
      `expected ${key} of schema version ${NEWEST[key]} at most, found ${version}; open the model on a newer page`,
    );
  }
  const bad = Object.keys(rules).filter((field) => !rules[field](document[field]));
  if (bad.length) {
    throw new PageError(`invalid or missing metadata: ${bad.join(", ")}; export the model again`);
  }
}
