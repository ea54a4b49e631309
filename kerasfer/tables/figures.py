"""The figures of the papers, drawn from the runs that fill a table."""

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from kerasfer.errors import RunError
from kerasfer.evaluate.confusion_matrix import draw_confusion_matrix
from kerasfer.files import replace_file
from kerasfer.plotting import INK, save, style
from kerasfer.report.figures import draw_losses
from kerasfer.runs.folder import RunFolder
from kerasfer.tables.accuracy_time import HEADING, draw_trainings, list_trainings, tabulate

SMOOTHED = 1 / 50  # The share of a training over which a curve of norms is averaged.


def draw_figures(table, filled, folder):
    """Draws each figure of a table that has runs to show.

    Args:
        table: `kerasfer.tables.cells.Table`.
        filled: The cells of `kerasfer.tables.fill_table`.
        folder: The folder to write into. It is created.

    Returns:
        The paths of the written files: a PNG for each figure, and a CSV for gradient norms and
        training times.

    Raises:
        RunError: If a run lacks what the figure shows.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in table.file.figures.items():
        rows = figure.rows or list(table.file.rows)
        shown = {}
        for entry in filled:
            if entry.cell.row in rows and entry.value is not None:
                shown.setdefault(_title(table, entry.cell, rows), entry)
        if shown:
            title = figure.title or table.file.title
            written += _KINDS[figure.kind](shown, folder / f"{name}.png", title)
    return written


def _title(table, cell, rows):
    parts = [cell.row if len(rows) > 1 else "", cell.column if len(table.file.columns) > 1 else ""]
    return ", ".join(part for part in parts if part) or cell.row


def _draw_confusions(shown, path, title):
    def draw(axes, entry):
        result = entry.result
        draw_confusion_matrix(
            axes, result.lists[entry.cell.list_name] if entry.cell.list_name else result.metrics
        )

    return [_draw_panels(shown, draw, path, title, side=7.0)]


def _draw_losses(shown, path, title):
    # Of a run with several folds, only the folds have a history.
    shown = {name: entry for name, entry in shown.items() if entry.result.history}
    if not shown:
        return []
    return [_draw_panels(shown, lambda axes, e: draw_losses(axes, e.result.history), path, title)]


def _draw_panels(shown, draw, path, title, side=4.6):
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    with style(INK):
        size = (side * columns, 1.15 * side * lines)  # Includes space for the titles.
        drawing = Drawing(figsize=size, layout="constrained")
        panels = drawing.subplots(lines, columns, squeeze=False).ravel()
        for axes, (name, entry) in zip(panels, shown.items(), strict=False):
            draw(axes, entry)
            axes.set_title("\n".join(filter(None, (name, axes.get_title()))))
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        drawing.suptitle(title)
        save(drawing, path)
    return path


def _draw_gradient_norms(shown, path, title):
    """Draws a smoothed curve for each run."""
    from kerasfer.train.gradient_norms import read_gradient_norms  # Imports Keras.

    curves = {}
    for name, entry in shown.items():
        if entry.result.folder is None:
            raise RunError(
                f"The gradient norms of {entry.result.name} are in its run folder only. Name the "
                "folder of the runs with --output-dir, or train it with --run-missing."
            )
        curves[name] = read_gradient_norms(RunFolder(entry.result.folder).gradient_norms)
    with style(INK):
        drawing = Drawing(figsize=(8, 4.6), layout="constrained")
        axes = drawing.add_subplot()
        # The colors range from light to dark in the order of the rows.
        for name, color in zip(curves, _shades(len(curves)), strict=True):
            norms = curves[name]
            width = max(1, round(SMOOTHED * len(norms)))
            smooth = _average(norms, width)
            axes.plot(np.arange(len(smooth)) + width, smooth, color=color, label=name)
        axes.set(xlabel="step", ylabel="norm of the gradient", title=title, yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        save(drawing, path)
    rows = [
        [
            step + 1,
            *(
                f"{c[step]:.6g}" if step < len(c) and np.isfinite(c[step]) else ""
                for c in curves.values()
            ),
        ]
        for step in range(max(map(len, curves.values())))
    ]
    return [path, _write_csv(path.with_suffix(".csv"), ["step", *curves], rows)]


def _write_csv(path, heading, rows):
    with replace_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([heading, *rows])
    return path


def _draw_accuracy_over_time(shown, path, title):
    trainings = list_trainings(shown)
    if not trainings:
        return []
    with style(INK):
        drawing = Drawing(figsize=(8, 5.4), layout="constrained")
        axes = drawing.add_subplot(title=title)
        draw_trainings(axes, trainings)
        save(drawing, path)
    return [path, _write_csv(path.with_suffix(".csv"), HEADING, tabulate(trainings))]


def _average(norms, width):
    """Averages over a moving window. Skipped steps, whose norm is NaN, do not count."""
    window = np.ones(width)
    counts = np.convolve(np.isfinite(norms), window, mode="valid")
    sums = np.convolve(np.nan_to_num(norms), window, mode="valid")
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _shades(count):
    """Returns colors from orange to blue, which differ in lightness too."""
    ends = np.array([(0.96, 0.65, 0.35), (0.02, 0.19, 0.42)])
    return [ends[0] + (ends[1] - ends[0]) * part for part in np.linspace(0, 1, count)]


_KINDS = {
    "confusion": _draw_confusions,
    "loss": _draw_losses,
    "gradient_norm": _draw_gradient_norms,
    "accuracy_time": _draw_accuracy_over_time,
}
