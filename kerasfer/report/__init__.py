"""One `report.html` a run: what ran, how well, beside the paper, and where it fails.

The page is one file: styles, curves and pictures are inside it, it runs no script and asks nothing
of the network, so it can be mailed or archived as it is.
"""

import base64
import io
import json
from pathlib import Path

import jinja2
import numpy as np
import yaml
from PIL import Image

from kerasfer import __version__
from kerasfer.errors import RunError
from kerasfer.evaluate.metrics import summarise_folds
from kerasfer.files import write_json, write_text
from kerasfer.report.figures import best_epoch, curve_panels, plot_confusion_matrix, read_history
from kerasfer.text import duration, percent

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
_THUMBNAIL = 128  # pixels, shown at 96: sharp enough, and sixteen stay small


def write_report(run_dir, *, mistakes=None, leaking=None):
    """Writes `report.html` into a run folder from what the run left there.

    Reads `metrics.json`, and as far as they exist `recipe.yaml`, `environment.json`,
    `history.csv` and `heat_maps.png`: what is missing is left out of the page.

    Args:
        run_dir: the run folder.
        mistakes: dicts with `picture` (uint8, `(h, w, 3)` or `(h, w)`), `id`, `target` and
            `prediction` (class names), and `probability` in [0, 1]; shown in the given order.
        leaking: whether frames of one sequence are in both training and test; by default as
            `metrics.json` says.

    Returns:
        The path of the report.

    Raises:
        RunError: `metrics.json` is missing, or a file of the run is damaged.
    """
    run_dir = Path(run_dir)
    metrics = _read_json(run_dir / "metrics.json")
    if not metrics:
        raise RunError(
            f"Expected {run_dir} to be a finished run with a metrics.json, but there is none. "
            "Finish it with `kerasfer train --resume`, or evaluate it with `kerasfer evaluate`."
        )
    recipe_text = _read_text(run_dir / "recipe.yaml")
    recipe = _parse(yaml.safe_load, recipe_text, run_dir / "recipe.yaml")
    history_path = run_dir / "history.csv"
    history = read_history(history_path) if history_path.exists() else []
    monitor = (recipe.get("train") or {}).get("monitor") or "val_accuracy"
    folder = run_dir.resolve().name
    environment = {**dict.fromkeys(_ENVIRONMENT), **_read_json(run_dir / "environment.json")}

    page = _template().render(
        metrics=metrics,
        leaking=metrics.get("leaking", False) if leaking is None else leaking,
        majority=_majority(metrics),
        confusions=_largest_confusions(metrics),
        paper=_compare_with_paper(recipe.get("reproduces"), metrics),
        name=recipe.get("name") or folder,
        fold=folder if folder.startswith("fold_") else None,
        description=recipe.get("description"),
        model=(recipe.get("model") or {}).get("name"),
        environment=environment,
        teacher=_describe_teacher(environment["teacher"], metrics),
        epochs=len(history),
        monitor=monitor,
        best_epoch=best_epoch(history, monitor),
        curves={
            title: _data_uri(svg, "image/svg+xml")
            for title, svg in curve_panels(history, monitor=monitor).items()
        },
        heat_maps=_picture_of_the_run(run_dir / "heat_maps.png"),
        mistakes=[{**m, "picture": _thumbnail(m["picture"])} for m in mistakes or ()],
        recipe_text=recipe_text,
        version=__version__,
    )
    path = run_dir / "report.html"
    write_text(path, page)
    return path


