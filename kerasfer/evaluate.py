"""Judges a trained model on a split of a dataset."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerasfer.data import load_dataset
from kerasfer.data.pipeline import Batches, original_errors, views
from kerasfer.data.protocols import make_folds
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.files import write_json
from kerasfer.metrics import classification_metrics
from kerasfer.recipe import load_recipe
from kerasfer.schema import Data


def evaluate(run, *, dataset=None, data_dir=None, split="test", tta=None):
    """Judges a run's model on one split of a dataset.

    In a run's folder the result is kept as `evaluation_<dataset>_<split>_<tta>.json`, beside the
    run's own `metrics.json`.

    Args:
        run: A run's folder, or a `.keras` file.
        dataset: Name of a dataset with the same classes; `None` for the run's own.
        data_dir: Folder of the datasets; `None` for `$KERASFER_DATA`, else `data`.
        split: `"train"`, `"validation"` or `"test"`.
        tta: Test-time views, `"none"`, `"flip"` or `"ten_crop"`; `None` for the recipe's.

    Returns:
        The dict of `metrics.json`.

    Raises:
        RunError: Where `run` is no trained model.
        RecipeError: Where the dataset is unknown or not told.
        DataError: Where the dataset is missing, or its classes are others.

    Example:
        >>> evaluate("runs/quickstart", tta="flip")["accuracy"]
    """
    run = Path(run)
    recipe = _recipe_of(run)
    model = load_model(run / "model.keras" if run.is_dir() else run)
    if dataset is None and recipe is None:
        raise RecipeError(
            f"{run} is a model without its run, so what to judge it on must be told: add --dataset."
        )
    own = recipe is not None and dataset in (None, recipe.data.name)
    fold = load_fold(recipe.data, recipe.train.seed, data_dir) if own else _load(dataset, data_dir)
    samples = getattr(fold, split)
    check_classes(model, samples)
    settings = recipe.evaluate if recipe else None
    tta = tta or (settings.tta if settings else "none")
    batches = Batches(
        samples,
        image_size=model.input_shape[1],
        batch_size=settings.batch_size if settings else 64,
        on_bad_image=recipe.data.on_bad_image if recipe else "error",
    )
    metrics = classification_metrics(
        predict_probabilities(model, batches, tta),
        batches.samples.targets,
        samples.class_names,
        dataset=samples.name,
        split=split,
        protocol=fold.protocol,
        leaking=fold.leaking,
    )
    if run.is_dir():
        write_json(run / f"evaluation_{samples.name}_{split}_{tta}.json", metrics)
    return metrics


def predict_probabilities(model, batches, tta="none"):
    """Predicts the probabilities of all samples, averaged over the views of each.

    Args:
        model: A model of `kerasfer.models`.
        batches: `kerasfer.data.pipeline.Batches`, not shuffled.
        tta: `"none"`, `"flip"` or `"ten_crop"`.

    Returns:
        float32 `(n, num_classes)`, in the samples' order.
    """
    parts = []
    with original_errors(batches):
        for index in range(len(batches)):
            images = batches[index][0]
            seen = [
                ops.convert_to_numpy(model.predict_on_batch(view)) for view in views(images, tta)
            ]
            parts.append(np.mean(seen, axis=0))
    return np.concatenate(parts).astype("float32")


def load_fold(data, seed, data_dir):
    """Reads what a recipe's `data` section names: one `Fold`, of k folds the one it names."""
    folds = load_folds(data, seed, data_dir)
    if len(folds) > 1 and data.fold is None:
        raise RunError(
            f"The run has {len(folds)} folds, each with a model of its own: name one of its "
            "folders, such as fold_0."
        )
    return folds[data.fold or 0]


def load_folds(data, seed, data_dir):
    """Reads what a recipe's `data` section names, as the list of all folds of its protocol."""
    own = {key: getattr(data, key) for key in ("path", "labels", "neutral", "num_samples")}
    samples = load_dataset(
        data.name, data_dir, **{key: value for key, value in own.items() if value is not None}
    )
    return make_folds(
        samples,
        data.protocol,
        seed=seed,
        num_folds=data.num_folds,
        validation_fraction=data.validation_fraction,
    )


def load_model(path):
    """Loads a `.keras` file of kerasfer, which knows its classes.

    Raises:
        RunError: Where there is none, or it is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(
            f"Expected a run's folder with a model.keras, or a .keras file. Received: {path}, "
            "which does not exist."
        )
    try:
        model = keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise RunError(f"{path} cannot be loaded as a Keras model: {reason}") from error
    if not hasattr(model.layers[-1], "class_names"):
        raise RunError(
            f"{path} does not know its classes: its last layer must be a "
            "kerasfer.layers.ClassProbabilities, as in kerasfer's own models."
        )
    return model


def check_classes(model, samples):
    """Raises a DataError unless a dataset has the model's classes, in its order."""
    expected = tuple(model.layers[-1].class_names)
    if tuple(samples.class_names) != expected:
        raise DataError(
            f"The model knows the classes {', '.join(expected)}; {samples.name} has "
            f"{', '.join(samples.class_names)}. Choose a dataset with the model's classes."
        )


def _recipe_of(run):
    path = run / "recipe.yaml"
    if not run.is_dir():
        return None
    if not path.exists():
        raise RunError(
            f"Expected a run's folder with recipe.yaml and model.keras. Received: {run}, which "
            "lacks recipe.yaml."
        )
    return load_recipe(path)


def _load(dataset, data_dir):
    return load_fold(Data(name=dataset), 0, data_dir)
