"""Converts a trained model, compares the result with it in the real runtime, and stores it."""

import contextlib
import os
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from kerasfer import __version__
from kerasfer.errors import DataError, RunError
from kerasfer.export.formats import FORMATS, check_options
from kerasfer.export.job import DRAWN, Job
from kerasfer.export.parity import MOST_DIFFERENCE, compare, find_mismatch
from kerasfer.export.processes import convert, measure
from kerasfer.files import is_abandoned, one_at_a_time, only_writer, write_json
from kerasfer.models.pretrained import AUTHOR, LICENSE, PRETRAINED, pretrained_path
from kerasfer.runs.finding import find_run
from kerasfer.runs.folder import RunFolder
from kerasfer.text import describe_cpu

REPORT = "export_report.json"
_WORK = ".export-"  # The beginning of the names of work folders.


def export_run(
    run,
    format,
    quantize="none",
    *,
    output_dir="saved_models",
    data_dir=None,
    pictures=None,
    opset=None,
    input_dtype="float32",
    input_layout="nhwc",
    author=None,
    license=None,
    allow_mismatch=False,
):
    """Exports the model of a run, and compares the export with it on the run's validation pictures.

    If the dataset of the run is missing, other pictures are used: those of a folder, or drawn faces
    if no folder is given. For `"int8"`, drawn faces must be requested explicitly, because their
    ranges may not fit photographs.

    The export becomes `output_dir/<name>/<version>/`, a SavedModel as TF Serving expects it, or
    `output_dir/<name>/<name>.tflite` or `.onnx`, with `-<quantize>` after the name if it is
    quantized. A SavedModel becomes the next version. Other files are never overwritten.

    Args:
        run: A run folder, or the `model.keras` in it. With `pictures`, also any other
            `.keras` file of a model for pictures, or the name of a pretrained model.
        format: `"saved_model"`, `"tflite"` or `"onnx"`.
        quantize: For TFLite `"none"`, `"float16"`, `"dynamic"` or `"int8"`, and for ONNX `"none"`,
            `"float16"` or `"int8"`. The ranges for `"int8"` come from the run's training pictures.
        output_dir: Folder of the exports.
        data_dir: Folder of the datasets. Defaults to `$KERASFER_DATA`, then `data`.
        pictures: A folder of face crops like those that the model was trained on, or `"drawn"` for
            drawn faces. If the folder has a subfolder per class, the accuracy is reported. For
            `"int8"`, every second picture sets the ranges, and the comparison uses the others.
        opset: For ONNX: the version of the operator set, from 13 to 18. Defaults to 18. Older
            runtimes need a lower one: ONNX Runtime 1.13, for example, supports at most 17.
        input_dtype: For TFLite: `"float32"`, or `"uint8"` for an input of bytes.
        input_layout: For ONNX: `"nhwc"` for pictures `(batch, height, width, 3)`, or `"nchw"` for
            `(batch, 3, height, width)`.
        author, license: Strings for the metadata of the file. Pretrained models have their own.
        allow_mismatch: Whether to keep an export that disagrees with the model.

    Returns:
        The dict of `export_report.json`; `"path"` is the exported file or folder.

    Raises:
        RecipeError: If the format, the quantization, the opset, `input_dtype` or `input_layout` is
            unknown or unsupported.
        RunError: If there is no model, the conversion fails, the file exists, or it disagrees.
        DataError: If the dataset of the run is missing for `"int8"`, or `pictures` has none.

    Example:

    ```python
    report = export_run("runs/quickstart", "tflite", "int8")
    report["top1_agreement"]  # 0.996
    ```
    """
    check_options(format, quantize, opset, input_dtype, input_layout)
    model, name = _find(run, pictures)
    if str(run) in PRETRAINED:
        author, license = author or AUTHOR, license or LICENSE
    path = Path(output_dir) / name
    if format != "saved_model":
        suffix = FORMATS[format].suffix
        path = path / f"{name}{'' if quantize == 'none' else f'-{quantize}'}{suffix}"
    given = None if pictures is None else str(pictures)
    if given not in (None, DRAWN) and not Path(given).is_dir():
        raise DataError(f"Expected a folder of pictures, or {DRAWN!r}. Received: {given}.")
    job = Job(
        format=format,
        quantize=quantize,
        model=str(model),
        name=name,
        run=str(run),
        pictures=given,
        data_dir=data_dir,
        opset=opset,
        input_dtype=input_dtype,
        input_layout=input_layout,
        author=author,
        license=license,
    )
    with _work_folder(job, path) as work:
        return _export(job, work, path, str(run), allow_mismatch)


