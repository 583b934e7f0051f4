/**
 * What an ONNX file says of itself, read from its bytes: onnxruntime-web shows no metadata.
 * The schemas are those of cigpose_runtime/model_file/onnx_schema.py, as far as they are read here.
 */

import { PageError } from "./errors.mjs";
import { DOUBLES, FLOATS, INT, INTS, TEXT, TEXTS, WireReader } from "./wire.mjs";

const ENTRY = { 1: TEXT, 2: TEXT };
const OPERATOR_SET = { 1: TEXT, 2: INT };
const DIMENSION = { 1: INT, 2: TEXT, 3: TEXT };
const SHAPE = { 1: TEXTS };
const TENSOR_TYPE = { 1: INT, 2: TEXT };
const TYPE = { 1: TEXT, 6: TEXT };
const VALUE_INFO = { 1: TEXT, 2: TEXT, 3: TEXT, 4: TEXTS };
// prettier-ignore
const TENSOR = {
  1: INTS, 2: INT, 4: FLOATS, 5: INTS, 7: INTS, 8: TEXT, 9: TEXT, 10: DOUBLES, 11: INTS, 12: TEXT,
  13: TEXTS, 14: INT, 16: TEXTS,
};
// prettier-ignore
const GRAPH = {
  1: TEXTS, 2: TEXT, 5: TEXTS, 10: TEXT, 11: TEXTS, 12: TEXTS, 13: TEXTS, 14: TEXTS, 16: TEXTS,
};
// prettier-ignore
const MODEL = { 1: INT, 2: TEXT, 3: TEXT, 4: TEXT, 5: INT, 6: TEXT, 7: TEXT, 8: TEXTS, 14: TEXTS };

// TensorProto.DataType, by number.
// prettier-ignore
const ELEM_TYPES = [
  "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool",
  "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16",
];

const MISTAKEN = [
  ["version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"],
  ["<", "an HTML or XML page; download the model again, logged in if the site asks for it"],
  ["{", "a JSON document; give the .onnx file"],
  ["pk\x03\x04", "a zip archive, as PyTorch checkpoints are; unpack or export it first"],
];

/**
 * Reads the bytes (Uint8Array) of an ONNX file: {opset, metadata, inputs, outputs}.
 * metadata: [key, value] pairs in file order. inputs and outputs: {name, elemType, shape}; a size
 * is a number, a name, or null; shape is null where the rank is not given, elemType where the value
 * is no tensor. Inputs that an initializer supplies are left out. Throws PageError.
 */
export function readOnnxFile(bytes) {
  if (!bytes.length)
    throw new PageError("expected an ONNX model, found an empty file; choose another");
  const beginning = new TextDecoder("latin1").decode(bytes.subarray(0, 256));
  const text = beginning.replace(/^(?:ï»¿|[ \t\r\n])+/, "").toLowerCase();
  const mistaken = MISTAKEN.find(([start]) => text.startsWith(start));
  if (mistaken) throw new PageError(`expected an ONNX model, found ${mistaken[1]}`);

  const reader = new WireReader(bytes);
  const model = reader.message(MODEL);
  const [graphSpan] = model.get(7) ?? [];
  if (!graphSpan) {
    throw new PageError("expected an ONNX model, found none of its graph; export it again");
  }
  const graph = reader.message(GRAPH, ...graphSpan);
  const texts = (fields, number) => reader.text((fields.get(number) ?? [[0, 0]])[0]);
  const messages = (fields, number, schema) =>
    (fields.get(number) ?? []).map((span) => reader.message(schema, ...span));
  const supplied = new Set(messages(graph, 5, TENSOR).map((tensor) => texts(tensor, 8)));
  const opsets = messages(model, 8, OPERATOR_SET)
    .filter((set) => ["", "ai.onnx"].includes(texts(set, 1)))
    .map((set) => signed((set.get(2) ?? [0])[0]));
  if (new Set(opsets).size !== 1) {
    throw new PageError(
      `expected one operator set in an ONNX model, found ${opsets.length || "none"}; export it again`,
    );
  }
  const values = (number) =>
    messages(graph, number, VALUE_INFO).map((value) => {
      const name = texts(value, 1);
      const [type] = messages(value, 2, TYPE);
      const [tensor] = type ? messages(type, 1, TENSOR_TYPE) : [];
      if (!tensor) return { name, elemType: null, shape: null };
      const number = signed((tensor.get(1) ?? [0])[0]);
      const [shape] = messages(tensor, 2, SHAPE);
      return {
        name,
        elemType: ELEM_TYPES[number] ?? `type-${number}`,
        shape: shape
          ? messages(shape, 1, DIMENSION).map((size) => {
              if (size.has(1) && size.has(2)) {
                throw new PageError(
                  "expected a size or its name, found both; export the model again",
                );
              }
              return size.has(1) ? signed(size.get(1)[0]) : texts(size, 2) || null;
            })
          : null,
      };
    });
  return {
    opset: opsets[0],
    metadata: messages(model, 14, ENTRY).map((entry) => [texts(entry, 1), texts(entry, 2)]),
    inputs: values(11).filter((value) => !supplied.has(value.name)),
    outputs: values(12),
  };
}

/** A 64-bit two's complement number from its unsigned reading. */
function signed(value) {
  return typeof value === "bigint" ? Number(BigInt.asIntN(64, value)) : value;
}
