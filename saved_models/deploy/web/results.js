// Draws the faces of a picture, and lists their probabilities.

const LONGEST = 1280; // Pixels of the canvas.
const COLOR = "#0b62ab";

// Describes the faces in one sentence, for the status line and screen readers.
export function summarize(faces, names) {
  if (faces.length === 0) {
    return "No face was found. For a picture that is a face crop, see the settings.";
  }
  const labels = faces.map(({ probabilities }) => {
    const best = indexOfLargest(probabilities);
    return `${names[best]} ${percent(probabilities[best])}`;
  });
  return `${faces.length} ${faces.length === 1 ? "face" : "faces"}: ${labels.join(", ")}.`;
}

// Draws a picture with the boxes and labels of its faces on a canvas.
export function drawFaces(canvas, bitmap, faces, names) {
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const line = Math.max(2, Math.max(canvas.width, canvas.height) / 300);
  const size = Math.max(12, 7 * line);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  faces.forEach(({ box, probabilities }, index) => {
    if (!box) return; // The whole picture is the face.
    const [x, y, width, height] = box.map((value) => value * scale);
    context.strokeStyle = COLOR;
    context.lineWidth = line;
    context.strokeRect(x, y, width, height);
    const label = `${index + 1}  ${names[indexOfLargest(probabilities)]}`;
    const wide = context.measureText(label).width + size;
    const left = Math.max(0, Math.min(x - line / 2, canvas.width - wide));
    const top = Math.max(0, y - 1.5 * size);
    context.fillStyle = COLOR;
    context.fillRect(left, top, wide, 1.5 * size);
    context.fillStyle = "white";
    context.fillText(label, left + size / 2, top + 0.78 * size);
  });
}

// Replaces the items of a list by the crops and probabilities of faces.
export function listFaces(list, faces, names) {
  list.replaceChildren(
    ...faces.map(({ crop, probabilities }, index) => {
      const canvas = create("canvas", { width: crop.width, height: crop.height });
      canvas.getContext("2d").putImageData(crop, 0, 0);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `The crop of face ${index + 1}`);
      const best = indexOfLargest(probabilities);
      const rows = [...names.keys()]
        .sort((one, other) => probabilities[other] - probabilities[one])
        .map((place) => row(names[place], probabilities[place], place === best));
      const text = `${index + 1}  ${names[best]}`;
      const answers = create("div", {}, create("h3", {}, text), create("ul", {}, ...rows));
      return create("li", { className: "face" }, canvas, answers);
    }),
  );
}

function row(name, probability, isBest) {
  const filled = create("span");
  filled.style.width = `${100 * probability}%`;
  const bar = create("div", { className: "bar", ariaHidden: "true" }, filled);
  const item = create(
    "li",
    { className: isBest ? "best" : "" },
    create("span", { className: "name" }, name),
    bar,
    create("span", { className: "share" }, percent(probability)),
  );
  item.dataset.probability = probability;
  return item;
}

function create(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function indexOfLargest(values) {
  return values.indexOf(Math.max(...values));
}