def export(
    model,
    path,
    format="saved_model",
    quantize="none",
    *,
    pictures,
    representative=None,
    class_names=None,
    opset=None,
    input_dtype="float32",
    input_layout="nhwc",
    author=None,
    license=None,
    allow_mismatch=False,
):
    """Exports any Keras model with one input and one output `(batch, classes)`.

    The model may come from any backend, with or without layers of kerasfer. Custom layers must be
    importable, because the model is saved and loaded in another process.

    Args:
        model: A built `keras.Model`, or the path of a `.keras` file.
        path: The folder of the versions of a SavedModel, or the `.tflite` or `.onnx` file.
        format, quantize, opset, input_dtype, input_layout: As in `export_run`.
        pictures: float32 `(n, ...)`, several hundred real inputs for the comparison.
        representative: float32 `(n, ...)`, inputs from the training data for `"int8"`. Defaults to
            `pictures`.
        class_names: One string per class. Defaults to those of the model's `ClassProbabilities`,
            or to "0", "1" and so on.
        author, license, allow_mismatch: As in `export_run`.

    Returns:
        As `export_run`.

    Raises:
        ValueError: If `path` has the wrong suffix or `pictures` is empty.
        RecipeError, RunError: As `export_run`.

    Example:

    ```python
    report = export(model, "faces.onnx", "onnx", pictures=pictures)
    report["max_probability_difference"]  # 1e-06
    ```
    """
    check_options(format, quantize, opset, input_dtype, input_layout)
    path, suffix = Path(path), FORMATS[format].suffix
    if path.suffix != suffix and suffix:
        raise ValueError(f"`path` must end in {suffix!r} for {format!r}. Received: {path}.")
    if len(pictures) == 0:
        raise ValueError("`pictures` must not be empty: the export is compared on them.")
    is_file = isinstance(model, str | os.PathLike)
    job = Job(
        format=format,
        quantize=quantize,
        model=str(Path(model).resolve()) if is_file else "",
        name=path.name.removesuffix(suffix),
        class_names=None if class_names is None else tuple(class_names),
        opset=opset,
        input_dtype=input_dtype,
        input_layout=input_layout,
        author=author,
        license=license,
    )
    with _work_folder(job, path) as work:
        for name, values in (("pictures", pictures), ("representative", representative)):
            if values is not None:
                np.save(work / f"{name}.npy", np.asarray(values, dtype="float32"))
        if not is_file:
            model.save(work / "model.keras")
            job = replace(job, model=str(work / "model.keras"))
        return _export(job, work, path, str(model) if is_file else "a keras.Model", allow_mismatch)


def _find(run, pictures):
    """Returns a model and its name, without Keras, whose import takes seconds."""
    if pictures is not None and str(run) in PRETRAINED:
        return pretrained_path(str(run)), str(run)
    run = Path(run)
    if pictures is not None and run.is_file() and run.suffix == ".keras":
        recipe = find_run(run).recipe
        if recipe is None:
            return run, run.stem
    if not run.exists():
        raise RunError(f"Expected a run folder. Received: {run}, which does not exist.")
    folder = RunFolder(run if run.is_dir() else run.parent)
    if not folder.exists or (run.is_file() and run != folder.model):
        raise RunError(
            "Expected a run folder with a recipe and a model, because the export is compared with "
            f"the model on the run's validation pictures. Received: {run}. For any other model add "
            "--pictures, or use kerasfer.export.export(model, path, format, pictures=...) in "
            "Python."
        )
    found = find_run(run)
    # Folds are separate models. As versions of one name, a server would replace one with another.
    is_fold = RunFolder(folder.path.parent).exists and folder.path.name.startswith("fold_")
    name = found.recipe.name
    return found.model, f"{name}-{folder.path.name}" if is_fold else name


