"""The export formats. A new one is a writer, an entry here and a runtime in `probe.py`."""

from dataclasses import dataclass
from importlib import import_module

from kerasfer.errors import RecipeError
from kerasfer.text import usable_cores

QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
INPUT_DTYPES = ("float32", "uint8")
INPUT_LAYOUTS = ("nhwc", "nchw")

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
        input_layouts: Orders of the axes of pictures that the writer supports.
    """

    writer: str
    suffix: str = ""
    method: str | None = None
    threads: tuple = (None,)
    quantizations: tuple[str, ...] = ("none",)
    opsets: tuple[int, ...] = ()
    input_dtypes: tuple[str, ...] = ("float32",)
    input_layouts: tuple[str, ...] = ("nhwc",)

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
        input_layouts=INPUT_LAYOUTS,
    ),
}


def check_options(format, quantize="none", opset=None, input_dtype="float32", input_layout="nhwc"):
    """Raises a `RecipeError` for an unknown format, or for options that it does not support.

    Example:

    >>> check_options("onnx", "int8", opset=13)
    """
    for argument, value, known in (
        ("format", format, FORMATS),
        ("quantize", quantize, QUANTIZATIONS),
    ):
        if value not in known:
            raise RecipeError(f"{argument} must be one of {', '.join(known)}. Received: {value!r}.")
    described = FORMATS[format]
    for argument, value, supported in (
        ("quantize", quantize, described.quantizations),
        ("input_dtype", input_dtype, described.input_dtypes),
        ("input_layout", input_layout, described.input_layouts),
    ):
        if value not in supported:
            raise RecipeError(
                f"{argument} must be one of {', '.join(supported)} for the format {format}. "
                f"Received: {value}."
            )
    opsets = described.opsets
    if opset is not None and opset not in opsets:
        expected = f"from {opsets[0]} to {opsets[-1]}" if opsets else "left out"
        raise RecipeError(f"opset must be {expected} for the format {format}. Received: {opset}.")
