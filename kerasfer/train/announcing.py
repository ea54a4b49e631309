"""Prints descriptions of a training before it begins and after it ends."""

import numpy as np

from kerasfer.data.decoded import describe_large
from kerasfer.runs.environment import emulates_half_precision
from kerasfer.text import duration, percent, printable


def announce(recipe, facts, batches, path, tell):
    """Describes a training that begins or is resumed.

    Args:
        recipe: `kerasfer.recipe.Recipe`.
        facts: The dict of `environment.json`.
        batches: `TrainingBatches`.
        path: The run folder.
        tell: Function that prints a line.
    """
    sizes = " / ".join(f"{len(part.samples):,}" for part in batches)
    tell(
        f"{recipe.name}: {recipe.model.name}, {facts['num_parameters']:,} parameters, on {sizes} "
        f"pictures of {recipe.data.name} (train / validation / test), {facts['backend']} on "
        f"{facts['device']}, into {printable(path)}"
    )
    if "weights" in facts:
        weights = facts["weights"]
        fresh = f"; random: {', '.join(weights['fresh'])}" if weights["fresh"] else ""
        tell(f"Weights from {printable(weights['path'])}: {', '.join(weights['taken'])}{fresh}.")
    if recipe.train.precision != "float32" and emulates_half_precision():
        tell(
            f"This CPU only emulates {recipe.train.precision}. With "
            "--set train.precision=float32 an epoch is several times faster."
        )


def announce_data(batches, duplicates, tell):
    """Describes the landmarks, unreadable pictures and duplicates of the data.

    Args:
        batches: `TrainingBatches`.
        duplicates: bool array, which test pictures are in the training set too.
        tell: Function that prints a line.
    """
    notes = (*batches.train.samples.notes, *describe_large(batches.train.samples))
    for line in (*notes, *_landmarks(batches), *_bad_pictures(batches), *_duplicates(duplicates)):
        tell(line)


def announce_checkpoint(checkpoint, tell):
    """Describes the `Checkpoint` that a training is resumed from."""
    for path in checkpoint.damaged:
        tell(f"The checkpoint {path} is damaged. The one before it is used.")
    tell(f"Resuming after epoch {len(checkpoint.history)}.")


def announce_result(metrics, facts, seconds, tell):
    """Describes the evaluation on the test split.

    Args:
        metrics: The dict of `metrics.json`.
        facts: The dict of `environment.json`.
        seconds: The duration of the evaluation.
        tell: Function that prints a line.
    """
    tell(f"Evaluated {metrics['num_samples']:,} test pictures in {duration(seconds)}.")
    accuracy = (facts.get("teacher") or {}).get("accuracy")
    if accuracy:
        tell(
            f"The teacher's accuracy on the same pictures is {percent(accuracy)}; the student "
            f"keeps {percent(metrics['accuracy'] / accuracy, 1)} of it."
        )


def _landmarks(batches):
    marks = [part.samples.landmarks for part in batches if part.samples.landmarks is not None]
    if marks:
        known = sum(int(np.isfinite(points).all(axis=(1, 2)).sum()) for points in marks)
        yield (
            f"Landmarks are known for {known:,} of {sum(map(len, marks)):,} pictures. The others "
            "are cropped at fixed positions."
        )


def _bad_pictures(batches):
    bad = [printable(name) for part in batches for name in part.bad_images]
    if bad:
        shown = ", ".join(bad[:5]) + (" …" if len(bad) > 5 else "")
        yield f"Skipped {len(bad)} unreadable pictures: {shown}"


def _duplicates(duplicates):
    count = int(duplicates.sum())
    if count:
        yield (
            f"{count:,} of {len(duplicates):,} test pictures are in the training set too. The "
            "accuracy is computed with and without them."
        )
