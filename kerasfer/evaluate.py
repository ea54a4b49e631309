"""Judges a trained model on a split of a dataset."""

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerasfer import layers  # noqa: F401  registers what a saved model is made of
from kerasfer.data import DATASETS, load_dataset
from kerasfer.data.duplicates import exact_duplicates
from kerasfer.data.landmarks import with_landmarks
from kerasfer.data.lists import load_list, match
from kerasfer.data.pipeline import Batches, original_errors, views
from kerasfer.data.protocols import Fold, make_folds
from kerasfer.data.samples import SPLITS, limit
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.files import write_json
from kerasfer.metrics import classification_metrics
from kerasfer.recipe import load_recipe

WHOLE = "whole"  # the split of a dataset that has none
# Keys of a recipe's `data` that the dataset's own loader takes.
DATASET_OPTIONS = ("path", "labels", "neutral", "release", "with_rafdb", "num_samples")


def evaluate(
    run,
    *,
    dataset=None,
    data_dir=None,
    split="test",
    tta=None,
    list_name=None,
    duplicates=None,
):
    """Judges a run's model on one split of a dataset.

    In a run's folder the result is kept as `evaluation_<dataset>_<split>_<tta>.json`, beside the
    run's own `metrics.json`; with a list, `evaluation_<dataset>_<split>_<tta>_<list>.json`.

    Args:
        run: A run's folder, finished or not, or a `.keras` file.
        dataset: Name of a dataset with the same classes, or a folder with a subfolder for each
            class; `None` for the run's own. A dataset without official splits, such as CK+, is
            judged as a whole, since none of it was trained on.
        data_dir: Folder of the datasets; `None` for `$KERASFER_DATA`, else `data`.
        split: `"train"`, `"validation"` or `"test"`.
        tta: Test-time views, `"none"`, `"flip"` or `"ten_crop"`; `None` for the recipe's.
        list_name: `"occlusion"`, `"pose30"` or `"pose45"`: only those pictures of the split that
            the dataset's list names, read from `lists/` in `data_dir`. How many it names, and how
            many of them the split lacks, is told under `"list"`.
        duplicates: Whether the accuracy is given also without the pictures that stand in the run's
            training set too, pixel by pixel. `None`: where all of them are in memory, since
            decoding the files of a large dataset for it takes long.

    Returns:
        The dict of `metrics.json`.

    Raises:
        RunError: Where `run` is no trained model.
        RecipeError: Where the dataset is unknown or not told.
        DataError: Where the dataset is missing, or its classes are others.

    Example:
        >>> evaluate("runs/quickstart", tta="flip")["accuracy"]
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}. Received: {split!r}.")
    path, recipe = find_run(run)
    if dataset is None and recipe is None:
        raise RecipeError(
            f"{run} is a model without its run, so what to judge it on must be told: add --dataset."
        )
    model = load_model(path, landmarks=True)
    if dataset is None or (recipe and dataset == recipe.data.name):
        fold = load_fold(recipe.data, recipe.train.seed, data_dir)
    else:
        fold = _load_other(dataset, data_dir, known=recipe is not None)
    if fold.protocol == WHOLE:
        split = WHOLE
    samples = with_classes_of(model, fold.test if split == WHOLE else getattr(fold, split))
    check_landmarks(model, samples)
    listed = None
    if list_name:
        samples, listed = _select(samples, list_name, data_dir)
    trained_on = None
    if recipe and fold.protocol != WHOLE and samples.name == recipe.data.name and split != "train":
        trained_on = limit(fold.train, recipe.data.limit, recipe.train.seed)
    tta = tta or (recipe.evaluate.tta if recipe else "none")
    batches = Batches(
        samples,
        image_size=_pictures(model).shape[1],
        batch_size=recipe.evaluate.batch_size if recipe else 64,
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
        duplicates=find_duplicates(trained_on, batches.samples, duplicates),
    )
    name = f"evaluation_{samples.name}_{split}_{tta}"
    if listed:
        metrics["list"] = listed
        name += f"_{list_name}"
    if recipe:
        write_json(path.parent / f"{name}.json", metrics)
    return metrics


def find_duplicates(train, test, wanted=None):
    """Finds the test pictures that were trained on too.

    Args:
        train: `Samples` trained on, or None where they are not known.
        test: `Samples`.
        wanted: As `duplicates` of `evaluate`.

    Returns:
        bool `(len(test),)`, or None where nobody looked.
    """
    if wanted is None:
        wanted = train is not None and all(
            isinstance(samples.pictures, np.ndarray) for samples in (train, test)
        )
    if not wanted:
        return None
    if train is None:
        raise RunError(
            "Which pictures the model was trained on is known for its run's own dataset only: "
            "evaluate the run's folder, on the test split, without --dataset."
        )
    return exact_duplicates(train, test)


def _select(samples, name, data_dir):
    """Keeps the samples that a dataset's list names, and says how well the two fit."""
    data_dir = data_dir or os.environ.get("KERASFER_DATA") or "data"
    found = match(samples, load_list(samples.name, name, data_dir))
    fit = {
        "name": name,
        "num_listed": len(found.listed.labels),
        "num_missing": found.num_missing,
        "num_disagreeing": found.num_disagreeing,
    }
    return found.samples, fit


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
    """Reads what a recipe's `data` section names: one `Fold`, of several the one it names."""
    folds = load_folds(data, seed, data_dir)
    return folds[data.fold or 0]


