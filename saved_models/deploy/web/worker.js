// Finds and classifies faces apart from the page, which stays responsive.

import * as ort from "./vendor/ort.wasm.min.mjs";
import { cropFace, findFaces } from "./faces.js";
import { readMetadata } from "./metadata.js";
import { readPixels, resize, toImageData } from "./pixels.js";

const BATCH = 32; // Faces that are classified at once.

ort.env.logLevel = "error";
let detector = null;
let model = null;

const actions = {
  // Loads the face detector and a model: the content of an .onnx file, or null for the default.
  async load({ content }) {
    detector ??= await ort.InferenceSession.create(await fetchBytes("vendor/yunet.onnx"));
    const bytes = content ? new Uint8Array(content) : await fetchBytes("vendor/model.onnx");
    const metadata = readMetadata(bytes);
    model = { session: await ort.InferenceSession.create(bytes), ...metadata };
    return metadata;
  },

  // Finds and classifies the faces of an ImageBitmap.
  async analyze({ bitmap, isCrop, margin }) {
    const picture = readPixels(bitmap);
    bitmap.close();
    const start = performance.now();
    const faces = isCrop ? [{ box: null }] : await findFaces(picture, detect);
    const found = performance.now();
    const size = model.image_size;
    const crops = faces.map((face) =>
      isCrop ? resize(picture, size, size) : cropFace(picture, face, size, margin),
    );
    const probabilities = await classify(crops, size);
    return {
      faces: faces.map((face, index) => ({
        ...face,
        probabilities: probabilities[index],
        crop: toImageData(crops[index]),
      })),
      milliseconds: { find: found - start, classify: performance.now() - found },
    };
  },
};

async function fetchBytes(path) {
  const response = await fetch(new URL(path, import.meta.url));
  if (!response.ok) throw new Error(`The file ${path} is missing. The README shows how to make it.`);
  return new Uint8Array(await response.arrayBuffer());
}

async function detect(values, shape) {
  const outputs = await detector.run({ input: new ort.Tensor("float32", values, shape) });
  return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, data]));
}

// Returns the class probabilities of crops, which the model takes as float32 RGB in [0, 255].
async function classify(crops, size) {
  const [input] = model.session.inputNames;
  const [output] = model.session.outputNames;
  const answers = [];
  for (let start = 0; start < crops.length; start += BATCH) {
    const batch = crops.slice(start, start + BATCH);
    const values = new Float32Array(batch.length * size * size * 3);
    const channelsFirst = model.input_layout === "nchw";
    batch.forEach(({ data }, index) =>
      values.set(channelsFirst ? withChannelsFirst(data) : data, index * data.length),
    );
    const shape = channelsFirst ? [3, size, size] : [size, size, 3];
    const pictures = new ort.Tensor("float32", values, [batch.length, ...shape]);
    const { data } = (await model.session.run({ [input]: pictures }))[output];
    const count = model.class_names.length;
    batch.forEach((_, index) => answers.push(data.slice(index * count, (index + 1) * count)));
  }
  return answers;
}

function withChannelsFirst(data) {
  const area = data.length / 3;
  return Float32Array.from(data, (_, index) => data[(index % area) * 3 + Math.floor(index / area)]);
}

// ONNX Runtime's sessions compute one call at a time.
let queue = Promise.resolve();
self.onmessage = ({ data: { number, action, ...parameters } }) => {
  queue = queue.then(async () => {
    try {
      self.postMessage({ number, result: await actions[action](parameters) });
    } catch (error) {
      self.postMessage({ number, error: String(error?.message ?? error) });
    }
  });
};
