"""From a trained model to a file that was loaded, compared and timed: the steps, in order."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from kerasfer import __version__, errors
from kerasfer.errors import RecipeError, RunError
from kerasfer.export import probe
from kerasfer.export.parity import MOST_DIFFERENCE, compare, mismatch
from kerasfer.files import write_json

# The suffix, and the threads that latencies are measured with; None: TensorFlow's own choice.
FORMATS = {"saved_model": ("", [None]), "tflite": (".tflite", [1, 4]), "onnx": (".onnx", [1, 4])}
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
REPORT = "export_report.json"


def export_run(
    run,
    format,
    quantize="none",
    *,
    output_dir="saved_models",
    data_dir=None,
    allow_mismatch=False,
):
    """Exports a run's model and compares it with what was written, on its validation pictures.

    It becomes `output_dir/<name>/<version>/`, a SavedModel as TF Serving expects it, or
    `output_dir/<name>/<name>.tflite` or `.onnx`, with `-<quantize>` after the name where it is
    quantized. A SavedModel becomes the next version; other files are never overwritten.

    Args:
        run: A run's folder, or the `model.keras` in it.
        format: `"saved_model"`, `"tflite"` or `"onnx"`.
        quantize: For TFLite: `"none"`, `"float16"`, `"dynamic"` or `"int8"`, whose ranges come from
            the run's training pictures.
        output_dir: Folder of the exports.
        data_dir: Folder of the datasets; `None` for `$KERASFER_DATA`, else `data`.
        allow_mismatch: Whether to keep a file that answers otherwise than the model.

    Returns:
        The dict of `export_report.json`; `"path"` is what was written.

    Raises:
        RecipeError: Where the format or the quantization is unknown, or they do not go together.
        RunError: Where there is no model, the conversion fails, the file exists or differs.
        DataError: Where the run's dataset is not at hand.

    Example:
        >>> export_run("runs/quickstart", "tflite", "int8")["top1_agreement"]
    """
    suffix = _check(format, quantize)
    model, name = _find(Path(run))
    path = Path(output_dir) / name
    if format != "saved_model":
        path = path / f"{name}{'' if quantize == 'none' else f'-{quantize}'}{suffix}"
    job = {"run": str(run), "data_dir": data_dir, "model": str(model), "name": name}
    return _export(job, path, format, quantize, allow_mismatch)


def export(
    model,
    path,
    format="saved_model",
    quantize="none",
    *,
    pictures,
    representative=None,
    class_names=None,
    allow_mismatch=False,
):
    """Exports any Keras model with one input and one output `(batch, classes)`.

    It may come from any backend, and have kerasfer's layers or not. A layer of your own must be
    importable: the model is saved, and loaded in another process.

    Args:
        model: A built `keras.Model`, or the path of a `.keras` file.
        path: The folder of the versions of a SavedModel, or the `.tflite` or `.onnx` file.
        format, quantize, allow_mismatch: As in `export_run`.
        pictures: float32 `(n, ...)`, real inputs, to compare on; some hundreds.
        representative: float32 `(n, ...)`, inputs from the training data, for `"int8"`; `None`
            takes `pictures`.
        class_names: One string a class; `None` for those of the model's `ClassProbabilities`, or
            else "0", "1" and so on.

    Returns:
        As `export_run`.

    Raises:
        As `export_run`.

    Example:
        >>> export(model, "faces.onnx", "onnx", pictures=pictures)["max_probability_difference"]
    """
    suffix = _check(format, quantize)
    path = Path(path)
    if path.suffix != suffix and suffix:
        raise ValueError(f"`path` must end in {suffix!r} for {format!r}. Received: {path}.")
    if len(pictures) == 0:
        raise ValueError("`pictures` must not be empty: the export is compared on them.")
    name = path.name.removesuffix(suffix)
    job = {"run": None, "data_dir": None, "model": None, "name": name}
    job["class_names"] = None if class_names is None else list(class_names)
    inputs = {"pictures": pictures, "representative": representative}
    return _export(job, path, format, quantize, allow_mismatch, model, inputs)


def _export(job, path, format, quantize, allow_mismatch, model=None, inputs=None):
    if format != "saved_model" and path.exists():
        raise _exists(path)
    folder = path if format == "saved_model" else path.parent
    with _workplace(folder) as work:
        for name, value in (inputs or {}).items():
            if value is not None:
                np.save(work / f"{name}.npy", np.asarray(value, dtype="float32"))
        job = {"class_names": None, **job, "format": format, "quantize": quantize}
        source = job["run"] or (str(model) if _is_path(model) else "a keras.Model")
        if model is not None:
            job["model"] = str(_save(model, work))
        print(f"{'model':<14}{source}", flush=True)
        facts = _convert(job, work)
        print(f"{'converted':<14}{format}, compared on {facts['pictures']}", flush=True)
        exported = work / f"exported{FORMATS[format][0]}"
        report = {"source": source, **_judge(job, facts, exported, work)}
        if report["mismatch"] and not allow_mismatch:
            raise RunError(
                f"The exported file was not kept, since it does not say what the model says: "
                f"{report['mismatch']}. Add --allow-mismatch to keep it all the same, or choose "
                "another --quantize."
            )
        return _place(exported, path, report, format)


def _check(format, quantize):
    for argument, value, known in (
        ("format", format, FORMATS),
        ("quantize", quantize, QUANTIZATIONS),
    ):
        if value not in known:
            raise RecipeError(f"{argument} must be one of {', '.join(known)}. Received: {value!r}.")
    if quantize != "none" and format != "tflite":
        raise RecipeError(
            f"Only tflite can be quantized. Received: format={format}, quantize={quantize}."
        )
    return FORMATS[format][0]


def _find(run):
    """Returns a run's model and its name, without Keras, whose import takes seconds."""
    folder = run.parent if run.name == "model.keras" else run
    if not run.exists():
        raise RunError(f"Expected a run's folder. Received: {run}, which does not exist.")
    if not (folder / "recipe.yaml").is_file():
        raise RunError(
            f"Expected a run's folder, with model.keras and recipe.yaml, whose validation pictures "
            f"show whether the exported file says the same. Received: {run}. For any other model "
            "use kerasfer.export.export(model, path, format, pictures=...) in Python."
        )
    if not (folder / "model.keras").is_file():
        folds = sorted(path.parent.name for path in folder.glob("fold_*/model.keras"))
        hint = f": export one of its folds, such as {folder / folds[0]}" if folds else ""
        raise RunError(f"{folder} has no model.keras{hint}.")
    from kerasfer.recipe import load_recipe

    return folder / "model.keras", load_recipe(folder / "recipe.yaml").name


