"""Non-maximum suppression, which keeps the best of several boxes of the same face."""

import numpy as np

from kerasfer.faces.onnx_sessions import open_session, serialize


def overlap_suppression():
    """Returns a function that keeps the best of overlapping boxes.

    The function takes boxes `(n, 4)` as left, top, right, bottom, scores `(n,)` and the largest
    intersection over union of two kept boxes. It returns the indices of the kept boxes, best
    first. It may be called from several threads.

    Example:

    >>> keep = overlap_suppression()  # Needs the extra `faces`.
    >>> boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]])
    >>> keep(boxes, np.array([0.8, 0.9, 0.7]), 0.7).tolist()
    [1, 2]
    """
    from onnx import TensorProto, helper, numpy_helper

    inputs = [("boxes", (1, "n", 4)), ("scores", (1, 1, "n")), ("most_overlap", (1,))]
    model = serialize(
        [
            helper.make_node(
                "NonMaxSuppression", [*dict(inputs[:2]), "most", "most_overlap"], ["kept"]
            )
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info("kept", TensorProto.INT64, ("kept", 3))],
        [numpy_helper.from_array(np.array([2**31 - 1]), "most")],
    )
    run = open_session(model)

    def keep(boxes, scores, most_overlap):
        (kept,) = run(
            boxes=boxes[None].astype("float32"),
            scores=scores[None, None].astype("float32"),
            most_overlap=np.float32([most_overlap]),
        )
        return kept[:, 2]

    return keep


def suppress_nested(boxes, scores, most_overlap):
    """Keeps the best of boxes that are mostly contained in one another.

    Args:
        boxes: `(n, 4)`: left, top, right, bottom.
        scores: `(n,)`.
        most_overlap: Largest intersection over the smaller area of two kept boxes.

    Returns:
        The indices of the kept boxes, best first.

    Example:

    >>> boxes = np.array([[0, 0, 10, 10], [2, 2, 6, 6], [30, 0, 40, 10]])
    >>> suppress_nested(boxes, np.array([0.9, 0.8, 0.7]), 0.7)
    array([0, 2])
    """
    left = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        ends = np.minimum(boxes[left, 2:], boxes[best, 2:])
        sides = ends - np.maximum(boxes[left, :2], boxes[best, :2])
        shared = np.maximum(sides, 0).prod(1)
        left = left[shared <= most_overlap * np.minimum(areas[left], areas[best])]
    return np.array(kept, dtype=int)
