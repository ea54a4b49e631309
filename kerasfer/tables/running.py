"""Trains and evaluates the missing runs of a table."""

import time
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from kerasfer.errors import KerasferError, RunError
from kerasfer.recipe.differences import differences
from kerasfer.recipe.schema import Recipe
from kerasfer.runs.folder import RunFolder
from kerasfer.tables.filling import other_recipe
from kerasfer.tables.results import read_run
from kerasfer.text import duration


@dataclass(frozen=True)
class Job:
    """A run that fills cells.

    Args:
        recipe: Its `Recipe`.
        cells: The `Cell`s.
    """

    recipe: Recipe
    cells: list

    @property
    def lists(self):
        """The names of the lists that the cells need, without repetition."""
        return list(dict.fromkeys(cell.list_name for cell in self.cells if cell.list_name))


def run_missing(table, *, data_dir=None, output_dir="runs", hours=None, tell=print):
    """Trains and evaluates the runs of a table that are not finished.

    Interrupted runs are continued, and finished runs are not repeated. If a run is not possible,
    for example because its dataset is missing, the others are trained nevertheless.

    Args:
        table: `kerasfer.tables.cells.Table`.
        data_dir: The folder of the datasets; None for `$KERASFER_DATA`, else `data`.
        output_dir: The folder of the runs.
        hours: The time budget. No run begins after this number of hours, but a run that has begun
            is finished. None for no limit.
        tell: Called with a line of text about the progress.

    Returns:
        The problems, `{one line: names of the runs}`. Empty if all went well.
    """
    import keras  # Takes seconds, so it is only imported for training.

    output_dir, problems, started = Path(output_dir), {}, time.monotonic()
    jobs = missing_jobs(table, output_dir)
    for number, job in enumerate(jobs):
        elapsed = time.monotonic() - started
        if hours is not None and elapsed >= 3600 * hours:
            names = [job.recipe.name for job in jobs[number:]]
            problems[f"the time budget of {hours:g} h is used up."] = names
            break
        # Lists are evaluated with the same run, so several columns may share one.
        cells = ", ".join(dict.fromkeys(f"{cell.row}: {cell.column}" for cell in job.cells))
        left = _estimate(elapsed, number, len(jobs))
        tell(f"Run {number + 1} of {len(jobs)}: {job.recipe.name} ({cells}){left}")
        try:
            complete(job.recipe, job.lists, data_dir=data_dir, output_dir=output_dir)
        except KerasferError as error:
            problems.setdefault(str(error), []).append(job.recipe.name)
            tell(f"  not possible: {error}")
        keras.utils.clear_session()  # Frees what the backend keeps of the run's model.
    return problems


def list_jobs(table):
    """Returns the `Job`s of a table.

    All cells of a seed come before the next seed, so that a table whose time budget is used up is
    complete for its first seeds.
    """
    jobs = {}
    for seed_of_each in zip_longest(*(cell.recipes for cell in table.cells)):
        for cell, recipe in zip(table.cells, seed_of_each, strict=True):
            if recipe is not None:
                jobs.setdefault(recipe.name, Job(recipe, [])).cells.append(cell)
    return list(jobs.values())


def missing_jobs(table, output_dir):
    """Returns the `Job`s of a table that are not finished in a folder of runs."""
    return [job for job in list_jobs(table) if _is_missing(job, Path(output_dir))]


def _estimate(elapsed, done, total):
    """Estimates the time of the remaining runs from that of the finished ones."""
    return f", about {duration(elapsed / done * (total - done))} left" if done else ""


def _is_missing(job, output_dir):
    result = read_run(output_dir / job.recipe.name)
    if result is None or result.recipe is None or differences(job.recipe, result.recipe):
        return True
    return any(name not in result.lists for name in job.lists)


def complete(recipe, lists, *, data_dir=None, output_dir="runs"):
    """Trains a run unless it is finished, and evaluates it on lists of test pictures.

    Args:
        recipe: The `Recipe` of the run.
        lists: The names of the lists.
        data_dir: As for `run_missing`.
        output_dir: As for `run_missing`.

    Raises:
        KerasferError: If the run is not possible.
    """
    from kerasfer.evaluate import evaluate
    from kerasfer.train import train

    run = RunFolder(Path(output_dir) / recipe.name)
    if run.exists:
        before = run.load_recipe()
        changed = differences(recipe, before)
        if changed:
            raise RunError(other_recipe(run.path, changed))
        # Settings that do not affect results may differ. The run continues with its original ones.
        recipe = before.model_copy(update={"name": recipe.name})
    if not run.is_finished:
        train(recipe, data_dir=data_dir, output_dir=output_dir, resume=True)
    known = read_run(run.path).lists
    for name in lists:
        if name not in known:
            evaluate(run.path, data_dir=data_dir, list_name=name)
