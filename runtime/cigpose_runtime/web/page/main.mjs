/** The page: what is open, and what happens when something else is opened, drawn or pressed. */

import { estimate, openModel } from "./ask.mjs";
import { drawBoxesOn } from "./boxes.mjs";
import { drawBox, drawPerson } from "./draw.mjs";
import { said } from "./errors.mjs";
import { pickedRelease, servedFolder } from "./files.mjs";
import { showMetadata } from "./metadata.mjs";
import { save, toJsonLine } from "./results.mjs";
import { openCamera, openClip, openPicture } from "./source.mjs";

const MOST_LINES = 20_000; // of results that are kept: over ten minutes of a clip

const get = (id) => document.getElementById(id);
const canvas = get("view");
const context = canvas.getContext("2d");
const pixels = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

/** What is open. people: found in the last frame; lines: results of all frames of the source. */
const state = { model: null, source: null, boxes: [], people: [], lines: [], run: 0 };
let folder = { models: [], media: [], boxes: {} };

// Opening

/** Runs what was asked for; its error is shown in the place of the status. */
async function attempt(task) {
  try {
    await task();
  } catch (error) {
    show(said(error), true);
  } finally {
    get("progress").hidden = true;
  }
}

function show(text, isError = false) {
  get("status").textContent = text;
  get("status").classList.toggle("error", isError);
  if (isError) reveal();
}

/** On a phone, what is pressed is further down than what comes of it. */
function reveal() {
  get("status").scrollIntoView({ block: "nearest" });
}

/** What is open, and what is missing. */
function showWhatRuns() {
  const { model, source } = state;
  get("results").hidden = !model || !source;
  if (!model) return show(`${source.name} is open. Open a model.`);
  const device = model.device === "webgpu" ? "WebGPU" : "the CPU";
  const note = model.note ? ` (${model.note})` : "";
  const next = source ? "" : " Open a picture, a clip or the camera.";
  return show(`${model.entry.name} runs on ${device}${note}.${next}`);
}

function onProgress(done, size, isKept) {
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  const verb = isKept ? "Reading from this browser's cache" : "Downloading";
  show(`${verb}: ${megabytes(done)} of ${megabytes(size)} MB`);
  Object.assign(get("progress"), { hidden: false, value: done / size });
}

/** entry: {name, read}, as of a folder; read returns the bytes. */
async function useModel(entry) {
  const { name, read } = entry;
  show(`Opening ${name} …`);
  reveal();
  const bytes = await read(onProgress);
  show(`Starting ${name} …`);
  const opened = await openModel(bytes, get("device").value);
  state.model = { entry, ...opened };
  get("models").value = numberOf(folder.models, name);
  const { findsPeople, metadata } = opened.contract;
  choice("detector").disabled = !findsPeople;
  choice("boxes").disabled = choice("frame").disabled = findsPeople;
  if (findsPeople) choice("detector").checked = true;
  else if (choice("detector").checked) choice("frame").checked = true;
  showMetadata(get("metadata"), metadata);
  get("about").hidden = false;
  choosePeople();
  showWhatRuns();
  await restart();
}

async function useSource(opening) {
  const source = await opening;
  state.source?.close();
  Object.assign(state, { source, people: [], boxes: boxesOf(source) });
  Object.assign(canvas, { width: source.width, height: source.height });
  Object.assign(pixels.canvas, { width: source.width, height: source.height });
  get("empty").hidden = true;
  get("media").value = numberOf(folder.media, source.name);
  if (people() !== "detector") choice(state.boxes.length ? "boxes" : "frame").checked = true;
  choosePeople();
  showWhatRuns();
  await restart();
}

/** Of what a folder lists, the one of this name, as its <select> has it. */
function numberOf(entries, wanted) {
  const number = entries.findIndex(({ name }) => name === wanted);
  return number < 0 ? "" : number;
}

/** The boxes that the folder has for a picture or clip. */
function boxesOf({ name, width, height }) {
  const listed = folder.boxes[name];
  if (!Array.isArray(listed)) return [];
  return listed.filter(
    (box) =>
      Array.isArray(box) &&
      box.length === 4 &&
      box.every(Number.isFinite) &&
      box[2] - box[0] >= 1 &&
      box[3] - box[1] >= 1 &&
      box[2] > 0 &&
      box[3] > 0 &&
      box[0] < width &&
      box[1] < height,
  );
}

const openFile = (file) => (file.type.startsWith("video/") ? openClip(file) : openPicture(file));

async function useFiles(files) {
  for (const file of files) {
    if (/\.onnx$/i.test(file.name)) {
      await useModel({
        name: file.name,
        read: async () => new Uint8Array(await file.arrayBuffer()),
      });
    } else {
      await useSource(openFile(file));
    }
  }
}

// Running

const choice = (value) => document.querySelector(`[name=people][value=${value}]`);
const people = () => document.querySelector("[name=people]:checked").value;
const wholeFrame = () => [[0, 0, canvas.width, canvas.height]];

/** Starts on the source from now: one frame of a picture, all that come of a live one. */
async function restart() {
  const run = ++state.run;
  state.lines = [];
  const { source } = state;
  if (!source) return;
  for (const id of ["count", "time", "rate"]) get(id).textContent = "–";
  if (source.isLive) attempt(() => follow(run));
  else await look(run, { frame: 0 });
}

