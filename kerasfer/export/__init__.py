"""Exports trained models for other programs, and verifies that the exports agree with them.

`export_run` and `export` write a model; `kerasfer.predict.runtimes.load_runtime` loads it. A new
format is a writer, an entry in `formats.FORMATS` and a runtime in `probe.py`.
"""

from kerasfer.export.exporting import export, export_run
from kerasfer.export.formats import FORMATS, QUANTIZATIONS

__all__ = ["FORMATS", "QUANTIZATIONS", "export", "export_run"]
