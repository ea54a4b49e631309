"""Shows the accuracy of the rows of a table against their training time."""

from itertools import accumulate, cycle
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import PercentFormatter

from kerasfer.tables.filling import Value, measure

HEADING = ("row", "seed", "epoch", "seconds", "validation accuracy", "test accuracy")
MARKERS = "osD^vPX<>*"


class Training(NamedTuple):
    """A run of a row.

    Args:
        row: The name of the row.
        seed: The seed, or None if it is unknown.
        seconds: The training time after each epoch.
        validation: The validation accuracy after each epoch.
        test: The `Value` of the trained model.
    """

    row: str
    seed: int | None
    seconds: list
    validation: list
    test: Value


def list_trainings(shown):
    """Lists the runs of cells.

    Args:
        shown: Dict from the name of a row to its `kerasfer.tables.filling.Filled`.

    Returns:
        A `Training` for each run, except for runs of several folds, which have no common history.
    """
    return [
        Training(
            row=row,
            seed=result.environment.get("seed"),
            seconds=list(accumulate(epoch["seconds"] for epoch in result.history)),
            validation=[epoch["val_accuracy"] for epoch in result.history],
            test=test,
        )
        for row, entry in shown.items()
        for result in entry.results
        if result.history and (test := measure(entry.cell, result))
    ]


def draw_trainings(axes, trainings):
    """Draws the validation accuracy of each run as a line, and its test accuracy as a point.

    Args:
        axes: The axes of a figure, inside a `kerasfer.plotting.style`.
        trainings: The `Training`s. Those of one row have the same color and marker.
    """
    rows = dict.fromkeys(training.row for training in trainings)
    looks = dict(zip(rows, zip(cycle(MARKERS), cycle(colormaps["tab10"].colors)), strict=False))
    labeled = set()
    for row, _, seconds, validation, test in trainings:
        marker, color = looks[row]
        low, high = test.interval or (test.value, test.value)
        axes.plot(seconds, validation, color=color, linewidth=1, alpha=0.5)
        axes.errorbar(
            seconds[-1],
            test.value,
            np.array([[test.value - low], [high - test.value]]),
            color=color,
            marker=marker,
            markersize=7,
            linestyle="none",
            label=None if row in labeled else row,
        )
        labeled.add(row)
    axes.set(xlabel="training time in seconds", ylabel="accuracy")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(title="points: test, 95 % interval\nlines: validation", fontsize=9)


def tabulate(trainings):
    """Lists the rows of a CSV file under `HEADING`, one for each epoch of each run.

    Args:
        trainings: The `Training`s.
    """
    return [
        [
            training.row,
            "" if training.seed is None else training.seed,
            number,
            f"{seconds:.1f}",
            f"{accuracy:.6g}",
            f"{training.test.value:.6g}" if number == len(training.seconds) else "",
        ]
        for training in trainings
        for number, (seconds, accuracy) in enumerate(
            zip(training.seconds, training.validation, strict=True), start=1
        )
    ]
