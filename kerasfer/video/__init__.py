"""Facial expressions in videos and camera streams.

`watch` runs the whole analysis. `footage` reads frames, `tracking` and `following` identify the
persons, `journal` keeps what a killed analysis has found, and `recording` and `timeline` write the
results.
"""

from importlib import import_module

_HOMES = {
    "FILES": "analysis",
    "Detection": "settings",
    "Frames": "settings",
    "Output": "settings",
    "Tracking": "settings",
    "watch": "analysis",
}

__all__ = ["FILES", "Detection", "Frames", "Output", "Tracking", "watch"]


def __getattr__(name):
    # The command line checks the codec and the video before it imports SciPy and Matplotlib.
    if name in _HOMES:
        return getattr(import_module(f"kerasfer.video.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