def load_folds(data, seed, data_dir):
    """Reads what a recipe's `data` section names, as the list of all folds of its protocol."""
    own = {key: getattr(data, key) for key in DATASET_OPTIONS}
    samples = load_dataset(
        data.name, data_dir, **{key: value for key, value in own.items() if value is not None}
    )
    if data.landmarks is not None:
        data_dir = data_dir or os.environ.get("KERASFER_DATA") or "data"
        samples = with_landmarks(samples, Path(data_dir, data.landmarks))
    folds = make_folds(
        samples,
        data.protocol,
        seed=seed,
        num_folds=data.num_folds,
        validation_fraction=data.validation_fraction,
    )
    if data.fold is not None and len(folds) == 1:
        raise RecipeError(
            f"data.fold needs data.protocol=subjects, the only one with folds. Received: "
            f"fold={data.fold}, with the protocol {folds[0].protocol} of {data.name}."
        )
    return folds


def load_model(path, landmarks=False):
    """Loads a `.keras` file of kerasfer, which knows its classes.

    Args:
        path: The file.
        landmarks: Whether the caller can give the model landmarks beside the pictures.

    Raises:
        RunError: Where there is none, it is something else, or it needs landmarks.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(
            f"Expected a run's folder with a model.keras, or a .keras file. Received: {path}, "
            "which does not exist."
        )
    try:
        model = keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise RunError(f"{path} cannot be loaded as a Keras model: {reason}") from error
    if not hasattr(model, "layers") or not hasattr(model.layers[-1], "class_names"):
        raise RunError(
            f"{path} does not know its classes: its last layer must be a "
            "kerasfer.layers.ClassProbabilities, as in kerasfer's own models."
        )
    if isinstance(model.input, dict) and not landmarks:
        raise RunError(
            f"{path} cuts its crops around landmarks, which only `kerasfer train` and `kerasfer "
            "evaluate` can give it: train with model.crop_mode random or fixed for anything else."
        )
    return model


def check_landmarks(model, samples):
    """Checks that a model and samples agree on landmarks.

    Raises:
        DataError: Where the model takes another number of them than the samples have.
    """
    taken = model.input["landmarks"].shape[1] if isinstance(model.input, dict) else 0
    known = 0 if samples.landmarks is None else samples.landmarks.shape[1]
    if taken != known:
        raise DataError(
            f"The model takes {taken} landmarks a picture (model.crops); of {samples.name} "
            f"{known or 'none'} are given (data.landmarks)."
        )


def _pictures(model):
    return model.input["pictures"] if isinstance(model.input, dict) else model.input


def with_classes_of(model, samples):
    """Returns samples with their classes in the model's order.

    Raises:
        DataError: Where the classes are not the model's.
    """
    expected = tuple(model.layers[-1].class_names)
    if set(samples.class_names) != set(expected):
        raise DataError(
            f"The model knows the classes {', '.join(expected)}; {samples.name} has "
            f"{', '.join(samples.class_names)}. Choose a dataset with the model's classes."
        )
    order = [samples.class_names.index(name) for name in expected]
    return replace(samples, class_names=expected, labels=samples.labels[:, order])


def find_run(run):
    """Returns the path of a run's model and the run's recipe, or None where there is no run."""
    run = Path(run)
    if not run.is_dir():
        # A run's model.keras named itself: the recipe beside it knows what it was trained on.
        beside = run.parent / "recipe.yaml"
        return run, load_recipe(beside) if run.name == "model.keras" and beside.exists() else None
    folds = sorted(path.parent.name for path in run.glob("fold_*/model.keras"))
    if folds:
        raise RunError(
            f"{run} has a model in each of its folds, {', '.join(folds)}: evaluate one of them, "
            f"such as {run / folds[0]}. Its metrics.json sums up the folds' tests."
        )
    if not (run / "recipe.yaml").exists():
        raise RunError(
            f"Expected a run's folder with recipe.yaml and model.keras. Received: {run}, which "
            "lacks recipe.yaml."
        )
    return run / "model.keras", load_recipe(run / "recipe.yaml")


def _load_other(dataset, data_dir, known):
    """Reads a dataset that the model was not trained on: one `Fold`."""
    if dataset not in DATASETS and Path(dataset).is_dir():
        samples = load_dataset("folder", data_dir, path=str(Path(dataset).resolve()))
    else:
        samples = load_dataset(dataset, data_dir)
    if samples.splits is not None:
        return make_folds(samples, "official")[0]
    if not known:
        raise DataError(
            f"{samples.name} has no official splits, and which of its pictures the model was "
            "trained on is not known: evaluate the folder of its run instead of a file."
        )
    return Fold(samples, samples, samples, protocol=WHOLE, leaking=False)
