/**
 * Reads protobuf's wire format strictly, as cigpose_runtime/model_file/protobuf.py does: what no
 * writer writes is refused, since two readers of it may see two messages. A message is read one
 * level deep; a schema names its fields: number -> kind. Bodies that nobody reads are stepped over.
 */

import { PageError } from "./errors.mjs";

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** Kinds of fields: whether numbers (which may be packed), and whether they repeat. */
export const INT = { wire: VARINT };
export const INTS = { wire: VARINT, repeated: true };
export const FLOATS = { wire: FIXED32, repeated: true };
export const DOUBLES = { wire: FIXED64, repeated: true };
export const TEXT = { wire: BYTES };
export const TEXTS = { wire: BYTES, repeated: true };

const MOST_FIELDS = 2_000_000;

function refuse(what) {
  throw new PageError(
    `expected an ONNX model, found damaged or foreign content (${what}); download or export it again`,
  );
}

/** Reads messages of `bytes`, a Uint8Array. */
export class WireReader {
  #bytes;
  #fields = 0;

  constructor(bytes) {
    this.#bytes = bytes;
  }

  /**
   * The fields of the message from start to end: number -> values. A value is a number (a BigInt
   * where it is not exact as a number), or [start, end] of what has a length.
   */
  message(schema, start = 0, end = this.#bytes.length) {
    const found = new Map();
    for (let at = start; at < end;) {
      if (++this.#fields > MOST_FIELDS) refuse("too many fields");
      const [tag, after] = this.#varint(at, end);
      if (tag >= 2 ** 32) refuse(`a tag of more than 32 bits at byte ${at}`);
      const [number, wire] = [Math.floor(tag / 8), tag % 8];
      const field = schema[number];
      if (!field) refuse(`an unknown field ${number} at byte ${at}`);
      if (wire !== field.wire && !(wire === BYTES && field.repeated)) {
        refuse(`field ${number} with wire type ${wire} at byte ${at}`);
      }
      const [value, next] = this.#value(wire, after, end);
      const values = found.get(number) ?? [];
      if (values.length && !field.repeated) refuse(`field ${number} more than once`);
      values.push(value);
      found.set(number, values);
      at = next;
    }
    return found;
  }

  text([start, end]) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
        this.#bytes.subarray(start, end),
      );
    } catch {
      return refuse(`text that is not UTF-8 at byte ${start}`);
    }
  }

  #value(wire, at, end) {
    if (wire === VARINT) return this.#varint(at, end);
    let start = at;
    let length = wire === FIXED64 ? 8 : 4;
    if (wire === BYTES) [length, start] = this.#varint(at, end);
    if (length > end - start) refuse(`a value that reaches beyond its message at byte ${at}`);
    return [[start, start + Number(length)], start + Number(length)];
  }

  #varint(start, end) {
    let value = 0n;
    let small = 0;
    for (let at = start, shift = 0; at < end && shift < 70; at++, shift += 7) {
      const byte = this.#bytes[at];
      if (shift < 49) small += (byte & 0x7f) * 2 ** shift;
      else value |= BigInt(byte & 0x7f) << BigInt(shift);
      if (byte < 0x80) {
        if (byte === 0 && shift) refuse(`a number not in its shortest form at byte ${start}`);
        value += BigInt(small);
        if (value >= 1n << 64n) refuse(`a number of more than 64 bits at byte ${start}`);
        return [value <= Number.MAX_SAFE_INTEGER ? Number(value) : value, at + 1];
      }
    }
    return refuse(`a number without an end at byte ${start}`);
  }
}
