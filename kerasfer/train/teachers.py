"""Loads the teacher of a distillation, checks that it fits, and computes its predictions."""

from pathlib import Path

import keras
from keras import ops

from kerasfer import keras_internals
from kerasfer.errors import DataError, RunError
from kerasfer.files import sha256
from kerasfer.train.distillation import last_maps
from kerasfer.train.trained_models import load_trained


class Teacher:
    """Computes the predictions of a trained model for batches of pictures.

    The class is intentionally not a Keras layer, so a model with a teacher neither trains nor saves
    the weights of the teacher.

    Args:
        model: A trained model of kerasfer.
        class_names: The classes of the student, in its order.
        name: The name of the model in error messages.

    Raises:
        DataError: If the model has other classes.
    """

    def __init__(self, model, class_names, name="the teacher"):
        known = tuple(model.layers[-1].class_names)
        if set(known) != set(class_names):
            raise DataError(
                f"The student has the classes {', '.join(class_names)}; {name} has "
                f"{', '.join(known)}. Choose a teacher of the same classes."
            )
        model.trainable = False
        self.model = model
        self.image_size = model.input_shape[1]
        self.supports_jit = all(
            layer.supports_jit for layer in keras_internals.flatten_layers(model)
        )
        self._order = [known.index(name) for name in class_names]
        self._with_maps = None

    def __call__(self, pictures, with_maps=False):
        """Predicts probabilities, and optionally the last feature maps.

        Args:
            pictures: RGB `(batch, height, width, 3)` in [0, 255]. They are resized to the model's
                input size.
            with_maps: Whether to return `last_maps` too.

        Returns:
            A list of one or two tensors, through which no gradient flows. The first one is
            `(batch, num_classes)`.
        """
        size = (self.image_size, self.image_size)
        if tuple(pictures.shape[1:3]) != size:
            pictures = ops.image.resize(pictures, size, antialias=True, data_format="channels_last")
        if with_maps and self._with_maps is None:
            outputs = [self.model.output, last_maps(self.model)]
            self._with_maps = keras.Model(self.model.input, outputs)
        model = self._with_maps if with_maps else self.model
        probabilities, *maps = keras.tree.flatten(model(pictures, training=False))
        probabilities = ops.take(probabilities, ops.array(self._order), axis=-1)
        return [ops.stop_gradient(answer) for answer in (probabilities, *maps)]


def load_teacher(path, fold, number=None, data_dir=None):
    """Loads the teacher of a student.

    Args:
        path: The recipe's `distill.teacher`. In a run of several folds, the model of the student's
            fold is used.
        fold: The student's `kerasfer.data.protocols.Fold`.
        number: The number of the fold, or None.
        data_dir: The folder of the datasets, in which the teacher's training pictures are looked
            for.

    Returns:
        A `Teacher`, and a dict for `environment.json` with the keys `path`, `sha256` and
        `accuracy`, the accuracy on the student's test split or None if it is unknown.

    Raises:
        RunError: If there is no trained model.
        DataError: If the model has other classes.
        RecipeError: If it was trained on the student's test pictures.
    """
    given = Path(path).expanduser()
    if not given.exists():
        raise RunError(
            "distill.teacher must be the folder of a trained run or a .keras file. Received: "
            f"{path}, which does not exist. Train it first, or name another one "
            "with --set distill.teacher=…."
        )
    found, model = load_trained("distill.teacher", given, fold, number, data_dir)
    teacher = Teacher(model, fold.train.class_names, str(given))
    facts = {"path": str(given), "sha256": sha256(found.model)}
    return teacher, facts | {"accuracy": _accuracy(found, fold)}


def _accuracy(found, fold):
    """Returns the teacher's accuracy on the student's test split, or None if it is unknown."""
    if found.folder is None or not found.folder.metrics.exists():
        return None
    metrics = found.folder.read_metrics()
    ours = (fold.test.name, "test", fold.protocol, len(fold.test))
    theirs = tuple(metrics.get(key) for key in ("dataset", "split", "protocol", "num_samples"))
    return metrics.get("accuracy") if ours == theirs else None
