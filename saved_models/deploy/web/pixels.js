// RGB pictures, {width, height, data}, resampled exactly as Pillow does for `kerasfer predict`.

const PRECISION = 22; // Bits of Pillow's fixed-point coefficients.

// Reads the RGB pixels of an ImageBitmap, with transparent pixels on white.
export function readPixels(bitmap) {
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  const { data: rgba } = context.getImageData(0, 0, width, height);
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
    data[to] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from + 2];
  }
  return { width, height, data };
}

// Converts a picture to the ImageData that a canvas shows.
export function toImageData({ width, height, data }) {
  const image = new ImageData(width, height);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    image.data.set([data[from], data[from + 1], data[from + 2], 255], to);
  }
  return image;
}

// Resizes a part of a picture, [left, top, right, bottom] in pixels, with antialiased bilinear
// interpolation: Pillow's `resize(size, Resampling.BILINEAR, box)`.
export function resize(picture, width, height, box = [0, 0, picture.width, picture.height]) {
  const [left, top, right, bottom] = box.map(Math.fround); // Pillow stores float32.
  const across = coefficients(picture.width, left, right, width);
  const down = coefficients(picture.height, top, bottom, height);
  const wide = isIdentity(picture.width, left, right, width)
    ? picture
    : resample(picture, across, width, picture.height, 3, picture.width * 3, 3, width * 3);
  return isIdentity(picture.height, top, bottom, height)
    ? wide
    : resample(wide, down, height, width, width * 3, 3, width * 3, 3);
}

function isIdentity(size, start, end, target) {
  return size === target && start === 0 && end === size;
}

// Returns for each target pixel the first source pixel and the weights of those that follow.
function coefficients(size, start, end, target) {
  const scale = Math.fround(end - start) / target;
  const support = Math.max(scale, 1);
  return Array.from({ length: target }, (_, index) => {
    const center = start + (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(size, Math.trunc(center + support + 0.5));
    const weights = new Float64Array(Math.max(0, last - first));
    let total = 0;
    for (let place = 0; place < weights.length; place++) {
      const distance = Math.abs((place + first - center + 0.5) * (1 / support));
      weights[place] = Math.max(0, 1 - distance);
      total += weights[place];
    }
    const fixed = weights.map((weight) => Math.trunc(0.5 + (weight / total) * 2 ** PRECISION));
    return { first, weights: Int32Array.from(fixed) };
  });
}

// Resamples along one axis. A step is the distance of two neighbors in the data; `along` is the
// axis that is resampled, `lines` the length of the other one.
function resample(picture, kernels, length, lines, along, lineStep, toAlong, toLineStep) {
  const source = picture.data;
  const data = new Uint8Array(length * lines * 3);
  kernels.forEach(({ first, weights }, index) => {
    for (let line = 0; line < lines; line++) {
      const from = first * along + line * lineStep;
      const to = index * toAlong + line * toLineStep;
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (PRECISION - 1);
        for (let place = 0; place < weights.length; place++) {
          sum += source[from + place * along + channel] * weights[place];
        }
        data[to + channel] = Math.min(255, Math.max(0, sum >> PRECISION));
      }
    }
  });
  const [width, height] = along === 3 ? [length, lines] : [lines, length];
  return { width, height, data };
}

// Averages blocks of factor x factor pixels: Pillow's `reduce(factor)`.
export function reduce(picture, factor) {
  const width = Math.ceil(picture.width / factor);
  const height = Math.ceil(picture.height / factor);
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const bottom = Math.min(picture.height, (y + 1) * factor);
    for (let x = 0; x < width; x++) {
      const right = Math.min(picture.width, (x + 1) * factor);
      const count = (bottom - y * factor) * (right - x * factor);
      const multiplier = Math.trunc(Math.fround(2 ** 24 / count));
      for (let channel = 0; channel < 3; channel++) {
        let sum = Math.trunc(count / 2);
        for (let row = y * factor; row < bottom; row++) {
          for (let column = x * factor; column < right; column++) {
            sum += picture.data[(row * picture.width + column) * 3 + channel];
          }
        }
        data[(y * width + x) * 3 + channel] = Math.floor((sum * multiplier) / 2 ** 24);
      }
    }
  }
  return { width, height, data };
}

// Takes the pixels at (xx * x + xy * y + x0, yx * x + yy * y + y0) with bilinear interpolation:
// Pillow's `transform(size, AFFINE, matrix, BILINEAR)`.
export function transform(picture, size, [xx, xy, x0, yx, yy, y0]) {
  const data = new Uint8Array(size * size * 3);
  const clampX = (x) => Math.min(picture.width - 1, Math.max(0, x));
  const clampY = (y) => Math.min(picture.height - 1, Math.max(0, y));
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      let x = xx * (column + 0.5) + xy * (row + 0.5) + x0;
      let y = yx * (column + 0.5) + yy * (row + 0.5) + y0;
      if (x < 0 || x >= picture.width || y < 0 || y >= picture.height) continue; // Black.
      x -= 0.5;
      y -= 0.5;
      const left = Math.floor(x);
      const top = Math.floor(y);
      const [near, far] = [clampX(left) * 3, clampX(left + 1) * 3];
      const upper = clampY(top) * picture.width * 3;
      const lower = clampY(top + 1) * picture.width * 3;
      for (let channel = 0; channel < 3; channel++) {
        const at = (offset) => picture.data[offset + channel];
        const above = mix(at(upper + near), at(upper + far), x - left);
        const below = mix(at(lower + near), at(lower + far), x - left);
        data[(row * size + column) * 3 + channel] = Math.trunc(mix(above, below, y - top));
      }
    }
  }
  return { width: size, height: size, data };
}

function mix(from, to, share) {
  return from + (to - from) * share;
}

// Copies a rectangle, and repeats the edge of the picture outside of it.
export function cut(picture, left, top, width, height) {
  const data = new Uint8Array(width * height * 3);
  for (let row = 0; row < height; row++) {
    const y = Math.min(picture.height - 1, Math.max(0, top + row));
    for (let column = 0; column < width; column++) {
      const x = Math.min(picture.width - 1, Math.max(0, left + column));
      const from = (y * picture.width + x) * 3;
      const to = (row * width + column) * 3;
      data[to] = picture.data[from];
      data[to + 1] = picture.data[from + 1];
      data[to + 2] = picture.data[from + 2];
    }
  }
  return { width, height, data };
}

// Rounds halves to the even neighbor, as Python does.
export function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