@contextlib.contextmanager
def _work_folder(job, path):
    """Makes a hidden folder next to the export, so that one rename moves the export there."""
    if job.format != "saved_model" and path.exists():
        raise _exists(path)
    folder = path if job.format == "saved_model" else path.parent
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as stack:
            # Another export must not see a work folder that is not locked yet.
            with one_at_a_time(folder):
                for left in folder.glob(f"{_WORK}*"):  # A killed export leaves pictures there.
                    if is_abandoned(left):
                        shutil.rmtree(left, ignore_errors=True)
                work = stack.enter_context(tempfile.TemporaryDirectory(prefix=_WORK, dir=folder))
                stack.enter_context(only_writer(work))
            yield Path(work)
    finally:
        for parent in made:  # Only empty folders are removed.
            with contextlib.suppress(OSError):
                parent.rmdir()


def _export(job, work, path, source, allow_mismatch):
    print(f"{'model':<14}{source}", flush=True)
    converted = convert(job, work)
    print(f"{'converted':<14}{job.format}, compared on {converted['pictures']}", flush=True)
    if converted.get("note"):
        print(f"{'note':<14}{converted['note']}", flush=True)
    exported = work / f"exported{FORMATS[job.format].suffix}"
    measured = measure(job.format, exported, work)
    report = {"source": source, **_report(job, converted, measured, exported, work)}
    if report["mismatch"] and not allow_mismatch:
        raise RunError(
            "The export was not kept, because it disagrees with the model: "
            f"{report['mismatch']}. Use another --quantize, or add --allow-mismatch to keep it."
        )
    return _place(exported, path, report)


def _report(job, converted, measured, exported, work):
    """Compares the predictions of the export with those of the model, and describes it."""
    predicted, reference = np.load(work / "probabilities.npy"), np.load(work / "reference.npy")
    targets = np.load(work / "targets.npy") if (work / "targets.npy").exists() else None
    compared = compare(predicted, reference, targets)
    mismatch = find_mismatch(compared, job.quantize)
    if (work / "as_trained.npy").exists():
        # A model trained in half precision is exported in float32.
        compared["trained_precision"] = compare(np.load(work / "as_trained.npy"), reference)
    if (work / "bytes.npy").exists():
        from_files = np.abs(np.load(work / "bytes.npy") - predicted[:32]).max()
        compared["serving_bytes_max_difference"] = float(from_files)
        whole = np.load(work / "pictures.npy", mmap_mode="r")[:32]
        if np.array_equal(whole, np.round(whole)) and from_files > MOST_DIFFERENCE:
            differ = f"the probabilities of encoded files differ by {from_files:.2g}"
            mismatch = "; ".join(filter(None, [mismatch, differ]))
    metadata = converted.pop("metadata")
    return {
        "format": job.format,
        "quantize": job.quantize,
        "input_dtype": job.input_dtype,
        "input_layout": job.input_layout,
        **compared,
        "mismatch": mismatch,
        "size_bytes": _size(exported),
        "load_ms": measured["load_ms"],
        "memory_bytes": measured["memory_bytes"],
        "latency_ms": measured["latency"],
        "class_names": metadata["class_names"],
        "image_size": metadata["image_size"],
        **converted,
        "versions": {"kerasfer": __version__, **converted["versions"], **measured["versions"]},
        "device": describe_cpu(),
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _size(path):
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _place(exported, path, report):
    """Moves an export to its final path in one step, with its report."""
    if report["format"] == "saved_model":
        write_json(exported / "assets.extra" / REPORT, report)
        # A folder cannot replace one with content, so simultaneous exports never collide.
        while True:
            taken = [int(entry.name) for entry in path.iterdir() if entry.name.isdecimal()]
            target = path / str(max([0, *taken]) + 1)
            try:
                exported.rename(target)
            except OSError:
                if not target.exists():
                    raise
            else:
                return {**report, "path": str(target)}
    try:
        os.link(exported, path)  # unlike a rename, it never replaces a file
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # a file system without links
        if path.exists():
            raise _exists(path) from None
        shutil.move(exported, path)
    write_json(path.with_name(f"{path.name}.{REPORT}"), report)
    return {**report, "path": str(path)}


def _exists(path):
    return RunError(
        f"{path} exists, and exports are never overwritten. Move it, or choose another "
        "--output-dir."
    )
