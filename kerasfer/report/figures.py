"""The figures of a run: its confusion matrix and its learning curves.

Drawn on `Figure` objects, without pyplot: nothing global is opened, closed or restyled. The two
colours are told apart with any colour vision, in print and on dark pages.
"""

import csv
import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from kerasfer.errors import RunError
from kerasfer.plotting import BLUE, INK, ORANGE, SOFT_INK, save, style


def plot_confusion_matrix(metrics, path):
    """Draws which class was taken for which, in percent of the true class and in counts.

    Right answers are blue and mistakes orange, the darker the larger their share of the row.

    Args:
        metrics: a dict with `confusion_matrix` and `class_names`, as `classification_metrics`
            or `summarise_folds` gives it.
        path: the picture to write; its suffix chooses the format.
    """
    side = 2.2 + 0.68 * len(metrics["class_names"])
    with style(INK):
        figure = Figure(figsize=(side, side), layout="constrained")
        draw_confusion_matrix(figure.add_subplot(), metrics)
        save(figure, path)


def draw_confusion_matrix(axes, metrics):
    """Draws what `plot_confusion_matrix` does onto axes of a figure, inside a `style`."""
    names, counts = metrics["class_names"], np.array(metrics["confusion_matrix"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colors = np.where(np.eye(len(names), dtype=bool)[..., None], _rgb(BLUE), _rgb(ORANGE))
    strength = shares[..., None] ** 0.7  # keeps the small shares of mistakes visible

    axes.imshow(1 + strength * (colors - 1))  # from white to the full colour
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if strength[row, column] > 0.6 else INK
        position = {"color": color, "ha": "center"}
        axes.text(column, row, f"{shares[row, column]:.0%}", va="bottom", size=11, **position)
        axes.text(column, row + 0.1, f"{count:,}", va="top", size=7.5, **position)
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [f"{n}  ({c:,})" for n, c in zip(names, counts.sum(1), strict=True)])
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # a "$" in a folder's name is a "$"
    axes.set(xlabel="predicted", ylabel="true (pictures)")
    interval = metrics.get("accuracy_interval")
    between = f" [{interval[0]:.1%}, {interval[1]:.1%}]" if interval else ""
    axes.set_title(
        f"accuracy {metrics['accuracy']:.1%}{between}   macro recall {metrics['macro_recall']:.1%}"
    )
    axes.grid(False)
    axes.set_xticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.grid(which="minor", color="white", alpha=1, linewidth=3)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def plot_curves(history, path, *, monitor="val_accuracy"):
    """Draws loss, accuracy and learning rate over the epochs, and marks the best epoch.

    Args:
        history: the path of a `history.csv`, or its rows as `read_history` gives them. Columns that
            are missing leave their panel empty.
        path: the picture to write; its suffix chooses the format.
        monitor: the column that says which epoch is best, the lowest if its name ends in `loss`,
            else the highest.
    """
    rows = history if isinstance(history, list) else read_history(history)
    with style(INK):
        figure = Figure(figsize=(13, 3.6), layout="constrained")
        for axes, draw in zip(figure.subplots(1, len(_PANELS)), _PANELS.values(), strict=True):
            draw(axes, rows, best_epoch(rows, monitor))
        save(figure, path)


def curve_panels(history, *, monitor="val_accuracy"):
    """Draws each panel of `plot_curves` that has data as an SVG of its own, on no background.

    Returns:
        A dict from the panel's title to the bytes of its SVG.
    """
    best, panels = best_epoch(history, monitor), {}
    for title, draw in _PANELS.items():
        with style(SOFT_INK):
            figure = Figure(figsize=(4.6, 3.2), layout="constrained")
            axes = figure.add_subplot()
            draw(axes, history, best)
            axes.set_title("")
            if axes.lines:
                file = io.BytesIO()
                figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
                panels[title] = file.getvalue()
    return panels


def read_history(path):
    """Reads `history.csv` as a list of dicts of floats, an empty field as NaN.

    Raises:
        RunError: the file is missing, or a field is no number.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [
                {name: float(value) if value else np.nan for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"Expected {path} to be a table of numbers, a row an epoch, but it cannot be read: "
            f"{error}."
        ) from error


def best_epoch(history, monitor="val_accuracy"):
    """Gives the `epoch` whose `monitor` is best, or None where it was never measured."""
    values = _column(history, monitor)
    if np.isnan(values).all():
        return None
    best = np.nanargmin(values) if monitor.endswith("loss") else np.nanargmax(values)
    return int(_column(history, "epoch")[best])


def draw_losses(axes, history):
    """Draws the losses of training and validation onto axes, inside a `style`.

    Args:
        axes: of a figure.
        history: rows as `read_history` gives them.
    """
    _draw_loss(axes, history, None)
    axes.set_title("")


def _draw_loss(axes, rows, best):
    _draw_lines(axes, rows, best, loss="training", val_loss="validation")
    axes.set_title("Loss")


def _draw_accuracy(axes, rows, best):
    _draw_lines(axes, rows, best, accuracy="training", val_accuracy="validation")
    axes.set_title("Accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_learning_rate(axes, rows, best):
    _draw_lines(axes, rows, best, learning_rate=None)
    axes.set_title("Learning rate")
    rates = _column(rows, "learning_rate")
    rates = rates[np.isfinite(rates)]
    if len(rates) and 0 < rates.min() < rates.max() / 20:
        axes.set_yscale("log")


_PANELS = {
    "Loss": _draw_loss,
    "Accuracy": _draw_accuracy,
    "Learning rate": _draw_learning_rate,
}


def _draw_lines(axes, rows, best, **labels):
    epochs = _column(rows, "epoch")
    marker = "o" if len(rows) <= 12 else None
    for (name, label), color in zip(labels.items(), (BLUE, ORANGE), strict=False):
        values = _column(rows, name)
        if np.isfinite(values).any():
            axes.plot(epochs, values, color=color, marker=marker, label=label)
    if axes.lines and best is not None:
        axes.axvline(best, color=SOFT_INK, linestyle=":", zorder=0, label=f"best: epoch {best}")
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _column(rows, name):
    return np.array([row.get(name, np.nan) for row in rows], dtype=float)


def _rgb(color):
    return np.array(matplotlib.colors.to_rgb(color))
