// Finds faces with YuNet and crops them as `kerasfer predict --detector yunet` does.

import { cut, reduce, resize, roundHalfEven, transform } from "./pixels.js";

const THRESHOLD = 0.6; // Of the scores, in [0, 1].
const MOST_OVERLAP = 0.3; // Intersection over union of two boxes that are kept.
const STRIDES = [8, 16, 32]; // The network predicts a face at every 8th, 16th and 32nd pixel.
const OUTPUTS = ["cls", "obj", "bbox", "kps"];
const SMALLEST_SIDE = 256; // Smaller pictures are enlarged.
const LARGEST_SIDE = 960; // Larger pictures are searched once more at half the size.
const MAX_SIDE = 1600; // Larger pictures are shrunk before the search.
const MIN_FACE = 20; // Pixels.

// Returns the faces of a picture, the largest first: {box: [left, top, width, height], score,
// landmarks: five pairs [x, y]}, in pixels of the picture. `predict` maps a float32 tensor
// (1, 3, height, width), BGR, to the outputs of YuNet by name.
export async function findFaces(picture, predict) {
  const small = shrink(picture, MAX_SIDE);
  const back = [picture.width / small.width, picture.height / small.height];
  const longest = Math.max(small.width, small.height);
  const scales = [Math.max(1, SMALLEST_SIDE / longest)];
  if (longest > LARGEST_SIDE) scales.push(0.5);
  const found = [];
  for (const scale of scales) found.push(...(await search(small, scale, predict)));
  return keepBest(found)
    .map(({ corners: [left, top, right, bottom], score, landmarks }) => ({
      box: [left * back[0], top * back[1], (right - left) * back[0], (bottom - top) * back[1]],
      score,
      landmarks: landmarks.map(([x, y]) => [x * back[0], y * back[1]]),
    }))
    .filter(({ box }) => Math.max(box[2], box[3]) >= MIN_FACE * back[0])
    .sort((one, other) => other.box[2] * other.box[3] - one.box[2] * one.box[3]);
}

// Cuts out a face as a square, rotated so that the eyes are level. `margin` is the share of the
// longer side of the box that is added, half of it on each side.
export function cropFace(picture, { box: [x, y, width, height], landmarks }, size, margin = 0) {
  const side = Math.max(1, (1 + margin) * Math.max(width, height));
  const [[leftX, leftY], [rightX, rightY]] = landmarks;
  const angle = Math.atan2(rightY - leftY, rightX - leftX);
  const centerX = x + width / 2;
  const centerY = y + height / 2;
  const reach = (side * (Math.abs(Math.cos(angle)) + Math.abs(Math.sin(angle)))) / 2 + 2;
  const left = Math.floor(centerX - reach);
  const top = Math.floor(centerY - reach);
  const whole = Math.ceil(2 * reach) + 2;
  const around = cut(picture, left, top, whole, whole);
  return rotate(around, size, [centerX - left, centerY - top], side, angle);
}

// Resizes the rotated square with a center and a side in pixels to (size, size).
function rotate(picture, size, [x, y], side, angle) {
  if (angle === 0) {
    return resize(picture, size, size, [x - side / 2, y - side / 2, x + side / 2, y + side / 2]);
  }
  // An affine map does not filter, so pixels are averaged first if the face is large.
  const factor = roundHalfEven(side / size);
  if (factor > 1) {
    picture = reduce(picture, factor);
    [x, y, side] = [x / factor, y / factor, side / factor];
  }
  const cos = (Math.cos(angle) * side) / size;
  const sin = (Math.sin(angle) * side) / size;
  const x0 = x - ((cos - sin) * size) / 2;
  const y0 = y - ((sin + cos) * size) / 2;
  return transform(picture, size, [cos, -sin, x0, sin, cos, y0]);
}

export function shrink(picture, longest) {
  const scale = longest / Math.max(picture.width, picture.height);
  if (scale >= 1) return picture;
  const [width, height] = [picture.width, picture.height].map((side) =>
    Math.max(1, roundHalfEven(side * scale)),
  );
  // As with Pillow's `reducing_gap=2`, blocks of pixels of very large pictures are averaged first.
  const factor = Math.trunc(1 / scale / 2) || 1;
  if (factor === 1) return resize(picture, width, height);
  const reduced = reduce(picture, factor);
  const box = [0, 0, picture.width / factor, picture.height / factor];
  return resize(reduced, width, height, box);
}

// Returns the faces of the picture resized by a factor, before overlapping ones are removed.
async function search(picture, scale, predict) {
  const sides = [picture.width, picture.height];
  const [width, height] = sides.map((side) => Math.max(1, roundHalfEven(side * scale)));
  const scaled = scale === 1 ? picture : resize(picture, width, height);
  // The network halves the picture five times.
  const [paddedWidth, paddedHeight] = [width, height].map((side) => Math.ceil(side / 32) * 32);
  const values = new Float32Array(3 * paddedHeight * paddedWidth);
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < height; y++) {
      const row = (channel * paddedHeight + y) * paddedWidth;
      for (let x = 0; x < width; x++) {
        values[row + x] = scaled.data[(y * width + x) * 3 + 2 - channel]; // BGR
      }
    }
  }
  const outputs = await predict(values, [1, 3, paddedHeight, paddedWidth]);
  return STRIDES.flatMap((stride) =>
    decode(
      OUTPUTS.map((name) => outputs[`${name}_${stride}`]),
      stride,
      paddedWidth / stride,
      scale,
    ),
  );
}

// Selects the faces of one stride and converts their boxes and landmarks to pixels.
function decode([classScores, objectScores, boxes, landmarks], stride, columns, scale) {
  const faces = [];
  for (let place = 0; place < classScores.length; place++) {
    const score = Math.sqrt(clip(classScores[place]) * clip(objectScores[place]));
    if (score <= THRESHOLD) continue;
    const [x, y] = [place % columns, Math.floor(place / columns)];
    const [shiftX, shiftY, logWidth, logHeight] = boxes.slice(4 * place, 4 * place + 4);
    const [centerX, centerY] = [(x + shiftX) * stride, (y + shiftY) * stride];
    const halfWidth = (Math.exp(logWidth) * stride) / 2;
    const halfHeight = (Math.exp(logHeight) * stride) / 2;
    const corners = [
      centerX - halfWidth,
      centerY - halfHeight,
      centerX + halfWidth,
      centerY + halfHeight,
    ];
    faces.push({
      corners: corners.map((value) => value / scale),
      score,
      landmarks: [0, 1, 2, 3, 4].map((number) => {
        const [shiftX, shiftY] = landmarks.slice(10 * place + 2 * number);
        return [((x + shiftX) * stride) / scale, ((y + shiftY) * stride) / scale];
      }),
    });
  }
  return faces;
}

function clip(value) {
  return Math.min(1, Math.max(0, value));
}

// Keeps the best of boxes that overlap.
function keepBest(faces) {
  const kept = [];
  for (const face of [...faces].sort((one, other) => other.score - one.score)) {
    if (kept.every((best) => overlap(best.corners, face.corners) <= MOST_OVERLAP)) kept.push(face);
  }
  return kept;
}

function overlap(one, other) {
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const shared = Math.max(0, width) * Math.max(0, height);
  return shared / (area(one) + area(other) - shared);
}

function area([left, top, right, bottom]) {
  return (right - left) * (bottom - top);
}
