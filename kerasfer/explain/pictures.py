"""Explains the predictions for the faces in picture files, one figure per face."""

from pathlib import Path

from kerasfer.errors import DataError, RunError
from kerasfer.explain.explanation import explain
from kerasfer.explain.figures import plot_explanation
from kerasfer.explain.gradients import NoFeatureMap
from kerasfer.predict import Predictor
from kerasfer.predict.outputs import OutputNames
from kerasfer.predict.runtimes import load_runtime

ENDING = ".explained.png"


def explain_pictures(
    run, paths, output_dir, *, faces="mtcnn", margin=0.0, class_name=None, steps=16
):
    """Explains the prediction for each face in picture files, and writes a figure for each.

    The name of a figure is `<name of the picture>.explained.png`, or
    `<name of the picture>.face2.explained.png` for the second face of a picture.

    Args:
        run: A run folder, a `.keras` file or the name of a pretrained model. `None` selects the
            default pretrained model.
        paths: List of picture files.
        output_dir: Folder of the figures. It is created if it does not exist.
        faces, margin: As in `kerasfer.predict.Predictor`.
        class_name: The class to explain. `None` selects the predicted class of each face.
        steps: Number of steps of the insertion and deletion scores. 0 omits the scores.

    Yields:
        A dict for each picture: `picture`; `error`, a message or None; and `faces`, a list of dicts
        with `box` (x, y, width, height in pixels, or None for the whole picture), `class`,
        `probability`, `insertion`, `random_insertion`, `deletion`, `random_deletion` (None without
        steps), `regions` and `figure`, the path of its figure. For SPD-Attention, `regions` is a
        list of dicts with `box` (left, top, width and height as fractions of the crop) and
        `attention`. It is None for other models.

    Raises:
        RunError: If `run` cannot be loaded, is an exported model, does not have the class, or has
            no spatial feature map.
    """
    runtime = load_runtime(run)
    if runtime.model is None:
        raise RunError(
            f"{run} is an exported model, which has no gradients. Explain the run folder or its "
            "model.keras instead."
        )
    class_index = None if class_name is None else _find_class(runtime.class_names, class_name)
    predictor = Predictor(runtime, faces=faces, margin=margin)
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    names = OutputNames(paths, output_dir, ENDING)
    for path in paths:
        try:
            crops = predictor.find(path)
        except DataError as error:
            yield {"picture": str(path), "error": str(error), "faces": []}
            continue
        records = []
        for number, (face, crop) in enumerate(crops, start=1):
            try:
                (one,) = explain(runtime.model, crop[None], class_index, steps=steps)
            except NoFeatureMap as error:
                raise RunError(f"{run} cannot be explained: {error}") from error
            figure = names.take(path, number)
            plot_explanation(one, figure)
            records.append(_record(one, face, figure))
        yield {"picture": str(path), "error": None, "faces": records}


def _find_class(class_names, name):
    """Returns the index of a class.

    Raises:
        RunError: If no class has this name.
    """
    if name not in class_names:
        raise RunError(
            f"The class must be one of {', '.join(class_names)}. Received: --class {name}."
        )
    return list(class_names).index(name)


def _record(explanation, face, figure):
    scores = dict.fromkeys(("insertion", "random_insertion", "deletion", "random_deletion"))
    if explanation.score:
        for name in ("insertion", "deletion"):
            scores[name] = round(getattr(explanation.score, name), 4)
            scores[f"random_{name}"] = round(getattr(explanation.random_score, name), 4)
    regions = None
    if explanation.regions:
        regions = [
            {
                "box": [round(float(side), 4) for side in box],
                "attention": round(float(attention), 4),
            }
            for attention, box in zip(*explanation.regions, strict=True)
        ]
    return {
        "box": None if face is None else [round(float(value), 1) for value in face.box],
        "class": explanation.label,
        "probability": round(explanation.probability, 6),
        **scores,
        "regions": regions,
        "figure": str(figure),
    }
