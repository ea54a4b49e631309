"""Facial expressions in videos and camera streams.

`watch` runs the whole analysis. `footage` reads frames, `tracking` and `following` identify the
persons, and `recording` and `timeline` write the results.
"""

from kerasfer.video.analysis import FILES, watch
from kerasfer.video.settings import Detection, Frames, Output, Tracking

__all__ = ["FILES", "Detection", "Frames", "Output", "Tracking", "watch"]
