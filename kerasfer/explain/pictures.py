"""Explains the predictions for the faces in picture files, one figure per face."""

from pathlib import Path

from kerasfer.errors import DataError, RunError
from kerasfer.explain.figures import plot_explanation
from kerasfer.explain.gradients import NoFeatureMap
from kerasfer.explain.maps import class_of, explain
from kerasfer.predict import Predictor
from kerasfer.predict.outputs import OutputNames
from kerasfer.predict.runtimes import load_runtime

ENDING = ".explained.png"


def explain_pictures(
    run, paths, output_dir, *, faces="mtcnn", margin=0.0, class_name=None, steps=16
):
    """Explains the prediction for each face in picture files, and writes a figure for each.

    Figures are named `<name of the picture>.explained.png`. From the second face of a picture on
    they are named `<name>.face2.explained.png` and so on.

    Args:
        run: A run folder, a `.keras` file or the name of a pretrained model. `None` selects the
            default pretrained model.
        paths: List of picture files.
        output_dir: Folder of the figures, which is created.
        faces, margin: As in `kerasfer.predict.Predictor`.
        class_name: The class to explain. `None` selects the predicted class of each face.
        steps: Number of steps of the insertion and deletion scores. 0 omits the scores.

    Yields:
        A dict for each picture: `picture`; `error`, a message or None; and `faces`, a list of dicts
        with `box` (x, y, width, height in pixels, or None for the whole picture), `class`,
        `probability`, `insertion`, `random_insertion`, `deletion`, `random_deletion` (None without
        steps), `regions` (of SPD-Attention a list of dicts with `box`, left, top, width and height
        as shares of the crop, and `attention`; else None) and `figure`, the path of its figure.

    Raises:
        RunError: If `run` is an exported model, has no such class or no spatial feature map.
    """
    runtime = load_runtime(run)
    if runtime.model is None:
        raise RunError(
            f"{run} is an exported model, which has no gradients. Explain the run folder or its "
            "model.keras instead."
        )
    class_index = None if class_name is None else class_of(runtime.class_names, class_name)
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
