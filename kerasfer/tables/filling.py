"""A paper's table: the published value beside ours, and the runs that fill what is missing."""

from dataclasses import dataclass, replace
from pathlib import Path

from kerasfer.errors import KerasferError, RecipeError, RunError
from kerasfer.recipe.differences import differences
from kerasfer.recipe.messages import show
from kerasfer.runs.folder import RunFolder
from kerasfer.tables.cells import CLASS_METRICS
from kerasfer.tables.results import Result, read_run, read_summary


@dataclass(frozen=True)
class Value:
    """What was measured for a cell, as fractions in [0, 1].

    Args:
        value: the score.
        interval: its 95 % Wilson interval, or None for scores that are no rates.
        sd: standard deviation over the folds, or None for a single run.
        num_samples: pictures that it is a score of.
        macro_recall: of the same pictures.
        protocol: how they were set apart.
        leaking: whether near-identical pictures were trained on.
        without_duplicates: the same, without the test pictures that were trained on too, where
            there are such; or None.
    """

    value: float
    interval: tuple | None
    sd: float | None
    num_samples: int
    macro_recall: float
    protocol: str
    leaking: bool
    without_duplicates: dict | None


@dataclass(frozen=True)
class Filled:
    """A cell with what is known of it.

    Args:
        cell: `kerasfer.tables.cells.Cell`.
        result: the `Result` of its run, or None.
        value: the `Value`, or None.
        problem: why a run that is there does not fill it, in one line, or None.
    """

    cell: object
    result: Result | None = None
    value: Value | None = None
    problem: str | None = None


def list_tables(path):
    """Lists what `kerasfer table PATH` shows.

    Args:
        path: a table's YAML file, or a folder of such files.

    Returns:
        The text of the folder's `head.md`, or None; and the paths of the tables, by name.

    Raises:
        RecipeError: the folder holds no table.
    """
    path = Path(path)
    if not path.is_dir():
        return None, [path]
    paths = sorted(path.glob("*.yaml"))
    if not paths:
        raise RecipeError(f"Expected tables in {path}, files ending in .yaml, but found none.")
    head = path / "head.md"
    return head.read_text(encoding="utf-8") if head.exists() else None, paths


def fill_table(table, *, output_dir="runs", results_dir=None):
    """Finds what was measured for each cell of a table.

    A run's folder comes first, a kept summary second. A run whose recipe is another than the
    cell's fills nothing, and says so.

    Args:
        table: `kerasfer.tables.cells.Table`.
        output_dir: Folder of the runs.
        results_dir: Folder of the kept summaries; None for `results` beside the table's folder.

    Returns:
        A list of `Filled`, one a cell.

    Raises:
        RunError: a file of a run is damaged.

    Example:

    ```python
    [filled.value for filled in fill_table(load_table("recipes/tables/spd_table2.yaml"))]
    ```
    """
    results_dir = Path(results_dir or table.path.parent.parent / "results")
    found = {}
    for cell in table.cells:
        if cell.recipe is not None and cell.recipe.name not in found:
            found[cell.recipe.name] = _find_result(cell.recipe, Path(output_dir), results_dir)
    filled = []
    for cell in table.cells:
        result, problem = found[cell.recipe.name] if cell.recipe else (None, None)
        value = _measure(cell, result) if result else None
        filled.append(Filled(cell, result, value, problem))
    return filled


def run_missing(table, *, data_dir=None, output_dir="runs", tell=print):
    """Trains and judges what a table's cells need and no finished run has.

    What was interrupted is gone on with; what is finished is not repeated. Where a run is not
    possible, such as for want of a dataset, the others go on.

    Args:
        table: `kerasfer.tables.cells.Table`.
        data_dir: Folder of the datasets; `None` for `$KERASFER_DATA`, else `data`.
        output_dir: Folder of the runs.
        tell: Called with a line about what is done.

    Returns:
        The problems, `{one line: names of the runs}`; empty where all went well.
    """
    import keras  # Only who trains waits for it.

    runs = {}
    for cell in table.cells:
        if cell.recipe is not None:
            runs.setdefault(cell.recipe.name, []).append(cell)
    todo = {name: cells for name, cells in runs.items() if _is_missing(cells, Path(output_dir))}
    problems = {}
    for number, (name, cells) in enumerate(todo.items(), start=1):
        # Which lists a run is judged on stands in several columns.
        places = ", ".join(dict.fromkeys(f"{cell.row}: {cell.column}" for cell in cells))
        tell(f"Run {number} of {len(todo)}: {name} ({places})")
        try:
            _complete(cells, data_dir, Path(output_dir))
        except KerasferError as error:
            problems.setdefault(str(error), []).append(name)
            tell(f"  not possible: {error}")
        keras.utils.clear_session()  # frees what the backend keeps of the run's model
    return problems


def _is_missing(cells, output_dir):
    recipe = cells[0].recipe
    result = read_run(output_dir / recipe.name)
    if result is None or result.recipe is None or differences(recipe, result.recipe):
        return True
    return any(cell.list and cell.list not in result.lists for cell in cells)


def _complete(cells, data_dir, output_dir):
    """Trains a run as far as it is not, and judges it on the lists of its cells."""
    from kerasfer.evaluate import evaluate
    from kerasfer.train import train

    recipe = cells[0].recipe
    run = RunFolder(output_dir / recipe.name)
    if run.exists:
        before = run.load_recipe()
        changed = differences(recipe, before)
        if changed:
            raise RunError(_other_recipe(run.path, changed))
        # The words may have changed since. The run is continued as it began.
        recipe = before.model_copy(update={"name": recipe.name})
    if not run.is_finished:
        train(recipe, data_dir=data_dir, output_dir=output_dir, resume=True)
    known = read_run(run.path).lists
    for name in dict.fromkeys(cell.list for cell in cells if cell.list):
        if name not in known:
            evaluate(run.path, data_dir=data_dir, list_name=name)


def _find_result(recipe, output_dir, results_dir):
    """Returns a recipe's `Result` or None, and why what is there is none of it."""
    problem = None
    folder, summary = output_dir / recipe.name, results_dir / f"{recipe.name}.json"
    for result, place in ((read_run(folder), folder), (read_summary(summary), summary)):
        if result is None:
            continue
        if result.recipe is None:
            problem = problem or f"{place} was written by another version of kerasfer."
            continue
        changed = differences(recipe, result.recipe)
        if not changed:
            return replace(result, name=recipe.name), problem
        problem = problem or _other_recipe(place, changed)
    return None, problem


def _other_recipe(place, changed):
    shown = ", ".join(
        f"{key} is {show(there)} there and {show(here)} here"
        for key, (here, there) in list(changed.items())[:3]
    )
    more = f", and {len(changed) - 3} more" if len(changed) > 3 else ""
    return (
        f"{place} is a run of another recipe: {shown}{more}. Move it away, or choose another "
        "--output-dir."
    )


def _measure(cell, result):
    """Reads a cell's `Value` off a run's metrics, or None where its list was not judged."""
    metrics = result.lists.get(cell.list) if cell.list else result.metrics
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
    """Recall and precision are rates of a row and of a column of the confusion matrix."""
    if metric == "f1":
        return None
    from kerasfer.evaluate.metrics import wilson_interval  # scikit-learn takes a second to import.

    index = metrics["class_names"].index(name)
    counts = metrics["confusion_matrix"]
    row = counts[index] if metric == "recall" else [line[index] for line in counts]
    return wilson_interval(row[index], sum(row)) if sum(row) else None
