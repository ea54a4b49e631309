"""Writes `report.html` for a run: results, comparison with the paper and misclassified pictures.

The page is a single file with embedded styles, curves and pictures. It contains no scripts and
loads no resources from a network, so it can be mailed or archived.
"""

import base64
import io

import numpy as np
from PIL import Image

from kerasfer import __version__
from kerasfer.errors import RunError
from kerasfer.evaluate.confusion_matrix import plot_confusion_matrix
from kerasfer.evaluate.metrics import summarize_folds
from kerasfer.files import write_json, write_text
from kerasfer.recipe import dump
from kerasfer.report.figures import best_epoch, curve_panels
from kerasfer.runs.folder import RunFolder
from kerasfer.text import duration, load_template, percent

PAPERS = {
    "obsr": "Lyu et al., Facial Expression Recognition via Optimized Bilinear ResNet34, 2024",
    "spd_attention": "Du et al., Local-manifold Attention for Facial Expression Recognition, 2022",
}
_ENVIRONMENT = (
    "kerasfer",
    "python",
    "keras",
    "backend",
    "backend_version",
    "device",
    "seed",
    "git_revision",
    "started",
    "seconds",
    "num_parameters",
    "platform",
    "teacher",
)
_THUMBNAIL = 128  # Pixels. Pictures are shown at 96 pixels.


def write_report(run_dir, *, mistakes=None, leaking=None):
    """Writes `report.html` into a run folder, from the other files of the run.

    Reads `metrics.json` and, if they exist, `recipe.yaml`, `environment.json`, `history.csv` and
    `heat_maps.png`. Sections without data are left out of the page.

    Args:
        run_dir: The run folder.
        mistakes: Dicts with `picture` (uint8, `(h, w, 3)` or `(h, w)`), `id`, `target` and
            `prediction` (class names), and `probability` in [0, 1]; shown in the given order.
        leaking: Whether frames of one sequence are in both training and test. None to read it from
            `metrics.json`.

    Returns:
        The path of the report.

    Raises:
        RunError: If `metrics.json` is missing, or a file of the run is damaged.
    """
    run = RunFolder(run_dir)
    if not run.metrics.exists():
        raise RunError(
            f"{run.path} is not a finished run, since it has no {run.metrics.name}. Finish it with "
            "`kerasfer train --resume`."
        )
    metrics, environment = run.read_metrics(), run.read_environment()
    recipe = run.load_recipe() if run.exists else None
    history = run.read_history()
    monitor = recipe.train.monitor if recipe else "val_accuracy"
    folder = run.path.resolve().name
    page = _template().render(
        metrics=metrics,
        leaking=metrics.get("leaking", False) if leaking is None else leaking,
        majority=_majority(metrics),
        confusions=_largest_confusions(metrics),
        paper=_compare_with_paper(recipe and recipe.reproduces, metrics),
        name=recipe.name if recipe else folder,
        fold=folder if folder.startswith("fold_") else None,
        description=recipe.description if recipe else "",
        model=recipe.model.name if recipe else None,
        environment={**dict.fromkeys(_ENVIRONMENT), **environment},
        teacher=_describe_teacher(environment.get("teacher"), metrics),
        extensions=_describe_extensions(environment.get("extended", ())),
        epochs=len(history),
        monitor=monitor,
        best_epoch=best_epoch(history, monitor),
        curves={
            title: _data_uri(svg, "image/svg+xml")
            for title, svg in curve_panels(history, monitor=monitor).items()
        },
        heat_maps=_embedded(run.heat_maps),
        mistakes=[{**m, "picture": _thumbnail(m["picture"])} for m in mistakes or ()],
        recipe_text=dump(recipe) if recipe else "",
        version=__version__,
    )
    write_text(run.report, page)
    return run.report


