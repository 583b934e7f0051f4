/** Draws skeletons and boxes on a canvas in frame pixels, as cigpose_runtime/draw.py does. */

// As there: blue and orange stay apart for all kinds of colour vision.
const LEFT = "rgb(60 170 235)";
const RIGHT = "rgb(255 130 30)";
const CENTRE = "rgb(160 220 140)";
const OUTLINE = "rgb(20 20 20)";
const BOX = "rgb(255 255 255)";

const FIRST_FINE = 23; // of COCO-WholeBody's keypoints: face and hands, with thinner lines
const FINE = 0.45;

/** One person's lines and dots. person: {box, keypoints, scores}; model: of the contract. */
export function drawPerson(context, person, model, threshold) {
  const [left, top, right, bottom] = person.box;
  const share = 0.011 * Math.sqrt(Math.max(right - left, 1) * Math.max(bottom - top, 1));
  const width = Math.min(Math.max(share, 1.5), 14);
  const isSeen = (keypoint) => person.scores[keypoint] >= threshold && person.scores[keypoint] > 0;
  const isFine = (keypoint) => model.dataset === "coco-wholebody" && keypoint >= FIRST_FINE;
  const colours = model.keypoint_names.map(sideColour);
  const lines = model.skeleton
    .filter((line) => line.every(isSeen))
    .map(([a, b]) => ({
      points: [person.keypoints[a], person.keypoints[b]],
      width: width * (isFine(a) && isFine(b) ? FINE : 1),
      colour: colours[a] === colours[b] ? colours[a] : CENTRE,
    }));
  const dots = person.keypoints
    .map((point, keypoint) => ({
      points: [point, point],
      width: 1.7 * width * (isFine(keypoint) ? FINE : 1),
      colour: colours[keypoint],
      keypoint,
    }))
    .filter(({ keypoint }) => isSeen(keypoint));
  context.save();
  context.translate(0.5, 0.5); // keypoints count from the middle of a pixel, canvases from its edge
  context.lineCap = "round";
  for (const isEdge of [true, false]) {
    for (const shape of [...lines, ...dots]) {
      const [from, [x, y]] = shape.points;
      context.strokeStyle = isEdge ? OUTLINE : shape.colour;
      context.lineWidth = shape.width + (isEdge ? 2 : 0);
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(x + 0.01, y); // a line of no length would not be drawn
      context.stroke();
    }
  }
  context.restore();
}

/** A box [left, top, right, bottom], for people to see where a person is looked for. */
export function drawBox(context, [left, top, right, bottom]) {
  const width = Math.max(1, context.canvas.width / 480);
  for (const [thickness, colour, dashes] of [
    [3 * width, OUTLINE, []],
    [width, BOX, [6 * width, 4 * width]],
  ]) {
    context.lineWidth = thickness;
    context.strokeStyle = colour;
    context.setLineDash(dashes);
    context.strokeRect(left, top, right - left, bottom - top);
  }
  context.setLineDash([]);
}

function sideColour(name) {
  if (name.startsWith("left")) return LEFT;
  return name.startsWith("right") ? RIGHT : CENTRE;
}
