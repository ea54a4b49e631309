"""Defines the conversion that the exporting process requests from the converting process."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_NAME = "job.json"
DRAWN = "drawn"  # Instead of a folder of pictures.


@dataclass(frozen=True)
class Job:
    """Describes a conversion.

    Args:
        format: A key of `kerasfer.export.formats.FORMATS`.
        quantize: One of the format's quantizations.
        model: Path of the `.keras` file.
        name: Name of the exported model.
        run: Run folder whose validation pictures the export is compared on, or `None`.
        pictures: Folder of pictures that the export is compared on instead, or `"drawn"` for drawn
            faces. If `run` is `None` too, the pictures are given as `pictures.npy`.
        data_dir: Folder of the datasets, or `None` for the default.
        class_names: Names of the classes, or `None` for those that the model stores.
        opset: Version of ONNX's operator set, or `None` for the default.
        input_dtype: One of the format's types of the input.
        input_layout: One of the format's orders of the axes of pictures.
        author, license: Strings for the metadata, or `None`.
    """

    format: str
    quantize: str
    model: str
    name: str
    run: str | None = None
    pictures: str | None = None
    data_dir: str | None = None
    class_names: tuple[str, ...] | None = None
    opset: int | None = None
    input_dtype: str = "float32"
    input_layout: str = "nhwc"
    author: str | None = None
    license: str | None = None

    def save(self, folder):
        """Writes the job into a folder."""
        text = json.dumps(asdict(self))
        Path(folder, FILE_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder):
        """Reads the job of a folder."""
        return cls(**json.loads(Path(folder, FILE_NAME).read_text(encoding="utf-8")))
