"""Gathers the pictures that an export is compared on, and that set the ranges of int8."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from kerasfer.data.batches import Batches
from kerasfer.data.listing import list_class_folders, walk_pictures
from kerasfer.data.loading import load_dataset, load_fold
from kerasfer.data.pictures import read_picture, resize
from kerasfer.data.samples import limit
from kerasfer.errors import DataError
from kerasfer.export.job import DRAWN
from kerasfer.models.loading import with_classes_of
from kerasfer.runs.finding import find_run

NUM_PICTURES = 1000  # for the comparison
NUM_REPRESENTATIVE = 200  # for the ranges of activations
NUM_DRAWN = 140
DRAWN_SEED = 2015  # Differs from the seeds of runs on the synthetic dataset.
REMEDY = "Replace or remove the file."
DRAWN_NOTE = (
    "Drawn faces show that the export computes what the model computes, but not how accurate it is "
    "on photographs."
)


@dataclass(frozen=True, eq=False)
class Gathered:
    """Holds pictures in the input size of a model.

    Args:
        described: A description of the pictures.
        pictures: float32 `(n, size, size, 3)` in [0, 255], for the comparison.
        representative: float32 `(n, size, size, 3)`, for the ranges of int8.
        targets: int `(n,)`, the classes of `pictures`, or `None` if they are unknown.
        note: A note for the user about these pictures, or `None`.
    """

    described: str
    pictures: np.ndarray
    representative: np.ndarray
    targets: np.ndarray | None = None
    note: str | None = None


def gather(job, model, class_names):
    """Gathers the pictures of a folder or of a run's dataset, or draws faces.

    Faces are drawn if the dataset of the run is missing. They are not used for int8 unless the job
    requests them, because their ranges may not fit photographs.

    Args:
        job: `kerasfer.export.job.Job`.
        model: The `keras.Model`, whose inputs are square RGB pictures.
        class_names: The names of its classes.

    Returns:
        `Gathered`.

    Raises:
        DataError: If the pictures are missing or cannot be read.
    """
    size = model.input_shape[1]
    if job.pictures == DRAWN:
        return _draw(size, "drawn faces", DRAWN_NOTE)
    if job.pictures:
        return _read_folder(job.pictures, size, class_names, calibrates=job.quantize == "int8")
    try:
        return _read_run(job, model)
    except DataError as error:
        if job.quantize == "int8":
            raise DataError(
                f"{error} int8 needs pictures like those that the model was trained on: name a "
                "folder of face crops with --pictures."
            ) from error
        reason = " ".join(str(error).split())
        advice = "Name a folder of face crops with --pictures to compare on them."
        note = f"{reason} {DRAWN_NOTE} {advice}"
        return _draw(size, "drawn faces, since the dataset of the run is missing", note)


def _read_run(job, model):
    """Reads the validation split of a run for the comparison, and its training split for int8."""
    _, recipe = find_run(job.run)
    fold = load_fold(recipe.data, recipe.train.seed, job.data_dir)

    def read(samples, most, choose=limit):
        samples = choose(with_classes_of(model, samples), most)
        batches = Batches(
            samples, model.input_shape[1], 64, on_bad_image=recipe.data.on_bad_image, workers=0
        )
        parts = [batches[index] for index in range(len(batches))]
        return batches.samples.targets, np.concatenate([images for images, _ in parts])

    targets, pictures = read(fold.validation, NUM_PICTURES)
    calibrates = job.quantize == "int8"
    representative = read(fold.train, NUM_REPRESENTATIVE, balanced)[1] if calibrates else pictures
    described = f"{fold.validation.name}, validation split"
    return Gathered(described, pictures, representative, targets)


def balanced(samples, most, seed=0):
    """Keeps at most `most` samples, with equal numbers for all classes if possible.

    A rare expression may have the largest activations, which set the ranges of int8.

    Example:

    >>> samples = load_dataset("synthetic", num_samples=70)
    >>> np.bincount(balanced(samples.take(np.arange(30)), 14).targets).tolist()
    [2, 2, 2, 2, 2, 2, 2]
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    targets = np.asarray(samples.targets)[order]
    ranks = np.zeros(len(samples), dtype=int)
    for target in np.unique(targets):
        ranks[targets == target] = np.arange(np.sum(targets == target))
    return samples.take(np.sort(order[np.argsort(ranks, kind="stable")[:most]]))


def _read_folder(folder, size, class_names, calibrates):
    """Reads a folder, whose subfolders may have the names of the classes.

    For int8, half of the pictures set the ranges, and the others are compared.
    """
    paths = walk_pictures(folder, Counter())
    if not paths:
        raise DataError(f"Expected pictures in the folder {folder}. Received: none.")
    paths = _spread(paths, NUM_PICTURES + NUM_REPRESENTATIVE)
    pictures = np.stack([resize(read_picture(path, REMEDY), size) for path in paths])
    pictures = representative = pictures.astype("float32")
    targets = _targets_of(folder, paths, class_names)
    if calibrates and len(paths) > 1:
        pictures, representative = pictures[::2], pictures[1::2]
        targets = None if targets is None else targets[::2]
    return Gathered(str(folder), pictures, representative, targets)


def _targets_of(folder, paths, class_names):
    """Returns the classes of pictures in class folders, or `None` for other folders."""
    names = [path.relative_to(folder).parts[0] for path in paths]
    if set(names) - set(class_names) or not set(names) <= set(list_class_folders(folder)):
        return None
    return np.array([class_names.index(name) for name in names])


def _spread(values, most):
    """Keeps at most `most` values, evenly spread over all of them."""
    if len(values) <= most:
        return values
    return [values[int(place)] for place in np.linspace(0, len(values) - 1, most)]


def _draw(size, described, note):
    samples = load_dataset("synthetic", num_samples=NUM_DRAWN, seed=DRAWN_SEED, size=max(size, 48))
    drawn = [resize(samples.picture(index), size) for index in range(len(samples))]
    pictures = np.stack(drawn).astype("float32")
    return Gathered(described, pictures, pictures, note=note)
