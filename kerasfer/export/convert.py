"""Converts a model in a separate TensorFlow process: `python -m kerasfer.export.convert FOLDER`.

The folder contains the `kerasfer.export.job.Job`. The process writes `exported` (with the format's
suffix), pictures.npy, the model's own predictions for them, reference.npy, and converted.json. If
the conversion fails, it writes error.json instead.
"""

import json
import sys
from pathlib import Path

import numpy as np

from kerasfer.errors import KerasferError, RunError
from kerasfer.export.formats import FORMATS
from kerasfer.export.half import compare_in_half
from kerasfer.export.job import Job
from kerasfer.export.pictures import NUM_REPRESENTATIVE, gather
from kerasfer.export.rebuild import is_half, rebuild
from kerasfer.models.loading import read_model

NUM_IN_HALF = 200  # pictures that are predicted in half precision


def convert(folder):
    """Converts the model of the job in a folder."""
    job = Job.load(folder)
    model = _load(Path(job.model))
    class_names = job.class_names or getattr(model.layers[-1], "class_names", None)
    class_names = [str(name) for name in class_names or range(model.output_shape[-1])]
    if len(class_names) != model.output_shape[-1]:
        raise RunError(
            f"Expected one name for each of the {model.output_shape[-1]} classes. Received: "
            f"{', '.join(class_names)}."
        )
    described, note = _write_pictures(job, folder, model, class_names)
    pictures = np.load(folder / "pictures.npy")
    if pictures.shape[1:] != model.input_shape[1:]:
        raise RunError(
            f"`pictures` must have the shape {('n', *model.input_shape[1:])} of the model's input. "
            f"Received: {pictures.shape}."
        )
    in_float32 = rebuild(model)
    reference = _predict(in_float32, pictures)
    _check_probabilities(reference)
    np.save(folder / "reference.npy", reference)
    if is_half(model):
        np.save(folder / "as_trained.npy", _predict(model, pictures))
    format = FORMATS[job.format]
    is_picture = _takes_pictures(model)
    metadata = {
        "name": job.name,
        "class_names": class_names,
        "image_size": model.input_shape[1] if is_picture else None,
        "quantize": job.quantize,
        "input_layout": job.input_layout,
    }
    stated = {"author": job.author, "license": job.license}
    metadata |= {key: value for key, value in stated.items() if value}
    if job.input_layout != "nhwc" and not is_picture:
        raise RunError(
            f"The input layout {job.input_layout} requires a model whose input are square RGB "
            f"pictures. Received: {tuple(model.input_shape)}."
        )
    if job.input_dtype == "uint8":
        _check_bytes(pictures, is_picture)
    if is_picture:
        _write_files(folder, pictures[:32])
    ready = rebuild(model, format.method) if format.method else in_float32
    facts = {}
    if format.method:  # the formats of phones, browsers and accelerators
        targets = np.load(folder / "targets.npy") if (folder / "targets.npy").exists() else None
        few = slice(NUM_IN_HALF)
        facts["half_precision"] = compare_in_half(
            ready, pictures[few], reference[few], None if targets is None else targets[few]
        )
        metadata["half_precision"] = {
            dtype: found["mismatch"] is None for dtype, found in facts["half_precision"].items()
        }
    representative = folder / "representative.npy"
    inputs = np.load(representative) if representative.exists() else pictures
    options = {} if job.opset is None else {"opset": job.opset}
    if job.input_dtype != "float32":
        options["input_dtype"] = job.input_dtype
    facts |= format.load_writer()(
        ready,
        folder / f"exported{format.suffix}",
        metadata,
        job.quantize,
        inputs[:NUM_REPRESENTATIVE].astype("float32"),
        **options,
    )
    versions = {name: sys.modules[name].__version__ for name in ("keras", "tensorflow")}
    if "tf2onnx" in sys.modules:
        versions["tf2onnx"] = sys.modules["tf2onnx"].__version__
    converted = {"pictures": described, "note": note, **facts}
    converted |= {"metadata": metadata, "versions": versions}
    (folder / "converted.json").write_text(json.dumps(converted), encoding="utf-8")


def _load(path):
    model = read_model(path)
    inputs, outputs = getattr(model, "inputs", None) or (), getattr(model, "outputs", None) or ()
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise RunError(
            "Expected a model with one input and one output (batch, classes). Received: "
            f"{[tuple(x.shape) for x in inputs]} -> {[tuple(x.shape) for x in outputs]}."
        )
    if None in inputs[0].shape[1:]:
        raise RunError(
            "Expected an input whose sizes are all known, except for the batch. Received: "
            f"{tuple(inputs[0].shape)}."
        )
    return model


def _write_pictures(job, folder, model, class_names):
    """Writes the pictures of the job. Returns a description of them, and a note or `None`."""
    if not (job.run or job.pictures):
        return "the given pictures", None
    if not _takes_pictures(model):
        raise RunError(
            "Expected a model whose input are square RGB pictures. Received: "
            f"{tuple(model.input_shape)}. For this model use "
            "kerasfer.export.export(model, path, format, pictures=...) in Python."
        )
    gathered = gather(job, model, class_names)
    np.save(folder / "pictures.npy", gathered.pictures)
    if gathered.representative is not gathered.pictures:
        np.save(folder / "representative.npy", gathered.representative)
    if gathered.targets is not None:
        np.save(folder / "targets.npy", gathered.targets)
    return gathered.described, gathered.note


def _takes_pictures(model):
    size = model.input_shape[1]
    return model.input_shape[1:] == (size, size, 3)


def _check_probabilities(values):
    """Raises a `RunError` for logits, which would be exported as probabilities."""
    if not ((values >= 0).all() and (np.abs(values.sum(axis=-1) - 1) < 0.01).all()):
        raise RunError(
            "Expected a model that returns probabilities, which are not negative and have the sum "
            f"1. Received: values from {values.min():.3g} to {values.max():.3g}. If these are "
            "logits, export keras.Sequential([model, keras.layers.Softmax()])."
        )


def _check_bytes(pictures, is_picture):
    """Raises a `RunError` for a model whose inputs are not bytes."""
    whole = np.array_equal(pictures, np.round(pictures))
    if not (is_picture and whole and pictures.min() >= 0 and pictures.max() <= 255):
        raise RunError(
            "An input of uint8 requires a model for square RGB pictures of whole numbers in "
            f"[0, 255]. Received: {'' if whole else 'fractional '}values from "
            f"{pictures.min():.3g} to {pictures.max():.3g}, pictures.shape={pictures.shape}."
        )


def _predict(model, pictures):
    return np.asarray(model.predict(pictures, batch_size=64, verbose=0), dtype="float32")


def _write_files(folder, pictures):
    """Writes pictures as files, which the exported model decodes."""
    from PIL import Image

    for index, picture in enumerate(pictures.clip(0, 255).round().astype("uint8")):
        Image.fromarray(picture).save(folder / f"{index:03}.png")


def main(folder):
    try:
        convert(folder)
    except KerasferError as error:
        reported = {"type": type(error).__name__, "message": str(error)}
        (folder / "error.json").write_text(json.dumps(reported), encoding="utf-8")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
