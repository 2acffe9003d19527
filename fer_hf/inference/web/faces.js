// The worker of the page: finds the faces in a picture and names the expression of each, as
// `pipeline("facial-expression")` does.
//
// It gets `{frame, find}`, an ImageBitmap and whether to look for faces (or take the picture for one), and answers
// `{frame, faces}` or `{error}`. Once it has loaded, it says `{model}`: its name and labels.

import * as ort from "./runtime/ort.wasm.bundle.min.mjs";
import { cut, resize } from "./pixels.js";

// BlazeFace: its input's side in pixels, and the grids of its two outputs, with boxes per cell.
const DETECTOR_SIDE = 256;
const GRIDS = [{ cells: 16, boxes: 2 }, { cells: 8, boxes: 6 }];
const MIN_SCORE = 0.5;
// Boxes that share more than this, intersection over union, are of one face.
const SAME_FACE = 0.3;

const here = (name) => new URL(name, import.meta.url).href;

ort.env.wasm.numThreads = 1; // more need headers that a plain web server does not send
ort.env.wasm.wasmPaths = { wasm: here("runtime/ort-wasm-simd-threaded.wasm") };

const load = (name) => ort.InferenceSession.create(here(name), { logSeverityLevel: 3 }); // errors alone
const loading = Promise.all([
  fetch(here("model.json")).then((answer) => answer.json()),
  load("model.onnx"),
  load("runtime/blazeface.onnx"),
]);
loading.then(([model]) => postMessage({ model }), (error) => postMessage({ error: error.message }));

onmessage = async ({ data: { frame, find } }) => {
  try {
    const [model, classifier, detector] = await loading;
    const faces = find ? await findFaces(detector, frame) : [{ box: [0, 0, frame.width, frame.height], score: 1 }];
    if (faces.length) {
      const picture = pixelsOf(frame, frame.width, frame.height);
      const pictures = find ? faces.map((face) => cut(picture, faceSquare(face, model))) : [picture];
      const scores = await classify(classifier, pictures, model);
      faces.forEach((face, i) => (face.scores = scores[i]));
    }
    postMessage({ frame, faces }, [frame]);
  } catch (error) {
    postMessage({ error: error.message });
  }
};

/** Pixels of a frame, scaled, on a black ground of the given size. */
function pixelsOf(frame, width, height, scale = 1, left = 0, top = 0) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { alpha: false, willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(frame, left, top, frame.width * scale, frame.height * scale);
  return context.getImageData(0, 0, width, height);
}

/** Faces with `box` (left, top, right, bottom), `score` and `landmarks` (eyes, nose, mouth), in pixels of the frame. */
async function findFaces(detector, frame) {
  const scale = DETECTOR_SIDE / Math.max(frame.width, frame.height);
  const [left, top] = [frame.width, frame.height].map((side) => (DETECTOR_SIDE - side * scale) / 2);
  const { data } = pixelsOf(frame, DETECTOR_SIDE, DETECTOR_SIDE, scale, left, top);
  const input = new Float32Array(3 * DETECTOR_SIDE ** 2);
  for (let i = 0; i < input.length; i++) input[i] = data[i + Math.floor(i / 3)] / 127.5 - 1; // without alpha
  const tensor = new ort.Tensor("float32", input, [1, DETECTOR_SIDE, DETECTOR_SIDE, 3]);
  const results = await detector.run({ [detector.inputNames[0]]: tensor });
  const outputs = detector.outputNames.map((name) => results[name].data); // scores of both grids, then their boxes
  const point = (x, y) => [(x - left) / scale, (y - top) / scale];
  const found = merged(GRIDS.flatMap((grid, i) => boxesOf(grid, outputs[i], outputs[i + 2])));
  found.sort((a, b) => a.values[0] - b.values[0]); // from left to right: a face keeps its number in a video
  return found.map(({ score, values }) => {
    const [x, y, width, height, ...points] = values;
    return {
      box: [...point(x - width / 2, y - height / 2), ...point(x + width / 2, y + height / 2)],
      score,
      landmarks: [0, 2, 4, 6].map((i) => point(points[i], points[i + 1])),
    };
  });
}

