"""Fills the cells of a table with the results of finished runs."""

import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from kerasfer.errors import RecipeError, RunError
from kerasfer.recipe.differences import differences
from kerasfer.recipe.messages import show
from kerasfer.tables.cells import CLASS_METRICS, Cell
from kerasfer.tables.results import Result, read_run, read_summary


@dataclass(frozen=True)
class Value:
    """Holds the measurements of a cell, as fractions in [0, 1].

    Args:
        value: The score. For several seeds it is their mean.
        interval: Its 95 % Wilson interval, or None for several seeds and for scores that are not
            rates.
        sd: The standard deviation over the seeds or, for a single seed, over the folds; None for a
            single run.
        num_samples: The number of pictures.
        macro_recall: The macro recall of the same pictures.
        protocol: How the training and test data were separated.
        leaking: Whether near-identical pictures are in the training data.
        without_duplicates: The accuracy without the test pictures that are in the training set, if
            there are any; None for several seeds.
        num_seeds: The number of seeds.
    """

    value: float
    interval: tuple | None
    sd: float | None
    num_samples: int
    macro_recall: float
    protocol: str
    leaking: bool
    without_duplicates: dict | None
    num_seeds: int = 1


@dataclass(frozen=True)
class Filled:
    """A cell and its results.

    Args:
        cell: `kerasfer.tables.cells.Cell`.
        results: The `Result`s that were found, one for each seed that is finished.
        value: The `Value`, or None.
        problem: The reason why an existing run does not fill the cell, in one line, or None.
    """

    cell: Cell
    results: tuple[Result, ...] = ()
    value: Value | None = None
    problem: str | None = None

    @property
    def result(self):
        """The first result, or None."""
        return self.results[0] if self.results else None


def list_tables(path):
    """Lists the tables that `kerasfer table PATH` shows.

    Args:
        path: The YAML file of a table, or a folder of such files.

    Returns:
        The text of the folder's `head.md`, or None; and the paths of the tables, by name.

    Raises:
        RecipeError: If the folder holds no table.
    """
    path = Path(path)
    if not path.is_dir():
        return None, [path]
    paths = sorted(path.glob("*.yaml"))
    if not paths:
        raise RecipeError(f"Expected tables in {path}, files ending in .yaml, but found none.")
    head = path / "head.md"
    return head.read_text(encoding="utf-8") if head.exists() else None, paths


def fill_table(table, *, output_dir="runs", results_dir=None, problems=None):
    """Finds the results for each cell of a table.

    A run folder is preferred to a recorded summary. A run is not used if its recipe differs from
    that of the cell, and the cell reports the differences.

    Args:
        table: `kerasfer.tables.cells.Table`.
        output_dir: The folder of the runs.
        results_dir: The folder of the recorded summaries; None for `results` next to the folder of
            the table.
        problems: The reasons why runs failed, `{one line: names of the runs}`, as `run_missing`
            returns it.

    Returns:
        A `Filled` for each cell.

    Raises:
        RunError: If a file of a run is damaged.

    Example:

    ```python
    [filled.value for filled in fill_table(load_table("recipes/tables/spd_table2.yaml"))]
    ```
    """
    results_dir = Path(results_dir or table.path.parent.parent / "results")
    recipes = {recipe.name: recipe for cell in table.cells for recipe in cell.recipes}
    found = {
        name: _find_result(recipe, Path(output_dir), results_dir)
        for name, recipe in recipes.items()
    }
    failed = {name: reason for reason, names in (problems or {}).items() for name in names}
    return [
        _explain(_fill(cell, [found[recipe.name] for recipe in cell.recipes]), failed)
        for cell in table.cells
    ]


def _fill(cell, found):
    """Returns a `Filled` from what was found for each recipe of a cell."""
    results = tuple(result for result, _ in found if result)
    problem = next((problem for _, problem in found if problem), None)
    values = [value for result in results if (value := measure(cell, result))]
    return Filled(cell, results, _combine(values) if values else None, problem)


