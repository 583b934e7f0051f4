/** Poses as JSON lines, in the form that `cigpose-runtime --json` writes. */

const SCHEMA_VERSION = 1;
const LEAST_COUNTED = 0.2; // keypoints up to this score have no part in a person's (CocoMetric)

const rounded = (value) => Math.round(value * 1000) / 1000;

/** One frame's line. people: of estimate. */
export function toJsonLine(people, about) {
  const listed = people.map(({ box, boxScore, keypoints, scores }) => {
    const counted = scores.filter((score) => score > LEAST_COUNTED);
    const mean = counted.reduce((sum, score) => sum + score, 0) / Math.max(counted.length, 1);
    return {
      box_xyxy: box.map(rounded),
      score: rounded(mean * (boxScore ?? 1)),
      keypoints: keypoints.map((xy) => xy.map(rounded)),
      keypoint_scores: scores.map(rounded),
      ...(boxScore === undefined ? {} : { box_score: rounded(boxScore) }),
    };
  });
  return `${JSON.stringify({ schema_version: SCHEMA_VERSION, ...about, people: listed })}\n`;
}

/** Offers a text as a file to save. */
export function save(text, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/jsonl" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
