"""Facial-expression recognition on second-order statistics, in Keras 3.

Importing this package imports no backend, so that `kerasfer --help` and tools that only want the
version answer at once. What you need lives one level below: `kerasfer.layers`, `kerasfer.models`, …
"""

__version__ = "0.1.0"
