"""Predicts the classes of samples and computes their metrics, for training and `evaluate`."""

from dataclasses import dataclass, replace

import numpy as np
from keras import ops

from kerasfer.data.augment import views
from kerasfer.data.batches import original_errors
from kerasfer.data.samples import Samples
from kerasfer.evaluate.confusion_matrix import plot_confusion_matrix
from kerasfer.evaluate.metrics import classification_metrics
from kerasfer.files import write_json
from kerasfer.runs.predictions import write_predictions

__all__ = ["Evaluation", "evaluate_batches", "predict_probabilities"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of an evaluation.

    Args:
        samples: The `Samples` that were evaluated.
        probabilities: float32 `(len(samples), num_classes)`.
        metrics: The dict of `classification_metrics`.
    """

    samples: Samples
    probabilities: np.ndarray
    metrics: dict

    def with_facts(self, **facts):
        """Returns the same evaluation with more entries in its metrics."""
        return replace(self, metrics=self.metrics | facts)

    def write(self, metrics_path, predictions_path, figure_path):
        """Writes the predictions, the confusion matrix and, last, the metrics.

        Raises:
            RunError: If a file cannot be written.
        """
        samples = self.samples
        write_predictions(
            predictions_path, samples.ids, samples.targets, self.probabilities, samples.class_names
        )
        plot_confusion_matrix(self.metrics, figure_path)
        write_json(metrics_path, self.metrics)


def evaluate_batches(model, batches, fold, *, split="test", tta="none", duplicates=None):
    """Evaluates a model on one part of a fold.

    Args:
        model: A model of `kerasfer.models`.
        batches: `kerasfer.data.batches.Batches` of that part, not shuffled.
        fold: The `kerasfer.data.protocols.Fold` that the part belongs to.
        split: The name of the part.
        tta: Test-time views, `"none"`, `"flip"` or `"ten_crop"`.
        duplicates: bool `(n,)`, which of the pictures are in the training set too, or None if this
            is unknown.

    Returns:
        An `Evaluation`.
    """
    samples = batches.samples
    probabilities = predict_probabilities(model, batches, tta)
    metrics = classification_metrics(
        probabilities,
        samples.targets,
        samples.class_names,
        dataset=samples.name,
        split=split,
        protocol=fold.protocol,
        leaking=fold.leaking,
        duplicates=duplicates,
    )
    return Evaluation(samples, probabilities, metrics)


def predict_probabilities(model, batches, tta="none"):
    """Predicts the probabilities of all samples, averaged over the views of each.

    Args:
        model: A model of `kerasfer.models`.
        batches: `kerasfer.data.batches.Batches`, not shuffled.
        tta: `"none"`, `"flip"` or `"ten_crop"`.

    Returns:
        float32 `(n, num_classes)`, in the order of the samples.
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
