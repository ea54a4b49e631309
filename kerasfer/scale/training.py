"""Trains one model with several processes, on one machine or a Ray cluster, by Ray Train.

Ray starts the workers and watches over them. The workers are JAX processes that compute each step
together (`kerasfer.train.processes`). If one of them ends unexpectedly, the operation that the
others wait for fails, and Ray starts all of them again; they continue from the last checkpoint of
the run folder.
"""

import contextlib
import io
import os
import signal
import socket
import tempfile
import threading

from kerasfer.data.loading import data_folder
from kerasfer.errors import KerasferError, RecipeError, RunError
from kerasfer.recipe.sharing import check_even
from kerasfer.runs.opening import make_folder
from kerasfer.scale.cluster import (
    check_installed,
    check_visible,
    joined_cluster,
    last_line,
    share_of_machines,
    variables_of_worker,
)
from kerasfer.text import usable_cores

MAX_FAILURES = 5  # How often the workers are started again.
POLL_SECONDS = 0.2
RESTARTED = "A worker ended unexpectedly. All workers were started again."
# Ray Train would change the working folder of the workers, and log what they print.
_SETTINGS = {"RAY_CHDIR_TO_TRIAL_DIR": "0", "RAY_TRAIN_ENABLE_PRINT_PATCH": "0"}


def train_with_workers(
    recipe, workers, *, data_dir=None, output_dir="runs", resume=False, address=None, tell=print
):
    """Trains and evaluates the model of a recipe with several processes that share each batch.

    The run folder and, up to rounding, its numbers are those of `kerasfer.train.train`. Keras is
    not imported in this process.

    Args:
        recipe: `kerasfer.recipe.Recipe`, whose backend is JAX.
        workers: The number of processes. On a machine with GPUs each needs one at least.
        data_dir: As for `kerasfer.train.train`. All workers must see it.
        output_dir: As for `kerasfer.train.train`. All workers must see it.
        resume: As for `kerasfer.train.train`.
        address: The address of a Ray cluster; `None` to start Ray on this machine.
        tell: Called with a line of text about the progress.

    Returns:
        As `kerasfer.train.train`.

    Raises:
        RecipeError: If the batches cannot be shared, or if the backend is not JAX.
        KerasferError: As for `kerasfer.train.train`.
        RunError: If the workers cannot start, or fail repeatedly.

    Example:

    ```python
    recipe = load_recipe("recipes/quickstart.yaml", ["train.backend=jax"])
    train_with_workers(recipe, 2)["accuracy"]
    ```
    """
    check_installed()
    _check_recipe(recipe, workers)
    threads = 1 if address else max(1, usable_cores() // workers)
    data_dir = str(data_folder(data_dir))
    job = {
        "recipe": recipe,
        "data_dir": data_dir,
        "output_dir": str(output_dir),
        "resume": resume,
        "folder": os.getcwd(),  # Relative paths, also those of the recipe, begin here.
    }
    # Ray Train needs a folder for the checkpoints that it manages, of which there are none.
    with (
        _noticed_interrupts() as interrupts,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as storage,
        joined_cluster(workers, address=address, threads=threads, variables=_SETTINGS),
    ):
        if address is not None:
            make_folder(output_dir)
            check_visible([os.getcwd(), *filter(os.path.exists, [data_dir])], output_dir)
        return _supervise(job, workers, storage, tell, interrupts)


def _check_recipe(recipe, workers):
    backend = recipe.train.backend or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != "jax":
        raise RecipeError(
            f"--workers supports only the backend jax. Received: {backend}. Add --backend jax."
        )
    if recipe.train.devices != "auto":
        raise RecipeError(
            "train.devices must be auto with --workers, since each worker uses the devices that "
            f"Ray assigns to it. Received: {recipe.train.devices}."
        )
    check_even(recipe, workers, "workers")


@contextlib.contextmanager
def _noticed_interrupts():
    """Yields a list that is not empty after an interrupt (Ctrl-C).

    Python ignores the exception of an interrupt in some functions, such as those that it calls when
    Ray starts a process.
    """
    noticed, before = [], signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield noticed
        return

    def notice(number, frame):
        noticed.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, notice)
    try:
        yield noticed
    finally:
        signal.signal(signal.SIGINT, before)


