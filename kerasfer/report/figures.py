"""Draws the learning curves of a run."""

import io

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from kerasfer.plotting import BLUE, INK, ORANGE, SOFT_INK, save, style
from kerasfer.runs.history import read_history


def plot_curves(history, path, *, monitor="val_accuracy"):
    """Draws loss, accuracy and learning rate over the epochs, and marks the best epoch.

    Args:
        history: The path of a `history.csv`, or its rows as `read_history` returns them. A missing
            column leaves its panel empty.
        path: The picture to write. Its suffix selects the format.
        monitor: The column that selects the best epoch: the lowest value if its name ends in
            `loss`, otherwise the highest.
    """
    rows = history if isinstance(history, list) else read_history(history)
    with style(INK):
        figure = Figure(figsize=(13, 3.6), layout="constrained")
        for axes, draw in zip(figure.subplots(1, len(_PANELS)), _PANELS.values(), strict=True):
            draw(axes, rows, best_epoch(rows, monitor))
        save(figure, path)


def curve_panels(history, *, monitor="val_accuracy"):
    """Draws each panel of `plot_curves` that has data as a separate SVG without a background.

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


def best_epoch(history, monitor="val_accuracy"):
    """Returns the `epoch` with the best `monitor`, or None if it was never measured."""
    values = _column(history, monitor)
    if np.isnan(values).all():
        return None
    best = np.nanargmin(values) if monitor.endswith("loss") else np.nanargmax(values)
    return int(_column(history, "epoch")[best])


def draw_losses(axes, history):
    """Draws the training and validation losses onto axes, inside a `style`.

    Args:
        axes: The axes of a figure.
        history: Rows as `read_history` returns them.
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
