"""Detects the faces in pictures, and crops them upright.

A new detector is a file with a class, and an entry in `DETECTORS`. An instance of the class is
called with a uint8 RGB picture `(height, width, 3)` and the side of the smallest face in pixels.
It returns boxes `(n, 4)` as left, top, right, bottom in pixels, scores `(n,)` in [0, 1], and
landmarks `(n, 5, 2)`. It may be called from several threads.
"""

from kerasfer.options import Registered

__all__ = ["DETECTORS", "Face", "crop_face", "make_detector"]

DETECTORS = {
    "mtcnn": Registered("kerasfer.faces.mtcnn.MTCNN"),
    "yunet": Registered("kerasfer.faces.yunet.YuNet"),
}


def __getattr__(name):
    # The command line lists `DETECTORS` without importing NumPy.
    if name in ("Face", "crop_face", "make_detector"):
        from kerasfer.faces import detection

        return getattr(detection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
