"""Exports trained models for other programs, and verifies that the exports agree with them.

`export_run` and `export` write a model; `kerasfer.predict.runtimes.load_runtime` loads it. A new
format is a writer, an entry in `formats.FORMATS` and a runtime in `probe.py`.
"""

from kerasfer.export.formats import FORMATS, QUANTIZATIONS

__all__ = ["FORMATS", "QUANTIZATIONS", "export", "export_run"]


def __getattr__(name):
    # The command line reads the formats without importing NumPy.
    if name in ("export", "export_run"):
        from kerasfer.export import exporting

        return getattr(exporting, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