def write_folds_report(run_dir):
    """Sums up the finished folds `fold_0/ …` of a run folder in the folder itself.

    Writes `metrics.json` (of `summarise_folds`; each fold with its folder's name),
    `confusion_matrix.png` and `report.html`, whose rows link to the folds' own reports;
    `environment.json`, the first fold's with the seconds of all; and the first fold's
    `recipe.yaml`, where the folder has none of its own.

    Args:
        run_dir: the folder that holds `fold_0`, `fold_1`, …

    Returns:
        The path of the report.

    Raises:
        RunError: no fold is finished.
    """
    run_dir = Path(run_dir)
    folds = sorted(
        (path.parent for path in run_dir.glob("fold_*/metrics.json")),
        key=lambda fold: (len(fold.name), fold.name),  # fold_2 before fold_10
    )
    if not folds:
        raise RunError(
            f"Expected finished folds in {run_dir} (fold_0/metrics.json, …), but there are none. "
            "Finish them with `kerasfer train --resume`."
        )
    summary = summarise_folds([_read_json(fold / "metrics.json") for fold in folds])
    for scores, fold in zip(summary["folds"], folds, strict=True):
        scores["name"] = fold.name
    write_json(run_dir / "metrics.json", summary)
    plot_confusion_matrix(summary, run_dir / "confusion_matrix.png")

    if not (run_dir / "recipe.yaml").exists() and (recipe := _read_text(folds[0] / "recipe.yaml")):
        write_text(run_dir / "recipe.yaml", recipe)
    environments = [_read_json(fold / "environment.json") for fold in folds]
    seconds = sum(environment.get("seconds") or 0 for environment in environments)
    write_json(run_dir / "environment.json", {**environments[0], "seconds": seconds})
    return write_report(run_dir)


def _compare_with_paper(reproduces, metrics):
    """Sets the paper's accuracy, in percent, beside the measured one."""
    if not reproduces or reproduces.get("accuracy") is None:
        return None
    low, high = metrics["accuracy_interval"]
    published = reproduces["accuracy"] / 100
    return {
        "title": PAPERS.get(reproduces.get("paper"), reproduces.get("paper")),
        "place": ", ".join(
            f"{label}{reproduces[key]}"
            for key, label in {"table": "Table ", "row": "", "column": ""}.items()
            if reproduces.get(key) is not None
        ),
        "accuracy": published,
        "points": 100 * (metrics["accuracy"] - published),
        "inside": low <= published <= high,
    }


def _describe_teacher(teacher, metrics):
    """Says what a student learned from, and how much of its accuracy it kept."""
    if not teacher:
        return None
    # Above folds, each of which had a teacher of its own, this is the first one's.
    if not teacher.get("accuracy") or metrics.get("folds"):
        return teacher["path"]
    kept = metrics["accuracy"] / teacher["accuracy"]
    return (
        f"{teacher['path']}, {percent(teacher['accuracy'], 2)} on the same pictures, "
        f"of which the student keeps {percent(kept, 1)}"
    )


def _majority(metrics):
    """Gives the accuracy of always answering the most frequent class, and that class."""
    name, scores = max(metrics["per_class"].items(), key=lambda item: item[1]["support"])
    return {"name": name, "accuracy": scores["support"] / metrics["num_samples"]}


def _largest_confusions(metrics, n=3):
    """Lists which classes are most often taken for which, by share of the true class."""
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
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kerasfer.report", "."),
        autoescape=True,  # class names and ids come from users' folders
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "duration": duration}
    return environment.get_template("report.html.jinja")


def _thumbnail(picture):
    image = Image.fromarray(np.asarray(picture, dtype=np.uint8))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return _data_uri(file.getvalue(), "image/png")


def _picture_of_the_run(path):
    return _data_uri(path.read_bytes(), "image/png") if path.exists() else None


def _data_uri(data, kind):
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _read_text(path):
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _read_json(path):
    return _parse(json.loads, _read_text(path), path)


def _parse(parse, text, path):
    """Parses the text of a file of the run, which holds a mapping; nothing becomes `{}`."""
    try:
        value = parse(text) if text else {}
        if not isinstance(value, dict):
            raise ValueError("it holds no names with values")
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"Expected {path} as `kerasfer train` wrote it, but it is damaged: {reason}. "
            "Restore it, or remove it and evaluate the run again."
        ) from error
    return value