@contextlib.contextmanager
def _workplace(folder):
    """Makes a hidden folder where the export will be, so that one rename moves it there."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as work:
            yield Path(work)
    finally:
        for parent in made:  # those that stayed empty
            with contextlib.suppress(OSError):
                parent.rmdir()


def _is_path(model):
    return isinstance(model, str | os.PathLike)


def _save(model, work):
    if _is_path(model):
        return Path(model).resolve()
    model.save(work / "model.keras")
    return work / "model.keras"


def _convert(job, work):
    write_json(work / "job.json", job)
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    # Conversion needs no accelerator, and one in use by another process may have no room.
    environment["CUDA_VISIBLE_DEVICES"] = "-1"
    done = _run(["-m", "kerasfer.export.convert", str(work)], environment)
    if (work / "error.json").exists():
        told = json.loads((work / "error.json").read_text(encoding="utf-8"))
        raise getattr(errors, told["type"])(told["message"])
    if done.returncode:
        raise _failed(f"The conversion to {job['format']}", done)
    return json.loads((work / "converted.json").read_text(encoding="utf-8"))


def _judge(job, facts, exported, work):
    """Loads what was written with the target's runtime, and describes how it did."""
    threads = FORMATS[job["format"]][1]
    probed = {"format": job["format"], "path": str(exported), "threads": threads, "seconds": 5}
    write_json(work / "job.json", probed)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    # -P: what lies beside the script is not to be imported.
    done = _run(["-P", probe.__file__, str(work)], environment)
    if done.returncode:
        raise _failed(f"The written {job['format']} file, loaded by its runtime,", done)
    measured = json.loads((work / "probe.json").read_text(encoding="utf-8"))
    answers, reference = np.load(work / "probabilities.npy"), np.load(work / "reference.npy")
    targets = np.load(work / "targets.npy") if (work / "targets.npy").exists() else None
    compared = compare(answers, reference, targets)
    wrong = mismatch(compared, job["quantize"])
    if (work / "as_trained.npy").exists():
        # Trained in half precision: how far float32, the export's, is from that.
        compared["trained_precision"] = compare(np.load(work / "as_trained.npy"), reference)
    if (work / "bytes.npy").exists():
        from_files = np.abs(np.load(work / "bytes.npy") - answers[:32]).max()
        compared["serving_bytes_max_difference"] = float(from_files)
        whole = np.load(work / "pictures.npy", mmap_mode="r")[:32]
        if np.array_equal(whole, np.round(whole)) and from_files > MOST_DIFFERENCE:
            wrong = "; ".join(filter(None, [wrong, f"decoded files differ by {from_files:.2g}"]))
    metadata, _ = facts.pop("metadata"), facts.pop("tensors", None)
    return {
        "format": job["format"],
        "quantize": job["quantize"],
        **compared,
        "mismatch": wrong,
        "size_bytes": _size(exported),
        "latency_ms": measured["latency"],
        "class_names": metadata["class_names"],
        "image_size": metadata["image_size"],
        **facts,
        "versions": {"kerasfer": __version__, **facts["versions"], **measured["versions"]},
        "device": f"CPU, {os.cpu_count()} cores",
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _run(arguments, environment):
    # The package may be imported from a folder that is not installed.
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**environment, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True
    )


def _failed(what, done):
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reason = lines[-1][:300] if lines else f"exit code {done.returncode}"
    missing = re.match(r"ModuleNotFoundError: No module named '([^'.]+)", reason)
    if missing and missing[1] != "kerasfer":
        return RunError(
            f'{what} needs {missing[1]}, which is not installed: pip install "kerasfer[export]".'
        )
    with tempfile.NamedTemporaryFile(
        "w", prefix="kerasfer-export-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.write(done.stdout + done.stderr)
    return RunError(f"{what} failed: {reason} (all of it in {log.name})")


def _size(path):
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _place(exported, path, report, format):
    """Moves an export to where it belongs, in one step, and its report with it."""
    if format == "saved_model":
        write_json(exported / "assets.extra" / REPORT, report)
        # A folder cannot be moved onto one with content, so two exports at once never meet.
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
        os.link(exported, path)  # unlike a rename, it refuses to replace
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
        f"{path} exists, and exports are never overwritten: move it away, or choose another "
        "--output-dir."
    )
