/** Boxes around people, drawn on the canvas with a pointer or set with keys. */

const LEAST_SIDE = 8; // pixels of the frame: less is a click
const STEP = 0.02; // of the frame, for each press of an arrow

/**
 * Lets boxes be drawn on `canvas`. box: [left, top, right, bottom] in frame pixels.
 * isOn(): whether boxes are wanted. boxes(): the list. onChange(boxes, isDone): another one.
 */
export function drawBoxesOn(canvas, { isOn, boxes, onChange }) {
  let start = null;
  let before = [];

  const at = (event) => {
    const shown = canvas.getBoundingClientRect();
    const x = ((event.clientX - shown.left) * canvas.width) / shown.width;
    const y = ((event.clientY - shown.top) * canvas.height) / shown.height;
    return [Math.min(Math.max(x, 0), canvas.width), Math.min(Math.max(y, 0), canvas.height)];
  };
  const drawn = (event) => {
    const end = at(event);
    const low = start.map((value, axis) => Math.min(value, end[axis]));
    const high = start.map((value, axis) => Math.max(value, end[axis]));
    const isBox = high.every((value, axis) => value - low[axis] >= LEAST_SIDE);
    return isBox ? [...before, [...low, ...high]] : before;
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (!isOn() || !event.isPrimary || event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    [start, before] = [at(event), boxes()];
  });
  canvas.addEventListener("pointermove", (event) => start && onChange(drawn(event), false));
  canvas.addEventListener("pointerup", (event) => {
    if (start) onChange(drawn(event), true);
    start = null;
  });
  canvas.addEventListener("pointercancel", () => {
    if (start) onChange(before, true);
    start = null;
  });

  canvas.addEventListener("keydown", (event) => {
    if (!isOn()) return;
    const changed = keyed(event, boxes(), canvas);
    if (!changed) return;
    event.preventDefault();
    onChange(changed, true);
  });
}

/** Enter adds a box, Delete removes the last, arrows move it, and with Shift change its size. */
function keyed({ key, shiftKey }, boxes, { width, height }) {
  if (key === "Enter")
    return [...boxes, [width / 4, height / 8, (width * 3) / 4, (height * 7) / 8]];
  if (!boxes.length) return null;
  const others = boxes.slice(0, -1);
  if (key === "Delete" || key === "Backspace") return others;
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  if (!step) return null;
  const [dx, dy] = [step[0] * STEP * width, step[1] * STEP * height];
  const [left, top, right, bottom] = boxes.at(-1);
  const low = shiftKey ? [left, top] : [left + dx, top + dy];
  const moved = [...low, right + dx, bottom + dy];
  const isBox = moved[2] - moved[0] >= LEAST_SIDE && moved[3] - moved[1] >= LEAST_SIDE;
  const isInside = moved[2] > 0 && moved[3] > 0 && moved[0] < width && moved[1] < height;
  return isBox && isInside ? [...others, moved] : boxes;
}
