"""Turns trained models into what other programs run, and proves that it answers the same.

`export_run` and `export` write; `kerasfer.predict.runtimes.load_runtime` loads what they wrote. A
new format is a function in a file here, a line in `convert.FORMATS` and one in `probe.py`.
"""

from kerasfer.export.exporting import FORMATS, QUANTIZATIONS, export, export_run

__all__ = ["FORMATS", "QUANTIZATIONS", "export", "export_run"]
