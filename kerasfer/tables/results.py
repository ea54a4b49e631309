"""What a finished run measured: read from its folder, or from a small summary that is kept.

Run folders are large and stay where they were made; a summary, `results/<run>.json`, is a few
kilobytes of numbers and may be committed, so that a page of results can be made again.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from kerasfer.errors import RecipeError, RunError
from kerasfer.files import write_json
from kerasfer.recipe import load_recipe
from kerasfer.recipe.schema import Recipe

# Of environment.json: what a reader needs to judge a number, and nothing of the machine besides.
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


@dataclass(frozen=True)
class Result:
    """The numbers of a finished run.

    Args:
        name: the run's.
        recipe: the `kerasfer.recipe.schema.Recipe` that ran, or None where this version cannot
            read it.
        metrics: the dict of `metrics.json`.
        lists: the same for lists of test pictures, by the list's name.
        environment: versions, device, seed and seconds.
        history: rows of `history.csv`, dicts of floats.
        folder: the run's folder, or None where only the summary is at hand.
    """

    name: str
    recipe: Recipe | None
    metrics: dict
    lists: dict
    environment: dict
    history: list
    folder: Path | None = None


def is_finished(folder):
    """Whether a run's folder holds a run that came to its end."""
    folder = Path(folder)
    return (folder / "metrics.json").exists() and not (folder / "checkpoint").exists()


def read_run(folder):
    """Reads the numbers of a finished run from its folder, or None where there is no such run.

    Raises:
        RunError: a file of the run is damaged.
    """
    folder = Path(folder)
    if not is_finished(folder):
        return None
    metrics = _read_json(folder / "metrics.json")
    try:
        recipe = load_recipe(folder / "recipe.yaml")
    except RecipeError:
        recipe = None
    place = folder / "environment.json"
    tta = recipe.evaluate.tta if recipe else "none"
    lists = {}
    start = f"evaluation_{metrics['dataset']}_{metrics['split']}_{tta}_"
    for path in sorted(folder.glob(f"{start}*.json")):
        lists[path.stem.removeprefix(start)] = _read_json(path)
    return Result(
        name=folder.name,
        recipe=recipe,
        metrics=metrics,
        lists=lists,
        environment=_read_json(place) if place.exists() else {},
        history=_read_history(folder / "history.csv"),
        folder=folder,
    )


def read_summary(path):
    """Reads what `write_summary` wrote, or gives None where there is no such file.

    Raises:
        RunError: the file is damaged.
    """
    path = Path(path)
    if not path.exists():
        return None
    values = _read_json(path)
    try:
        recipe = Recipe.model_validate(values["recipe"])
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
        )
    except KeyError as error:
        raise RunError(f"{path} lacks {error}: record the run again.") from error


def write_summary(result, folder):
    """Writes a result's numbers as `<run>.json` into `folder`; returns the path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    kept = {key: result.environment[key] for key in _KEPT if key in result.environment}
    write_json(
        path,
        {
            "run": result.name,
            "recipe": result.recipe.model_dump(exclude_none=True),
            "environment": kept,
            "metrics": result.metrics,
            "lists": result.lists,
            "history": result.history,
        },
    )
    return path


def _read_json(path):
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no names with values")
    except (OSError, ValueError) as error:
        raise RunError(
            f"Expected {path} as kerasfer wrote it, but it is damaged: {error}. Restore it, or "
            "remove it and evaluate the run again."
        ) from error
    return values


def _read_history(path):
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return [
            {name: float(f"{float(value):.6g}") for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]
