"""Initializes a model with the weights of another run."""

from pathlib import Path

import keras

from kerasfer.errors import RunError
from kerasfer.files import sha256
from kerasfer.models.pretrained import PRETRAINED, pretrained_path
from kerasfer.runs.folder import RunFolder
from kerasfer.train.trained_models import load_trained


def is_own(weights):
    """Returns whether `model.weights` names a run folder, a `.keras` file or a pretrained model.

    Anything else, such as `imagenet` or a preset, is passed to the model's builder.
    """
    if weights is None:
        return False
    path = Path(weights).expanduser()
    run = RunFolder(path)
    is_run = run.recipe.is_file() or any(run.folds)
    return weights in PRETRAINED or path.suffix == ".keras" or is_run


def transfer(model, weights, fold, number=None, data_dir=None):
    """Loads the weights of a trained model into a new one.

    Args:
        model: The model that the recipe describes, built with random weights.
        weights: The recipe's `model.weights`, which `is_own`.
        fold: The `kerasfer.data.protocols.Fold` to train on.
        number: The number of the fold, or None.
        data_dir: The folder of the datasets, in which the training pictures of the other run are
            looked for.

    Returns:
        What `environment.json` records: `{"path", "sha256", "taken", "fresh"}`, the last two being
        lists of layer names.

    Raises:
        RunError: If there is no trained model, or its feature extractor is a different one.
        RecipeError: If the model was trained on this run's test pictures.
    """
    given = Path(weights).expanduser()
    path = pretrained_path(weights) if weights in PRETRAINED else given
    found, source = load_trained("model.weights", path, fold, number, data_dir, landmarks=True)
    try:
        taken, fresh = copy_weights(model, source)
    except RunError as error:
        raise RunError(f"model.weights: {error}") from error
    return {"path": str(given), "sha256": sha256(found.model), "taken": taken, "fresh": fresh}


def copy_weights(model, source):
    """Copies the weights of all layers that two models share.

    Layers correspond by name and by the shapes of their weights. A feature extractor of another
    name is used too if its shapes are the same, so that a plain classifier can initialize OBSR-Net.
    The last dense layer is copied only if the classes are the same, in the same order.

    Args:
        model: The `keras.Model` to change.
        source: The `keras.Model` to copy from.

    Returns:
        Two lists of names: the layers that were copied, and those that keep their weights.

    Raises:
        RunError: If a feature extractor of `model` has no counterpart, or nothing corresponds.
    """
    taken, fresh = [], []
    same_classes = model.layers[-1].class_names == source.layers[-1].class_names
    for layer in model.layers:
        if not layer.weights:
            continue
        other = _counterpart(layer, source)
        if other is None and isinstance(layer, keras.Model):
            raise RunError(
                f"its feature extractor must have the same layers as this model's {layer.name}: "
                "set model.name, model.backbone and model.stem as in that run, or choose another."
            )
        if other is None or (layer.name == "logits" and not same_classes):
            fresh.append(layer.name)
            continue
        layer.set_weights(other.get_weights())
        taken.append(layer.name)
    if not taken:
        raise RunError(
            "it must share layers with this model: set model.name as in that run, or choose "
            f"another. Received: {model.name} and {source.name}."
        )
    return taken, fresh


def _counterpart(layer, source):
    def fits(other):
        return [w.shape for w in other.weights] == [w.shape for w in layer.weights]

    named = [other for other in source.layers if other.name == layer.name]
    extractors = [other for other in source.layers if isinstance(other, keras.Model)]
    candidates = [*named, *extractors] if isinstance(layer, keras.Model) else named
    return next((other for other in candidates if fits(other)), None)
