"""Draws confusion matrices."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from kerasfer.plotting import BLUE, INK, ORANGE, save, style, warn_about_missing_characters

SMALLEST = 4.4  # Inches, the width of the title.


def plot_confusion_matrix(metrics, path):
    """Draws a confusion matrix in percent and in counts.

    Correct predictions are blue and errors orange. The larger the share of the row, the darker the
    cell.

    Args:
        metrics: A dict with `confusion_matrix` and `class_names`, as `classification_metrics` or
            `summarize_folds` returns it.
        path: The picture to write. Its suffix selects the format.
    """
    side = max(SMALLEST, 2.2 + 0.68 * len(metrics["class_names"]))
    with style(INK):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.add_subplot()
        draw_confusion_matrix(axes, metrics)
        # Centered on the figure, since long class names leave the axes little room.
        figure.suptitle(axes.get_title(), size=11)
        axes.set_title("")
        save(figure, path)


def draw_confusion_matrix(axes, metrics):
    """Draws a confusion matrix as in `plot_confusion_matrix` onto axes, inside a `style`."""
    names, counts = metrics["class_names"], np.array(metrics["confusion_matrix"])
    warn_about_missing_characters(names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colors = np.where(np.eye(len(names), dtype=bool)[..., None], _rgb(BLUE), _rgb(ORANGE))
    strength = shares[..., None] ** 0.7  # Keeps the small shares of errors visible.

    axes.imshow(1 + strength * (colors - 1))  # From white to the full color.
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if strength[row, column] > 0.6 else INK
        position = {"color": color, "ha": "center"}
        axes.text(column, row, f"{shares[row, column]:.0%}", va="bottom", size=11, **position)
        axes.text(column, row + 0.1, f"{count:,}", va="top", size=7.5, **position)
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [f"{n}  ({c:,})" for n, c in zip(names, counts.sum(1), strict=True)])
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # A "$" in a class name begins no formula.
    axes.set(xlabel="predicted", ylabel="true (pictures)", title=_title(metrics))
    axes.grid(False)
    axes.set_xticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.grid(which="minor", color="white", alpha=1, linewidth=3)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _title(metrics):
    interval = metrics.get("accuracy_interval")
    between = f" [{interval[0]:.1%}, {interval[1]:.1%}]" if interval else ""
    return (
        f"accuracy {metrics['accuracy']:.1%}{between}\nmacro recall {metrics['macro_recall']:.1%}"
    )


def _rgb(color):
    return np.array(matplotlib.colors.to_rgb(color))
