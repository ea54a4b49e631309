"""Faces through a video: `footage` → `tracking` → `following` → `timeline`, and `watch` for all."""

from kerasfer.video.analysis import FILES, watch

__all__ = ["FILES", "watch"]
