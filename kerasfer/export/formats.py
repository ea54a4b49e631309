"""The export formats. A new one is a writer, an entry here and a runtime in `probe.py`."""

from dataclasses import dataclass
from importlib import import_module

from kerasfer.text import usable_cores

QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
INPUT_DTYPES = ("float32", "uint8")

# ONNX Runtime supports opset 13 since version 1.6 and 18 since 1.14. Int8 needs 13.
OPSETS = tuple(range(13, 19))

ONE_AND_ALL = tuple(sorted({1, usable_cores()}))


@dataclass(frozen=True)
class Format:
    """Describes an export format.

    Args:
        writer: `"module:function"` of the writer, imported only by the process that converts.
        suffix: Suffix of the file, or an empty string for a folder of versions.
        method: `method` of the spectral layers that the runtime supports, or `None` for any.
        threads: Numbers of threads that latencies are measured with; `None` for the runtime's
            default.
        quantizations: Values of `quantize` that the writer supports.
        opsets: Versions of ONNX's operator set that the writer supports. The last one is the
            default.
        input_dtypes: Types of the input that the writer supports.
    """

    writer: str
    suffix: str = ""
    method: str | None = None
    threads: tuple = (None,)
    quantizations: tuple[str, ...] = ("none",)
    opsets: tuple[int, ...] = ()
    input_dtypes: tuple[str, ...] = ("float32",)

    def load_writer(self):
        """Imports the writer."""
        module, function = self.writer.split(":")
        return getattr(import_module(module), function)


FORMATS = {
    "saved_model": Format("kerasfer.export.saved_model:write_saved_model"),
    "tflite": Format(
        "kerasfer.export.tflite_file:write_tflite",
        ".tflite",
        "matmul",
        ONE_AND_ALL,
        QUANTIZATIONS,
        input_dtypes=INPUT_DTYPES,
    ),
    "onnx": Format(
        "kerasfer.export.onnx_file:write_onnx",
        ".onnx",
        "matmul",
        ONE_AND_ALL,
        ("none", "float16", "int8"),
        OPSETS,
    ),
}
