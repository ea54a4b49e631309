"""MTCNN, the papers' face detector: its published weights, computed with NumPy alone.

The package `mtcnn` runs its three small networks on Keras with TensorFlow as the backend; on JAX
and PyTorch it fails. Here only its weights are taken. So faces are found, and cropped, alike on
every backend, in any thread, beside an export that needs no Keras at all, and as fast.

Source: Zhang et al., Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks, IEEE Signal Processing Letters 2016; weights of https://github.com/ipazc/mtcnn (MIT).
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from kerasfer.errors import RunError

CELL, STRIDE = 12, 2  # the proposal network sees squares of 12 pixels, two pixels apart
PYRAMID = 0.709  # from one scale to the next: half the area
MOST_PROPOSALS = 2000  # of one scale; foliage and crowds would else take minutes
BATCH = 64  # patches looked at together
GREY = (128, 128, 128)  # 0 to the networks: what lies outside the picture


class MTCNN:
    """Finds faces in a picture: boxes, scores and five landmarks each.

    A first network proposes squares at all scales, a second sorts them, a third refines the rest
    and places the landmarks.

    Args:
        thresholds: the scores in [0, 1] that a face must exceed in each of the three networks.

    Raises:
        RunError: the package `mtcnn`, whose weights these are, is not installed.
    """

    def __init__(self, thresholds=(0.6, 0.7, 0.8)):
        self.thresholds = thresholds
        self.weights = [_load_weights(name) for name in ("pnet", "rnet", "onet")]

    def __call__(self, picture, min_face=20):
        """Finds the faces of one picture.

        Args:
            picture: uint8 RGB `(height, width, 3)`.
            min_face: side of the smallest face, in pixels, at least 12.

        Returns:
            Boxes `(n, 4)` as left, top, right, bottom in pixels, which may reach beyond the
            picture; scores `(n,)` in [0, 1]; landmarks `(n, 5, 2)` as x, y: left eye, right eye,
            nose, left and right corner of the mouth, as seen in the picture.
        """
        image = Image.fromarray(picture)
        boxes = self._propose(image, min_face)
        boxes = self._sort_out(image, boxes)
        return self._refine(image, boxes)

    def _propose(self, image, min_face):
        found = [np.empty((0, 5), "float32")]
        scale = CELL / min_face
        while min(image.size) * scale >= CELL:
            width, height = (max(CELL, round(side * scale)) for side in image.size)
            small = image.resize((width, height), Image.Resampling.BOX)
            offsets, scores = _proposal_network(_normalize(np.asarray(small)[None]), *self.weights)
            rows, columns = np.nonzero(scores[0] > self.thresholds[0])
            corners = STRIDE * np.stack([columns, rows, columns, rows], 1) + [0, 0, CELL, CELL]
            corners = corners + CELL * offsets[0, rows, columns]
            scored = np.c_[corners / scale, scores[0, rows, columns]].astype("float32")
            best = np.argsort(-scored[:, 4], kind="stable")[:MOST_PROPOSALS]
            found.append(_suppress(scored[best], 0.5))
            scale *= PYRAMID
        return _square(_suppress(np.concatenate(found), 0.7)[:, :4])

    def _sort_out(self, image, boxes):
        offsets, scores = _in_batches(
            _refinement_network, image, boxes, 24, self.weights[1], outputs=(4,)
        )
        scored = np.c_[_shift(boxes, offsets), scores][scores > self.thresholds[1]]
        return _square(_suppress(scored, 0.7)[:, :4])

    def _refine(self, image, boxes):
        offsets, places, scores = _in_batches(
            _output_network, image, boxes, 48, self.weights[2], outputs=(4, 10)
        )
        sides = boxes[:, 2:] - boxes[:, :2]
        landmarks = boxes[:, None, :2] + places.reshape(-1, 2, 5).swapaxes(1, 2) * sides[:, None]
        scored = np.c_[_shift(boxes, offsets), scores, np.arange(len(boxes))]
        scored = _suppress(scored[scores > self.thresholds[2]], 0.7, of_smaller=True)
        return scored[:, :4], scored[:, 4], landmarks[scored[:, 5].astype(int)]


def _load_weights(name):
    package = find_spec("mtcnn")  # found, not imported: that would bring in TensorFlow
    if package is None:
        raise RunError(
            "Finding faces needs the package mtcnn, which is not installed: "
            'pip install "kerasfer[faces]". Pictures that are ready crops need none: --faces none.'
        )
    path = Path(package.submodule_search_locations[0]) / "assets" / "weights" / f"{name}.lz4"
    if not path.is_file():
        raise RunError(
            f"Expected the weights of mtcnn 1.0 at {path}, but there are none: "
            'pip install --upgrade "kerasfer[faces]".'
        )
    import joblib  # Comes with mtcnn; only its weights are packed so.

    return joblib.load(path)


def _proposal_network(x, weights, *_):
    """Pictures (n, h, w, 3) → box offsets (n, h', w', 4) and scores (n, h', w')."""
    w = iter(weights)
    x = _pool(_convolve(x, w), 2, 2)
    x = _convolve(_convolve(x, w), w)
    offsets = _dense(x, next(w)[0, 0], next(w))
    return offsets, _face_score(_dense(x, next(w)[0, 0], next(w)))


def _refinement_network(x, weights):
    """Patches (n, 24, 24, 3) → box offsets (n, 4) and scores (n,)."""
    w = iter(weights)
    x = _pool(_convolve(x, w), 3, 2)
    x = _pool(_convolve(x, w), 3, 2, padded=False)
    x = _hidden(_convolve(x, w), w)
    return _dense(x, next(w), next(w)), _face_score(_dense(x, next(w), next(w)))


def _output_network(x, weights):
    """Patches (n, 48, 48, 3) → box offsets (n, 4), landmarks (n, 10: x, then y), scores (n,)."""
    w = iter(weights)
    x = _pool(_convolve(x, w), 3, 2)
    x = _pool(_convolve(x, w), 3, 2, padded=False)
    x = _pool(_convolve(x, w), 2, 2)
    x = _hidden(_convolve(x, w), w)
    offsets, places = _dense(x, next(w), next(w)), _dense(x, next(w), next(w))
    return offsets, places, _face_score(_dense(x, next(w), next(w)))


def _convolve(x, w):
    """Convolves without padding, then takes the parametric ReLU; both weights are the next of w."""
    kernel, bias, slope = next(w), next(w), next(w)
    height, width, channels, filters = kernel.shape
    n, rows, columns, _ = x.shape
    x = np.ascontiguousarray(x)
    windows = np.lib.stride_tricks.as_strided(
        x,
        (n, rows - height + 1, columns - width + 1, height, width * channels),
        (*x.strides[:3], x.strides[1], x.strides[3]),
        writeable=False,
    )
    flat = windows.reshape(-1, height * width * channels)
    x = (flat @ kernel.reshape(-1, filters)).reshape(*windows.shape[:3], filters)
    return _prelu(x + bias, slope)


def _hidden(x, w):
    x = x.swapaxes(1, 2).reshape(len(x), -1)  # the weights come from a column-major library
    return _prelu(_dense(x, next(w), next(w)), next(w))


def _dense(x, kernel, bias):
    return x @ kernel + bias


def _prelu(x, slope):
    return np.maximum(x, 0) + slope * np.minimum(x, 0)


def _pool(x, size, stride, padded=True):
    """Takes maxima; `padded` also of windows that reach beyond the right and lower edge."""
    sides = x.shape[1:3]
    if padded:
        missing = [max(0, (-(-side // stride) - 1) * stride + size - side) for side in sides]
        pads = ((0, 0), *((0, pixels) for pixels in missing), (0, 0))
        x = np.pad(x, pads, constant_values=-np.inf)
    rows, columns = ((side - size) // stride * stride + 1 for side in x.shape[1:3])
    shifts = [(i, j) for i in range(size) for j in range(size)]
    return np.maximum.reduce(
        [x[:, i : i + rows : stride, j : j + columns : stride] for i, j in shifts]
    )


def _face_score(logits):
    return 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))  # a softmax over two


def _in_batches(network, image, boxes, size, weights, outputs):
    """Runs a network on the patches of the boxes; `outputs` are its widths but the score's."""
    parts = [[np.empty((0, width)) for width in outputs] + [np.empty(0)]]
    for start in range(0, len(boxes), BATCH):
        patches = [_patch(image, box, size) for box in boxes[start : start + BATCH]]
        parts.append(network(_normalize(np.stack(patches)), weights))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _patch(image, box, size):
    left, top, right, bottom = map(float, box)
    if min(left, top) < 0 or right > image.width or bottom > image.height:
        inside = image.crop((max(0, int(left)), max(0, int(top)), *_end(image, right, bottom)))
        # The smallest canvas of whole pixels that holds the box.
        x, y = int(np.floor(left)), int(np.floor(top))
        canvas = Image.new("RGB", (int(np.ceil(right)) - x, int(np.ceil(bottom)) - y), GREY)
        canvas.paste(inside, (max(0, int(left)) - x, max(0, int(top)) - y))
        image, left, top, right, bottom = canvas, left - x, top - y, right - x, bottom - y
    box = (left, top, right, bottom)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _end(image, right, bottom):
    return min(image.width, int(np.ceil(right))), min(image.height, int(np.ceil(bottom)))


def _normalize(pictures):
    return (pictures.astype("float32") - 127.5) / 128


def _shift(boxes, offsets):
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def _square(boxes):
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.maximum(boxes[:, 2:] - boxes[:, :2], 2).max(1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _suppress(scored, most_overlap, of_smaller=False):
    """Keeps of boxes that overlap the one with the best score, best first.

    Args:
        scored: `(n, 5 or more)`: left, top, right, bottom, score.
        most_overlap: intersection over union that two kept boxes may have; `of_smaller`:
            intersection over the smaller of the two.
    """
    left = scored[np.argsort(-scored[:, 4], kind="stable")]
    kept = [left[:0]]
    while len(left):
        best, left = left[:1], left[1:]
        kept.append(best)
        sides = np.minimum(left[:, 2:4], best[:, 2:4]) - np.maximum(left[:, :2], best[:, :2])
        shared = np.maximum(sides, 0).prod(1)
        area, areas = ((b[:, 2:4] - b[:, :2]).prod(1) for b in (best, left))
        whole = np.minimum(area, areas) if of_smaller else area + areas - shared
        left = left[shared <= most_overlap * whole]
    return np.concatenate(kept)
