"""MTCNN, the face detector of the papers, with its published weights and ONNX Runtime.

Only the weights are taken from the package `mtcnn`, whose code runs on Keras and fails if the
backend is JAX or PyTorch. Results therefore do not depend on the backend, and exported models do
not need Keras.

Source: Zhang et al., Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks, IEEE Signal Processing Letters 2016; weights of https://github.com/ipazc/mtcnn (MIT).
"""

import numpy as np
from PIL import Image

from kerasfer.faces.onnx_sessions import open_session
from kerasfer.faces.packages import package_file, require
from kerasfer.faces.suppression import overlap_suppression, suppress_nested

CELL, STRIDE = 12, 2  # The proposal network sees squares of 12 pixels, two pixels apart.
PYRAMID = 0.709  # From one scale to the next: half the area.
MOST_PROPOSALS = 2000  # Of one scale. Foliage and crowds would otherwise take minutes.
BATCH = 64  # Patches in one call of a network.
GRAY = (128, 128, 128)  # About 0 after scaling. Fills the area outside of the picture.


class MTCNN:
    """Finds faces in a picture: boxes, scores and five landmarks each.

    The first network proposes squares at all scales, the second rejects most of them, and the third
    refines the boxes and locates the landmarks. May be called from several threads.

    Args:
        thresholds: The scores in [0, 1] that a face must exceed in each of the three networks.

    Raises:
        RunError: If a package of the extra `faces` is not installed.
    """

    def __init__(self, thresholds=(0.6, 0.7, 0.8)):
        require("mtcnn", "joblib", "onnx", "onnxruntime")
        weights = [_load_weights(name) for name in ("pnet", "rnet", "onet")]
        from kerasfer.faces import mtcnn_networks as networks

        self.thresholds = thresholds
        self._propose_boxes = open_session(networks.proposal_network(weights[0]))
        self._sort_out_boxes = open_session(networks.refinement_network(weights[1]))
        self._refine_boxes = open_session(networks.output_network(weights[2]))
        self._keep_best = overlap_suppression()

    def __call__(self, picture, min_face=20):
        """Finds the faces of one picture.

        Args:
            picture: uint8 RGB `(height, width, 3)`.
            min_face: Side of the smallest face, in pixels, at least 12.

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
            offsets, scores = self._propose_boxes(pictures=np.asarray(small)[None])
            scores = scores[0, ..., 1]
            rows, columns = np.nonzero(scores > self.thresholds[0])
            corners = STRIDE * np.stack([columns, rows, columns, rows], 1) + [0, 0, CELL, CELL]
            corners = corners + CELL * offsets[0, rows, columns]
            scored = np.c_[corners / scale, scores[rows, columns]].astype("float32")
            best = np.argsort(-scored[:, 4], kind="stable")[:MOST_PROPOSALS]
            found.append(self._suppress(scored[best], 0.5))
            scale *= PYRAMID
        return _square(self._suppress(np.concatenate(found), 0.7)[:, :4])

    def _sort_out(self, image, boxes):
        offsets, scores = _in_batches(self._sort_out_boxes, image, boxes, 24, widths=(4, 2))
        scored = np.c_[_shift(boxes, offsets), scores[:, 1]]
        return _square(self._suppress(scored[scored[:, 4] > self.thresholds[1]], 0.7)[:, :4])

    def _refine(self, image, boxes):
        offsets, places, scores = _in_batches(
            self._refine_boxes, image, boxes, 48, widths=(4, 10, 2)
        )
        sides = boxes[:, 2:] - boxes[:, :2]
        landmarks = boxes[:, None, :2] + places.reshape(-1, 2, 5).swapaxes(1, 2) * sides[:, None]
        sure = np.flatnonzero(scores[:, 1] > self.thresholds[2])
        boxes, scores = _shift(boxes, offsets)[sure], scores[sure, 1]
        kept = suppress_nested(boxes, scores, 0.7)
        return boxes[kept], scores[kept], landmarks[sure][kept]

    def _suppress(self, scored, most_overlap):
        """Keeps the best of overlapping rows `(n, 5)`: left, top, right, bottom, score."""
        return scored[self._keep_best(scored[:, :4], scored[:, 4], most_overlap)]


def _load_weights(name):
    path = package_file("mtcnn", "mtcnn", f"assets/weights/{name}.lz4")
    import joblib  # The weights are stored in its format.

    return joblib.load(path)


def _in_batches(network, image, boxes, size, widths):
    """Runs a network with outputs of the given widths on the patches of the boxes."""
    parts = [[np.empty((0, width), "float32") for width in widths]]
    for start in range(0, len(boxes), BATCH):
        patches = [_patch(image, box, size) for box in boxes[start : start + BATCH].tolist()]
        parts.append(network(pictures=np.stack(patches)))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _patch(image, box, size):
    """Crops a box from a picture and resizes it to `(size, size, 3)`."""
    left, top, right, bottom = box
    if min(left, top) < 0 or right > image.width or bottom > image.height:
        inside = image.crop((max(0, int(left)), max(0, int(top)), *_end(image, right, bottom)))
        # The smallest canvas of whole pixels that holds the box.
        x, y = int(np.floor(left)), int(np.floor(top))
        canvas = Image.new("RGB", (int(np.ceil(right)) - x, int(np.ceil(bottom)) - y), GRAY)
        canvas.paste(inside, (max(0, int(left)) - x, max(0, int(top)) - y))
        image, left, top, right, bottom = canvas, left - x, top - y, right - x, bottom - y
    box = (left, top, right, bottom)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _end(image, right, bottom):
    return min(image.width, int(np.ceil(right))), min(image.height, int(np.ceil(bottom)))


def _shift(boxes, offsets):
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def _square(boxes):
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.maximum(boxes[:, 2:] - boxes[:, :2], 2).max(1, keepdims=True) / 2
    return np.concatenate([centers - half, centers + half], axis=1)
