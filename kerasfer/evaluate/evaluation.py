"""Evaluates a trained model on a split of a dataset."""

import os
from pathlib import Path

import numpy as np
from keras import ops

from kerasfer.data.augment import views
from kerasfer.data.batches import Batches, original_errors
from kerasfer.data.checks.duplicates import exact_duplicates
from kerasfer.data.lists import load_list, match
from kerasfer.data.loading import DATASETS, load_dataset, load_fold
from kerasfer.data.protocols import Fold, make_folds
from kerasfer.data.samples import SPLITS, limit
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.evaluate.metrics import classification_metrics
from kerasfer.files import write_json
from kerasfer.models.loading import check_landmarks, load_model, picture_input, with_classes_of
from kerasfer.runs.finding import find_run

WHOLE = "whole"  # the split of a dataset that has none


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
        image_size=picture_input(model).shape[1],
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
        batches: `kerasfer.data.batches.Batches`, not shuffled.
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