def _explain(filled, failed):
    """Adds the reason why its run failed to an empty cell."""
    names = [recipe.name for recipe in filled.cell.recipes if recipe.name in failed]
    if filled.value or filled.problem or not names:
        return filled
    return replace(filled, problem=f"{names[0]} was not run: {failed[names[0]]}")


def _combine(values):
    """Returns the mean of the values of several seeds."""
    first, *others = values
    if not others:
        return first
    scores = [value.value for value in values]
    return replace(
        first,
        value=statistics.fmean(scores),
        sd=statistics.stdev(scores),
        interval=None,
        without_duplicates=None,
        macro_recall=statistics.fmean(value.macro_recall for value in values),
        leaking=any(value.leaking for value in values),
        num_seeds=len(values),
    )


def _find_result(recipe, output_dir, results_dir):
    """Returns the `Result` of a recipe or None, and the reason why an existing run is not used."""
    problem = None
    folder, summary = output_dir / recipe.name, results_dir / f"{recipe.name}.json"
    for result, path in ((read_run(folder), folder), (read_summary(summary), summary)):
        if result is None:
            continue
        if result.recipe is None:
            problem = problem or f"{path} was written by another version of kerasfer."
            continue
        changed = differences(recipe, result.recipe)
        if not changed:
            return replace(result, name=recipe.name), problem
        problem = problem or other_recipe(path, changed)
    return None, problem


def other_recipe(path, changed):
    """Describes in one line how the recipe of an existing run differs."""
    shown = ", ".join(
        f"{key} is {show(there)} there and {show(here)} here"
        for key, (here, there) in list(changed.items())[:3]
    )
    more = f", and {len(changed) - 3} more" if len(changed) > 3 else ""
    return (
        f"{path} is a run of another recipe: {shown}{more}. Move it away, or choose another "
        "--output-dir."
    )


def measure(cell, result):
    """Measures one of the runs that fill a cell.

    Args:
        cell: `kerasfer.tables.cells.Cell`.
        result: `kerasfer.tables.results.Result`.

    Returns:
        The `Value`, or None if the list of the cell was not evaluated.

    Raises:
        RunError: If the run lacks the class of the cell.
    """
    metrics = result.lists.get(cell.list_name) if cell.list_name else result.metrics
    if metrics is None:
        return None
    known = {
        "macro_recall": metrics["macro_recall"],
        "protocol": metrics["protocol"],
        "leaking": metrics.get("leaking", False),
    }
    if cell.metric in CLASS_METRICS:
        scores = metrics["per_class"].get(cell.class_name)
        if scores is None:
            raise RunError(
                f"{result.name} has no class {cell.class_name!r}, but "
                f"{', '.join(metrics['class_names'])}: correct `class_name` in the table."
            )
        interval = _class_interval(metrics, cell.class_name, cell.metric)
        count = scores["support"]
        return Value(scores[cell.metric], interval, None, count, without_duplicates=None, **known)
    without = metrics.get("without_duplicates")
    if cell.metric != "accuracy" or (without and without["num_samples"] == metrics["num_samples"]):
        without = None
    sd = (metrics.get("sd") or {}).get(cell.metric)
    value = metrics["mean"][cell.metric] if sd is not None else metrics[cell.metric]
    interval = tuple(metrics["accuracy_interval"]) if cell.metric == "accuracy" else None
    count = metrics["num_samples"]
    return Value(value, interval, sd, count, without_duplicates=without, **known)


def _class_interval(metrics, name, metric):
    """Returns the interval of a recall or precision, a rate in the confusion matrix."""
    if metric == "f1":
        return None
    from kerasfer.evaluate.metrics import wilson_interval  # scikit-learn takes a second to import.

    index = metrics["class_names"].index(name)
    counts = metrics["confusion_matrix"]
    row = counts[index] if metric == "recall" else [line[index] for line in counts]
    return wilson_interval(row[index], sum(row)) if sum(row) else None
