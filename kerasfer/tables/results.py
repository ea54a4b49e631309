"""Reads the results of a finished run from its folder, or from a small summary.

Run folders are large and are not shared. A summary, `results/<run>.json`, contains a few kilobytes
of numbers and can be committed, so that a page of results can be generated again.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from kerasfer.errors import RecipeError, RunError
from kerasfer.files import read_json, write_json
from kerasfer.recipe.schema import Recipe
from kerasfer.runs.folder import RunFolder
from kerasfer.tables.outcomes import pack, read_outcomes, unpack

# The entries of environment.json that a summary keeps, without details of the machine.
_KEPT = (
    "kerasfer",
    "keras",
    "backend",
    "backend_version",
    "device",
    "seed",
    "git_revision",
    "seconds",
    "num_parameters",
)


ALL = "all"  # The name of all test pictures, in place of the name of a list.


@dataclass(frozen=True)
class Result:
    """The results of a finished run.

    Args:
        name: The name of the run.
        recipe: The `kerasfer.recipe.schema.Recipe` of the run, or None if this version cannot read
            it.
        metrics: The dict of `metrics.json`.
        lists: The same for lists of test pictures, by the name of the list.
        environment: Versions, device, seed and seconds.
        history: The rows of `history.csv`, dicts of floats.
        folder: The run folder, or None if only the summary is available.
        predictions: The paths of the predictions for the test pictures, by the name of the list, or
            `"all"`. Empty if only the summary is available.
        recorded: The outcomes for the same pictures in a summary. Empty for a run folder.
    """

    name: str
    recipe: Recipe | None
    metrics: dict
    lists: dict
    environment: dict
    history: list
    folder: Path | None = None
    predictions: dict = field(default_factory=dict)
    recorded: dict = field(default_factory=dict)

    def outcomes(self, list_name=None):
        """Returns the `Outcomes` for the test pictures or those of a list; None if unknown.

        Raises:
            RunError: If they are damaged.
        """
        name = list_name or ALL
        if name in self.recorded:
            return unpack(self.recorded[name])
        return read_outcomes(self.predictions[name]) if name in self.predictions else None


def read_run(folder):
    """Reads the results of a finished run from its folder.

    Args:
        folder: The run folder.

    Returns:
        A `Result`, or None if there is no finished run.

    Raises:
        RunError: If a file of the run is damaged.
    """
    run = RunFolder(folder)
    if not run.is_finished:
        return None
    metrics = run.read_metrics()
    try:
        recipe = run.load_recipe()
    except RecipeError:
        recipe = None
    tta = recipe.evaluate.tta if recipe else "none"
    lists = run.evaluations(f"{metrics['dataset']}_{metrics['split']}_{tta}_")
    tables = {ALL: run.predictions} | {
        name: path.with_suffix(".csv") for name, path in lists.items()
    }
    return Result(
        name=run.path.name,
        recipe=recipe,
        metrics=metrics,
        lists={name: read_json(path) for name, path in lists.items()},
        environment=run.read_environment(),
        history=[
            {name: float(f"{value:.6g}") for name, value in row.items() if not math.isnan(value)}
            for row in run.read_history()
        ],
        folder=run.path,
        predictions={name: path for name, path in tables.items() if path.exists()},
    )


def read_summary(path):
    """Reads a file of `write_summary`, or returns None if it does not exist.

    Raises:
        RunError: If the file is damaged.
    """
    path = Path(path)
    if not path.exists():
        return None
    values = read_json(path)
    try:
        recipe = Recipe.model_validate(values.get("recipe"))
    except ValidationError:
        recipe = None
    try:
        return Result(
            name=values["run"],
            recipe=recipe,
            metrics=values["metrics"],
            lists=values["lists"],
            environment=values["environment"],
            history=values["history"],
            recorded=values.get("outcomes", {}),  # Older summaries have none.
        )
    except KeyError as error:
        raise RunError(f"{path} lacks {error}. Record the run again.") from error


def write_summary(result, folder):
    """Writes a result's numbers as `<run>.json` into `folder`; returns the path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    kept = {key: result.environment[key] for key in _KEPT if key in result.environment}
    # `data` names the folder of the data, which is a detail of the machine, too.
    lists = {
        name: {key: value for key, value in metrics.items() if key != "data"}
        for name, metrics in result.lists.items()
    }
    outcomes = {name: pack(read_outcomes(table)) for name, table in result.predictions.items()}
    write_json(
        path,
        {
            "run": result.name,
            "recipe": result.recipe.model_dump(exclude_none=True),
            "environment": kept,
            "metrics": result.metrics,
            "lists": lists,
            "history": result.history,
            "outcomes": outcomes,
        },
    )
    return path
