// The page: takes pictures from files, the clipboard or the camera, and shows the answers.

import { drawFaces, listFaces, summarize } from "./results.js";

const ANNOUNCE_EVERY = 3000; // Milliseconds between two spoken results of the camera.
const SAFE = { colorSpaceConversion: "none", premultiplyAlpha: "none" }; // Pixels as in the file.

const element = (id) => document.getElementById(id);
const [stage, drop, view, file] = ["stage", "drop", "view", "file"].map(element);
const [choose, camera, status, problem] = ["choose", "camera", "status", "problem"].map(element);
const [isCrop, margin] = ["is-crop", "margin"].map(element);
const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();

let model = null;
let shown = null; // The last picture, an ImageBitmap, which a new setting analyzes again.
let video = null; // The running camera.
let latest = 0; // The number of the last picture; answers for earlier ones are not shown.

worker.onmessage = ({ data: { number, result, error } }) => {
  const { resolve, reject } = waiting.get(number);
  waiting.delete(number);
  if (error) reject(new Error(error));
  else resolve(result);
};
worker.onerror = () => {
  report(new Error("The program of the page cannot be loaded. The README shows how to make it."));
};

let requests = 0;
function ask(action, parameters, transfer = []) {
  return new Promise((resolve, reject) => {
    const number = ++requests;
    waiting.set(number, { resolve, reject });
    worker.postMessage({ number, action, ...parameters }, transfer);
  });
}

function report(error) {
  problem.textContent = error.message;
  problem.hidden = false;
  status.textContent = "";
}

function announce(text) {
  problem.hidden = true;
  if (status.textContent !== text) status.textContent = text;
}

async function loadModel(chosen) {
  announce("Loading the model …");
  try {
    const content = chosen ? await chosen.arrayBuffer() : null;
    model = await ask("load", { content }, content ? [content] : []);
  } catch (error) {
    report(error);
    return;
  }
  const { name, class_names: names, image_size: size } = model;
  element("facts").textContent = `${name}: ${names.join(", ")}. Input: ${size} × ${size} pixels.`;
  for (const control of [file, choose, camera]) control.disabled = false;
  announce(`The model ${name} is ready.`);
  if (shown && !video) await show(shown);
}

// Analyzes a picture and shows the result; returns the faces, or null if a newer picture came.
async function show(bitmap, speak = announce) {
  const number = ++latest;
  const copy = await createImageBitmap(bitmap, SAFE);
  const options = { isCrop: isCrop.checked, margin: Number(margin.value) / 100 };
  const { faces, milliseconds } = await ask("analyze", { bitmap: copy, ...options }, [copy]);
  if (number !== latest) return null;
  drop.hidden = true;
  view.hidden = false;
  element("empty").hidden = faces.length > 0;
  drawFaces(view, bitmap, faces, model.class_names);
  listFaces(element("faces"), faces, model.class_names);
  const [found, classified] = [milliseconds.find, milliseconds.classify].map(Math.round);
  const times = `${found} ms to find faces, ${classified} ms to classify them`;
  element("time").textContent = `Last picture: ${times}.`;
  speak(summarize(faces, model.class_names));
  return faces;
}

async function open(blob) {
  if (!model) return;
  stopCamera();
  announce("Searching for faces …");
  try {
    shown?.close();
    shown = null;
    shown = await createImageBitmap(blob, SAFE);
  } catch {
    const name = blob.name ?? "The picture";
    report(new Error(`${name} cannot be read as a picture. Use a JPEG, PNG or WebP file.`));
    return;
  }
  await show(shown).catch(report);
}

async function startCamera() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
  const running = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
  running.srcObject = stream;
  await running.play();
  video = running;
  camera.textContent = "Stop the camera";
  camera.setAttribute("aria-pressed", "true");
  announce("The camera is on.");
  let spoken = { text: "", time: 0 };
  const speak = (text) => {
    if (text === spoken.text || performance.now() < spoken.time + ANNOUNCE_EVERY) return;
    spoken = { text, time: performance.now() };
    announce(text);
  };
  while (video === running) {
    const frame = await createImageBitmap(running);
    if (video === running) await show(frame, speak);
    frame.close();
    await new Promise(requestAnimationFrame);
  }
}

function stopCamera() {
  if (!video) return;
  for (const track of video.srcObject.getTracks()) track.stop();
  video = null;
  latest++;
  camera.textContent = "Use the camera";
  camera.setAttribute("aria-pressed", "false");
  announce("The camera is off.");
}

choose.addEventListener("click", () => file.click());
file.addEventListener("change", () => {
  if (file.files.length > 0) open(file.files[0]);
  file.value = ""; // The same file can be chosen again.
});
element("model").addEventListener("change", ({ target }) => {
  if (target.files.length > 0) loadModel(target.files[0]);
});
camera.addEventListener("click", () => {
  if (video) {
    stopCamera();
    return;
  }
  startCamera().catch((error) => {
    stopCamera();
    report(new Error(`The camera cannot be used: ${error.message}.`));
  });
});
for (const control of [isCrop, margin]) {
  control.addEventListener("input", () => {
    element("margin-value").textContent = `${margin.value} %`;
    if (shown && !video) show(shown).catch(report);
  });
}
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    stage.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length > 0) open(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files.length > 0) open(clipboardData.files[0]);
});

loadModel(null);
