"""Turns a run into a pretrained model: a compact file, its measurements and a model card."""

import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from kerasfer.data.batches import Batches
from kerasfer.data.checks.duplicates import exact_duplicates
from kerasfer.data.corruptions import CORRUPTIONS, corrupt
from kerasfer.data.lists import LISTS, load_list, match
from kerasfer.data.loading import load_fold
from kerasfer.errors import RunError
from kerasfer.evaluate.metrics import classification_metrics
from kerasfer.evaluate.scoring import evaluate_batches
from kerasfer.export.exporting import export
from kerasfer.files import write_json, write_text
from kerasfer.models import build_model
from kerasfer.models.compact import save_compact
from kerasfer.models.loading import load_model
from kerasfer.models.pretrained import WEIGHTS
from kerasfer.predict.runtimes import load_runtime
from kerasfer.report.model_card import write_card
from kerasfer.runs.finding import find_run
from kerasfer.train.transfer import copy_weights

EXPORTS = (("tflite", "none"), ("tflite", "float16"), ("tflite", "int8"), ("onnx", "none"))
NUM_COMPARED = 300  # pictures on which exports are compared


def publish(run, name, *, data_dir=None, output_dir=WEIGHTS):
    """Writes a pretrained model from a run: NAME.keras, NAME.json and NAME.md.

    The model converts color pictures to gray, since FER2013 and FER+ have gray pictures only. Its
    kernels are stored in float16, and everything is measured on the model that is loaded from the
    file, with the test split of the run's dataset.

    Args:
        run: Folder of a finished run of the model `classifier`.
        name: The name of the pretrained model.
        data_dir: The folder of the datasets. Defaults to `$KERASFER_DATA`, then `data`.
        output_dir: The folder to write into.

    Returns:
        The dict of NAME.json.

    Raises:
        RunError: If there is no such run, or an export fails.
        DataError: If the dataset is missing.

    Example:

    ```python
    publish("runs/ferplus_lite0_64", "ferplus_lite0", data_dir="~/faces")
    ```
    """
    found = find_run(run)
    recipe, output = found.recipe, Path(output_dir)
    if recipe is None or recipe.model.name != "classifier":
        raise RunError(
            "Only runs of the model classifier can be published. Received: "
            f"{run}{'' if recipe is None else f', a run of {recipe.model.name}'}."
        )
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{name}.keras"
    save_compact(_with_gray(load_model(found.model), recipe), path)
    model = load_model(path)
    fold = load_fold(recipe.data, recipe.train.seed, data_dir)
    duplicates = exact_duplicates(fold.train, fold.test)
    facts = {
        "name": name,
        "class_names": list(fold.test.class_names),
        "image_size": model.input_shape[1],
        "num_parameters": model.count_params(),
        "size_bytes": path.stat().st_size,
        "recipe": recipe.model_dump(exclude_none=True),
        "environment": found.folder.read_environment(),
        "epochs": len(found.folder.read_history()),
        **_evaluate(model, fold, duplicates, recipe, data_dir),
        "exports": _export(model, name, fold, fold.test.take(np.flatnonzero(~duplicates))),
        "probabilities_of_noise": _predict_noise(model),
    }
    write_json(output / f"{name}.json", facts)
    write_text(output / f"{name}.md", write_card(facts))
    return facts


def _with_gray(source, recipe):
    options = recipe.model.model_dump(exclude={"name", "weights"}, exclude_none=True)
    names = source.layers[-1].class_names
    model = build_model("classifier", names, recipe.data.image_size, **(options | {"gray": True}))
    copy_weights(model, source)
    return model


def _evaluate(model, fold, duplicates, recipe, data_dir):
    """Evaluates a model on the test split, on parts of it and on degraded copies."""

    def score(samples, **options):
        batches = Batches(samples, model.input_shape[1], 128)
        return evaluate_batches(model, batches, fold, **options).metrics

    results = {"test": score(fold.test, duplicates=duplicates)}
    kept = np.flatnonzero(~duplicates)
    results["test_without_duplicates"] = score(fold.test.take(kept))
    results["validation"] = score(fold.validation, split="validation")
    if recipe.data.name == "ferplus":
        data = recipe.data.model_copy(update={"labels": "majority"})
        majority = load_fold(data, recipe.train.seed, data_dir)
        seen = exact_duplicates(fold.train, majority.test)
        results["majority"] = score(majority.test, duplicates=seen)
    results["lists"] = {
        listed: score(match(fold.test, load_list(recipe.data.name, listed, data_dir)).samples)
        for listed in LISTS.get(recipe.data.name, ())
    }
    results["corruptions"] = {
        kind: score(replace(fold.test, pictures=corrupt(fold.test.pictures, kind)))
        for kind in CORRUPTIONS
    }
    return results


def _export(model, name, fold, test):
    """Exports a model in all formats, evaluates the files on `test`, and returns the reports."""
    size = model.input_shape[1]

    def some(samples):
        return Batches(samples.take(np.arange(min(NUM_COMPARED, len(samples)))), size, 512)[0][0]

    reports = []
    with tempfile.TemporaryDirectory() as folder:
        for format, quantize in EXPORTS:
            suffix = "" if quantize == "none" else f"-{quantize}"
            report = export(
                model,
                Path(folder, f"{name}{suffix}.{format}"),
                format,
                quantize,
                pictures=some(fold.validation),
                representative=some(fold.train),
                allow_mismatch=True,  # The card says how often an export agrees.
            )
            report["test_without_duplicates"] = _evaluate_file(report.pop("path"), test, fold)
            reports.append(report)
    return reports


def _evaluate_file(path, samples, fold):
    runtime = load_runtime(path)
    batches = Batches(samples, runtime.image_size, 128)
    probabilities = [runtime(batches[index][0]) for index in range(len(batches))]
    return classification_metrics(
        np.concatenate(probabilities),
        samples.targets,
        samples.class_names,
        dataset=samples.name,
        split="test",
        protocol=fold.protocol,
        leaking=fold.leaking,
    )


def _predict_noise(model):
    size = model.input_shape[1]
    noise = np.random.default_rng(0).uniform(0, 255, (4, size, size, 3)).astype("float32")
    return keras.ops.convert_to_numpy(model(noise, training=False)).tolist()