def _supervise(job, workers, storage, tell, interrupts):
    """Runs the workers, tells what the first one prints, and returns its result."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    cpus, gpus = share_of_machines(workers)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "scheduling_strategy": here}
    messages = ray.remote(**options)(_Messages).remote(job["resume"])
    job = job | {"messages": messages}
    # Ray Train blocks until the end, and handles interrupts itself. In a thread it could use Ray
    # after its shutdown, which ends the process.
    fitted = ray.remote(max_retries=0, **options)(_fit).remote(job, workers, cpus, gpus, storage)
    try:
        while not interrupts:
            ended, _ = ray.wait([fitted], timeout=POLL_SECONDS)
            for kind, value in ray.get(messages.take.remote()):
                if kind == "line":
                    tell(value)
                elif kind == "failure":
                    raise value
                else:
                    return value
            if ended:
                ray.get(fitted)
                raise RunError("The workers ended without a result. Run the same command again.")
        raise KeyboardInterrupt
    except ray.exceptions.RayError as error:
        raise RunError(
            f"The workers failed, {last_line(error)}. Run the same command with --resume to "
            "continue from the last checkpoint."
        ) from error


def _fit(job, workers, cpus, gpus, storage):
    """Runs Ray Train until the workers end."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    # `JaxTrainer` joins processes only if they have accelerators.
    DataParallelTrainer(
        _work,
        train_loop_config=job,
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": cpus} | ({"GPU": gpus} if gpus else {}),
            placement_strategy="SPREAD",
        ),
        run_config=RunConfig(
            name="training",
            storage_path=storage,
            failure_config=FailureConfig(MAX_FAILURES, controller_failure_limit=MAX_FAILURES),
            worker_runtime_env={"env_vars": variables_of_worker(cpus)},
        ),
    ).fit()


class _Messages:
    """Passes what workers report to the process that waits for them. It is an actor of Ray."""

    def __init__(self, resume):
        self.resume = resume
        self.attempts = 0
        self.waiting = []

    def begin(self):
        """Returns whether the workers that start now resume a run."""
        self.attempts += 1
        if self.attempts > 1:
            self.put("line", RESTARTED)
        # Later attempts continue the first one.
        return self.resume or self.attempts > 1

    def put(self, kind, value):
        self.waiting.append((kind, value))

    def take(self):
        taken, self.waiting = self.waiting, []
        return taken


class _Lines(io.TextIOBase):
    """Passes complete lines to a function."""

    def __init__(self, tell):
        super().__init__()
        self.tell = tell
        self.begun = ""

    def write(self, text):
        *lines, self.begun = (self.begun + text).split("\n")
        for line in lines:
            self.tell(line)
        return len(text)


def _work(job):
    """Trains in a worker."""
    import ray
    from ray import train as ray_train
    from ray.train.collective import broadcast_from_rank_zero

    messages, context = job["messages"], ray_train.get_context()
    index, number = context.get_world_rank(), context.get_world_size()

    def report(kind, value):
        ray.get(messages.put.remote(kind, value))

    address = broadcast_from_rank_zero(_free_address() if index == 0 else None)
    # The first worker alone opens the run folder.
    resume = ray.get(messages.begin.remote()) if index == 0 else True
    os.chdir(job["folder"])

    from kerasfer.train import train
    from kerasfer.train.processes import join

    join(address, number, index)
    shown = _Lines(lambda line: report("line", line)) if index == 0 else io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            metrics = train(
                job["recipe"],
                data_dir=job["data_dir"],
                output_dir=job["output_dir"],
                resume=resume,
            )
    except KerasferError as error:  # It would occur again. The main process ends all workers.
        report("failure", error)
        return
    if index == 0:
        report("result", metrics)


def _free_address():
    import ray

    with socket.socket() as opened:
        opened.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{opened.getsockname()[1]}"