/** Looks at frames of a live source as they come, as long as nothing else is started. */
async function follow(run) {
  let last = performance.now();
  let rate = 0;
  for (let frame = 0; run === state.run; frame++) {
    const seconds = await state.source.next();
    if (run !== state.run) return;
    await look(run, { frame, seconds: Math.round(seconds * 1e6) / 1e6 });
    const now = performance.now();
    rate = frame ? 0.9 * rate + 100 / (now - last) : 1000 / (now - last);
    last = now;
    if (run === state.run) get("rate").textContent = `${rate.toFixed(1)} /s`;
  }
}

/** Shows the frame of now with its people. about: it, in the results. */
async function look(run, about) {
  const { model, source } = state;
  pixels.drawImage(source.image, 0, 0);
  if (model) {
    const { width, height } = canvas;
    const { data } = pixels.getImageData(0, 0, width, height);
    const boxes = people() === "boxes" ? state.boxes : wholeFrame();
    const isNobody = people() === "boxes" && !boxes.length;
    const found = isNobody ? { people: [] } : await estimate({ data, width, height }, boxes);
    if (run !== state.run) return;
    state.people = found.people;
    const line = toJsonLine(found.people, { source: source.name, ...about });
    if (state.lines.length < MOST_LINES) state.lines.push(line);
    get("count").textContent = found.people.length;
    get("time").textContent = isNobody ? "–" : `${found.milliseconds.toFixed(0)} ms`;
  }
  redraw();
}

function redraw() {
  const { source, model } = state;
  if (!source) return;
  context.drawImage(pixels.canvas, 0, 0);
  if (people() === "boxes") state.boxes.forEach((box) => drawBox(context, box));
  if (people() === "detector") state.people.forEach(({ box }) => drawBox(context, box));
  const threshold = Number(get("threshold").value);
  if (model)
    state.people.forEach((person) => drawPerson(context, person, model.contract.model, threshold));
  canvas.setAttribute("aria-label", `${source.name}, ${state.people.length} people found`);
}

// Controls

function choosePeople() {
  const isDrawing = people() === "boxes";
  canvas.classList.toggle("drawable", isDrawing && Boolean(state.source));
  get("drawing").hidden = !isDrawing;
  get("clear").disabled = !state.boxes.length;
}

function setBoxes(boxes, isDone) {
  state.boxes = boxes;
  choosePeople();
  redraw();
  if (isDone) attempt(restart);
}

function onClick(id, task) {
  get(id).addEventListener("click", () => attempt(task));
}

for (const [button, input] of [
  ["open-model", "model-file"],
  ["open-release", "release-folder"],
  ["open-source", "source-file"],
]) {
  get(button).addEventListener("click", () => get(input).click());
}

function onFiles(id, task) {
  get(id).addEventListener("change", () => {
    const files = [...get(id).files];
    get(id).value = ""; // so that the same one may be chosen again
    if (files.length) attempt(() => task(files));
  });
}

onFiles("model-file", useFiles);
onFiles("source-file", useFiles);
onFiles("release-folder", async (files) => {
  listModels(await pickedRelease(files));
  show("The release is open. Choose a model of it.");
});
onClick("camera", () => useSource(openCamera()));
onClick("clear", () => setBoxes([], true));
onClick("save", () => save(state.lines.join(""), "poses.jsonl"));
get("controls").addEventListener("submit", (event) => event.preventDefault());
get("people").addEventListener("change", () => {
  choosePeople();
  state.people = [];
  attempt(restart);
});
get("threshold").addEventListener("input", () => {
  get("threshold-shown").textContent = Number(get("threshold").value).toFixed(2);
  redraw();
});
get("device").addEventListener("change", () => {
  if (state.model) attempt(() => useModel(state.model.entry));
});
drawBoxesOn(canvas, {
  isOn: () => people() === "boxes" && Boolean(state.source),
  boxes: () => state.boxes,
  onChange: setBoxes,
});

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  get("frame").classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) get("frame").classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  get("frame").classList.remove("dropping");
  attempt(() => useFiles([...event.dataTransfer.files]));
});

// The folder that the page is served with

function listModels(models) {
  folder.models = models;
  const names = models.map(
    ({ name, size }, i) => new Option(`${name} (${(size / 1e6).toFixed(0)} MB)`, i),
  );
  get("models").replaceChildren(new Option("choose …", ""), ...names);
  get("listed").hidden = !models.length;
}

get("models").addEventListener("change", ({ target }) => {
  if (target.value) attempt(() => useModel(folder.models[target.value]));
});
get("media").addEventListener("change", ({ target }) => {
  if (target.value)
    attempt(async () => useSource(openFile(await folder.media[target.value].read())));
});

onClick("demo", async () => {
  const isPacked = ({ name }) => /_frame(_det)?\.onnx$/.test(name); // what others may run, too
  await useModel(folder.models.find(isPacked) ?? folder.models[0]);
  await useSource(openFile(await folder.media[0].read()));
});

await attempt(async () => {
  folder = await servedFolder();
  listModels(folder.models);
  get("media").append(...folder.media.map(({ name }, i) => new Option(name, i)));
  get("listed-media").hidden = !folder.media.length;
  get("demo").hidden = !folder.models.length || !folder.media.length;
});
