"""Trains the missing runs of tables at the same time, each in a separate process."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from kerasfer.data.loading import data_folder
from kerasfer.errors import KerasferError
from kerasfer.recipe.schema import Recipe
from kerasfer.scale.cluster import check_visible, joined_cluster, last_line
from kerasfer.tables.running import complete, missing_jobs
from kerasfer.text import usable_cores

ATTEMPTS = 3  # A run whose process is killed continues from its last checkpoint.


@dataclass(frozen=True)
class Resources:
    """Holds the resources that the runs of a study share.

    Args:
        workers: The number of runs at the same time.
        cpus_per_run: The cores of each run; `None` for the cores of this machine divided by
            `workers`, or one on a cluster.
        gpus_per_run: The GPUs of each run; `None` for all GPUs divided by `workers`, but at most
            one.
        address: The address of a Ray cluster; `None` to start Ray on this machine.
    """

    workers: int
    cpus_per_run: int | None = None
    gpus_per_run: float | None = None
    address: str | None = None

    @property
    def threads(self):
        """The cores of each run."""
        if self.cpus_per_run:
            return self.cpus_per_run
        return 1 if self.address else max(1, usable_cores() // self.workers)


def run_in_parallel(tables, resources, *, data_dir=None, output_dir="runs", hours=None, tell=print):
    """Trains and evaluates the runs of tables that are not finished, several at the same time.

    The same call continues after an interruption: finished runs are not repeated, and others
    continue from their last checkpoints. A run that fails does not stop the others.

    Args:
        tables: List of `kerasfer.tables.cells.Table`.
        resources: `Resources`.
        data_dir: As for `kerasfer.tables.run_missing`.
        output_dir: As for `kerasfer.tables.run_missing`. All workers must see it.
        hours: As for `kerasfer.tables.run_missing`.
        tell: Called with a line of text about the progress.

    Returns:
        The problems, `{one line: names of the runs}`. Empty if all went well.

    Raises:
        RunError: If the workers cannot start.
    """
    jobs = {job.recipe.name: job for table in tables for job in missing_jobs(table, output_dir)}
    if not jobs:
        return {}
    os.makedirs(output_dir, exist_ok=True)
    places = {
        "data_dir": os.path.abspath(data_folder(data_dir)),
        "output_dir": os.path.abspath(output_dir),
    }
    threads, gpus, address = resources.threads, resources.gpus_per_run, resources.address
    with joined_cluster(resources.workers, address=address, gpus=gpus or 0.0, threads=threads):
        import ray

        if address is not None:
            check_visible([], output_dir)
        if gpus is None:
            gpus = min(1.0, ray.cluster_resources().get("GPU", 0) / resources.workers)
        # A process ends with its run, so that the next one begins with all of the memory.
        task = ray.remote(num_cpus=threads, num_gpus=gpus, max_calls=1, max_retries=ATTEMPTS - 1)(
            _run
        )
        return _supervise(jobs, lambda job: _submit(task, job, places), resources, hours, tell)


def _submit(task, job, places):
    # The classes of a recipe's sections are created at run time, so it is passed as plain values.
    return task.remote(job.recipe.model_dump(exclude_none=True), job.lists, **places)


def _supervise(jobs, submit, resources, hours, tell):
    """Keeps as many runs in progress as there are workers, and returns the problems."""
    import ray

    waiting, running, problems, done = list(jobs), {}, {}, 0
    started = time.monotonic()
    while waiting or running:
        if waiting and hours is not None and time.monotonic() - started >= 3600 * hours:
            problems[f"the time budget of {hours:g} h is used up."] = waiting
            waiting = []
            continue
        while waiting and len(running) < resources.workers:
            name = waiting.pop(0)
            tell(f"Started {name}")
            running[submit(jobs[name])] = name
        (ready,), _ = ray.wait(list(running))
        name, done = running.pop(ready), done + 1
        try:
            problem = ray.get(ready)
        except ray.exceptions.RayError as error:
            problem = f"its process failed {ATTEMPTS} times, {last_line(error)}."
            if isinstance(error, ray.exceptions.RayTaskError):
                problem = f"it failed, {last_line(error)}."
        if problem:
            problems.setdefault(problem, []).append(name)
        tell(f"{done} of {len(jobs)}: {name} {'failed: ' + problem if problem else 'is finished'}")
    return problems


def _run(values, lists, data_dir, output_dir):
    """Completes a run in a worker. Returns why it is not possible, or None."""
    try:
        recipe = Recipe.model_validate(values)
        complete(recipe, lists, data_dir=Path(data_dir), output_dir=Path(output_dir))
    except KerasferError as error:
        return str(error)
    return None
