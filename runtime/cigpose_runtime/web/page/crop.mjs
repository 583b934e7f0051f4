/**
 * From a frame and boxes to a model's input: cigpose_runtime/estimation/preprocess.py, number by
 * number, for the arithmetic of MMPose and OpenCV. Numbers of JavaScript are doubles; `f32` rounds
 * where MMPose works in float32.
 */

const f32 = Math.fround;
const UNITS = 1024; // a pixel in cv2.warpAffine (AB_BITS)
const STEPS = 32; // ... and where it rounds to (INTER_BITS)

/** The part of the frame, {center, scale}, that the crop of a box [l, t, r, b] shows. */
export function boxToCrop(box, model) {
  const [left, top, right, bottom] = box.map(f32);
  const [padding, aspect] = [f32(model.box_padding), f32(model.input_w / model.input_h)];
  const center = [f32(f32(right + left) * 0.5), f32(f32(bottom + top) * 0.5)];
  const [width, height] = [f32(f32(right - left) * padding), f32(f32(bottom - top) * padding)];
  const fitting = f32(height * aspect);
  const scale = width > fitting ? [width, f32(width / aspect)] : [fitting, height];
  return { center, scale };
}

/**
 * Writes a crop into `planes`, Float32Array of 3 * h * w, normalised, in the model's colour order.
 * frame: {data, width, height}, data in RGBA, as ImageData.
 */
export function writeCrop(frame, crop, model, planes) {
  const { input_w: w, input_h: h } = model;
  const [[xStep, xDrift, xStart], [, yStep, yStart]] = cropToFrame(crop, w, h);
  const size = w * h;
  const tables = normalised(model);
  const columns = Array.from({ length: w }, (_, column) => toUnits(xStep * column));
  const pairs = new Map(); // the pixels beside each column, by where its row starts
  for (let row = 0; row < h; row++) {
    const [upper, lower] = neighbours(toUnits(yStep * row + yStart), frame.height);
    const start = toUnits(xDrift * row + xStart);
    if (!pairs.has(start)) {
      pairs.set(
        start,
        columns.map((column) => neighbours(start + column, frame.width)),
      );
    }
    const [upperRow, lowerRow] = [upper.at * frame.width * 4, lower.at * frame.width * 4];
    pairs.get(start).forEach(([before, after], column) => {
      for (let channel = 0; channel < 3; channel++) {
        const blended = (at) =>
          frame.data[upperRow + 4 * at + channel] * upper.weight +
          frame.data[lowerRow + 4 * at + channel] * lower.weight;
        const sum = blended(before.at) * before.weight + blended(after.at) * after.weight;
        const level = (sum + (STEPS * STEPS) / 2) >> 10;
        const plane = model.color_order === "rgb" ? channel : 2 - channel;
        planes[plane * size + row * w + column] = tables[plane][level];
      }
    });
  }
}

/** The model's number for each grey level, a table a channel. */
function normalised(model) {
  return model.mean.map((mean, channel) =>
    Float32Array.from({ length: 256 }, (_, level) =>
      f32(f32(level - f32(mean)) / f32(model.std[channel])),
    ),
  );
}

/** The affine matrix from crop pixels to frame pixels, as _crop_to_frame. */
function cropToFrame({ center: [x, y], scale }, w, h) {
  const xLeft = f32(x - scale[0] / 2);
  const yDown = f32(y + f32(x - xLeft));
  const [a, b, c] = solve([
    [x, y, 1, w / 2],
    [xLeft, y, 1, 0],
    [xLeft, yDown, 1, 0],
  ]);
  const [d, e, f] = solve([
    [xLeft, y, 1, h / 2],
    [x, y, 1, h / 2],
    [xLeft, yDown, 1, (h + w) / 2],
  ]);
  const inverse = 1 / (a * e - b * d);
  const [A, B, D, E] = [e * inverse, b * -inverse, d * -inverse, a * inverse];
  return [
    [A, B, -A * c - B * f],
    [D, E, -D * c - E * f],
  ];
}

/** Three linear equations, each as coefficients and right-hand side, by OpenCV's elimination. */
function solve(rows) {
  for (let i = 0; i < 3; i++) {
    let pivot = i;
    for (let k = i + 1; k < 3; k++) {
      if (Math.abs(rows[k][i]) > Math.abs(rows[pivot][i])) pivot = k;
    }
    [rows[i], rows[pivot]] = [rows[pivot], rows[i]];
    for (const row of rows.slice(i + 1)) {
      const factor = row[i] * (-1 / rows[i][i]);
      for (let k = i + 1; k < 4; k++) row[k] += factor * rows[i][k];
    }
  }
  const [first, second, third] = rows;
  const z = third[3] / third[2];
  const y = (second[3] - second[2] * z) / second[1];
  return [(first[3] - first[1] * y - first[2] * z) / first[0], y, z];
}

/** Rounds to the nearest, halves to even. */
function toUnits(pixels) {
  const units = pixels * UNITS;
  const rounded = Math.round(units);
  return rounded - units === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/** The pixels before and after a position; those outside the frame have weight 0. */
function neighbours(units, size) {
  const steps = Math.floor((units + UNITS / STEPS / 2) / (UNITS / STEPS));
  const pixel = Math.floor(steps / STEPS);
  const share = steps - STEPS * pixel;
  return [
    [pixel, STEPS - share],
    [pixel + 1, share],
  ].map(([wanted, weight]) => {
    const at = Math.min(Math.max(wanted, 0), size - 1);
    return { at, weight: at === wanted ? weight : 0 };
  });
}