def write_folds_report(run_dir):
    """Summarizes the finished folds `fold_0/ …` of a run folder in the folder itself.

    Writes `metrics.json` (of `summarize_folds`; each fold with the name of its folder),
    `confusion_matrix.png` and `report.html`, whose rows link to the folds' own reports;
    `environment.json`, that of the first fold with the seconds of all; and the `recipe.yaml` of the
    first fold, if the folder has none.

    Args:
        run_dir: The folder that holds `fold_0`, `fold_1`, …

    Returns:
        The path of the report.

    Raises:
        RunError: If no fold is finished.
    """
    run = RunFolder(run_dir)
    folds = [fold for fold in run.folds if fold.metrics.exists()]
    if not folds:
        raise RunError(
            f"Expected finished folds in {run.path} (fold_0/{run.metrics.name}, …), but there are "
            "none. Finish them with `kerasfer train --resume`."
        )
    summary = summarize_folds([fold.read_metrics() for fold in folds])
    for scores, fold in zip(summary["folds"], folds, strict=True):
        scores["name"] = fold.path.name
    write_json(run.metrics, summary)
    plot_confusion_matrix(summary, run.confusion_matrix)
    if not run.exists:
        write_text(run.recipe, dump(folds[0].load_recipe()))
    environments = [fold.read_environment() for fold in folds]
    seconds = sum(environment.get("seconds") or 0 for environment in environments)
    write_json(run.environment, {**environments[0], "seconds": seconds})
    return write_report(run.path)


def _compare_with_paper(reproduces, metrics):
    """Compares the measured accuracy with the paper's, which is given in percent."""
    if reproduces is None:
        return None
    low, high = metrics["accuracy_interval"]
    published = reproduces.accuracy / 100
    place = (f"Table {reproduces.table}", reproduces.row, reproduces.column)
    return {
        "title": PAPERS.get(reproduces.paper, reproduces.paper),
        "place": ", ".join(filter(None, place)),
        "accuracy": published,
        "points": 100 * (metrics["accuracy"] - published),
        "inside": low <= published <= high,
    }


def _describe_teacher(teacher, metrics):
    """Names the teacher of a student, and how much of its accuracy the student keeps."""
    if not teacher:
        return None
    # In the folder above folds with one teacher each, this is the teacher of the first fold.
    if not teacher.get("accuracy") or metrics.get("folds"):
        return teacher["path"]
    kept = metrics["accuracy"] / teacher["accuracy"]
    return (
        f"{teacher['path']}, {percent(teacher['accuracy'], 2)} on the same pictures, "
        f"of which the student keeps {percent(kept, 1)}"
    )


def _describe_extensions(extensions):
    """Lists the epochs after which a finished run was trained further."""
    return ", ".join(
        f"after epoch {step['after_epoch']} ("
        + ", ".join(f"{key}: {old} → {new}" for key, (old, new) in step["changes"].items())
        + ")"
        for step in extensions
    )


def _majority(metrics):
    """Returns the most frequent class, and the accuracy of always predicting it."""
    name, scores = max(metrics["per_class"].items(), key=lambda item: item[1]["support"])
    return {"name": name, "accuracy": scores["support"] / metrics["num_samples"]}


def _largest_confusions(metrics, n=3):
    """Lists the most frequent confusions, by share of the true class."""
    names, counts = metrics["class_names"], np.array(metrics["confusion_matrix"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    rows, columns = np.unravel_index(np.argsort(-shares, axis=None)[:n], shares.shape)
    return [
        {"target": names[i], "prediction": names[j], "share": float(shares[i, j])}
        for i, j in zip(rows, columns, strict=True)
        if shares[i, j] > 0
    ]


def _template():
    return load_template("kerasfer.report", "report.html.jinja", percent=percent, duration=duration)


def _thumbnail(picture):
    image = Image.fromarray(np.asarray(picture, dtype=np.uint8))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return _data_uri(file.getvalue(), "image/png")


def _embedded(path):
    return _data_uri(path.read_bytes(), "image/png") if path.exists() else None


def _data_uri(data, kind):
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