/** The boxes of a grid above the least score: center, size and six points, in pixels of the detector's input. */
function boxesOf({ cells, boxes }, logits, regressed) {
  const found = [];
  logits.forEach((logit, i) => {
    const score = 1 / (1 + Math.exp(-logit));
    if (score < MIN_SCORE) return;
    const cell = Math.floor(i / boxes);
    const center = [cell % cells, Math.floor(cell / cells)].map((at) => ((at + 0.5) * DETECTOR_SIDE) / cells);
    // All are relative to the cell's center but the size, which stands second.
    const values = [...regressed.subarray(16 * i, 16 * i + 16)].map((v, j) => (j === 2 || j === 3 ? v : v + center[j % 2]));
    found.push({ score, values });
  });
  return found;
}

/** One face for boxes that overlap: their mean, weighted by score, which trembles less in a video than the best. */
function merged(found) {
  const faces = [];
  let rest = found.sort((a, b) => b.score - a.score);
  while (rest.length) {
    const [best] = rest;
    const same = rest.filter((other) => overlap(best.values, other.values) > SAME_FACE);
    rest = rest.filter((other) => !same.includes(other));
    const total = same.reduce((sum, { score }) => sum + score, 0);
    const mean = (j) => same.reduce((sum, { score, values }) => sum + score * values[j], 0) / total;
    faces.push({ score: best.score, values: best.values.map((_, j) => mean(j)) });
  }
  return faces;
}

function overlap([x, y, width, height], [otherX, otherY, otherWidth, otherHeight]) {
  const shared = (a, length, b, otherLength) =>
    Math.max(0, Math.min(a + length / 2, b + otherLength / 2) - Math.max(a - length / 2, b - otherLength / 2));
  const both = shared(x, width, otherX, otherWidth) * shared(y, height, otherY, otherHeight);
  return both / (width * height + otherWidth * otherHeight - both);
}

/** The square about a face that the classifier gets, as `fer_hf.inference.alignment.face_square`. */
function faceSquare({ landmarks: [left, right, , mouth] }, { margin, share }) {
  const eyes = [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2];
  const distance = Math.hypot(right[0] - left[0], right[1] - left[1]);
  const [x, y] = [(right[0] - left[0]) / distance, (right[1] - left[1]) / distance];
  const side = Math.max(distance, Math.hypot(mouth[0] - eyes[0], mouth[1] - eyes[1])) / share;
  const across = side * (0.5 + margin), down = side * (share + margin);
  const corner = [eyes[0] - across * x + down * y, eyes[1] - across * y - down * x];
  return { corner, right: [x, y], side: side * (1 + 2 * margin) };
}

/** Probabilities of each face, in label order. */
async function classify(classifier, pictures, model) {
  const [height, width] = model.crop;
  const input = new Float32Array(pictures.length * 3 * height * width);
  pictures.forEach((picture, i) => prepare(picture, model, input.subarray(i * 3 * height * width)));
  const pixelValues = new ort.Tensor("float32", input, [pictures.length, 3, height, width]);
  const { logits } = await classifier.run({ pixel_values: pixelValues });
  const count = logits.dims[1];
  return pictures.map((_, i) => softmax([...logits.data.subarray(i * count, (i + 1) * count)]));
}

/** What the model's image processor does: resized (by height and width, or shortest edge), cut out, normalized. */
function prepare({ data, width, height }, { size, filter, crop, scale, mean, std }, input) {
  const [toHeight, toWidth] = size.length ? size : [height, width].map((side) => Math.floor((size * side) / Math.min(height, width)));
  const resized = resize({ data, width, height }, toWidth, toHeight, filter);
  const top = Math.floor((toHeight - crop[0]) / 2), left = Math.floor((toWidth - crop[1]) / 2);
  for (let channel = 0, to = 0; channel < 3; channel++) {
    for (let row = top; row < top + crop[0]; row++) {
      for (let column = left; column < left + crop[1]; column++) {
        const value = resized.data[4 * (row * toWidth + column) + channel];
        input[to++] = (value * scale - mean[channel]) / std[channel];
      }
    }
  }
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}
