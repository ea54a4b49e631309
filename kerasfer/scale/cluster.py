"""Starts Ray on this machine or joins a Ray cluster, and checks its resources."""

import contextlib
import logging
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from kerasfer.errors import RunError
from kerasfer.text import usable_cores

ANSWER_SECONDS = 10  # Time limit for a cluster to accept a connection.
VISIBLE_SECONDS = 20  # Time limit for all machines of a cluster to look for files.
# The variables of a process that its workers need too, on every machine.
_PASSED_ON = (
    "KERAS_BACKEND",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_CPP_MIN_LOG_LEVEL",
    "XLA_FLAGS",
    "JAX_PLATFORMS",
)

# Defaults for Ray's settings, which it reads from environment variables.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Sends no reports over the network.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Hides a warning about accelerators.
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray's C++ code would print warnings about Ray Data.
    # Ray starts workers with the niceness 15. Next to other programs, they would then load their
    # models for minutes, and end long after the command.
    "RAY_worker_niceness": "0",
}


@contextlib.contextmanager
def joined_cluster(workers, *, address=None, gpus=0.0, threads=1, variables=None):
    """Connects to Ray within the block.

    Without an address Ray is started on this machine, and all its processes end with the block.

    Args:
        workers: The number of workers that must be able to run at the same time.
        address: The address of a Ray cluster, `"host:6379"`, `"ray://host:10001"` or `"auto"`.
        gpus: The number of GPUs of each worker.
        threads: The number of cores of each worker, and of its backend's threads.
        variables: Further environment variables of the workers.

    Raises:
        RunError: If Ray is not installed, the cluster does not answer, or it has too few cores or
            GPUs.
    """
    check_installed()
    if address is None:
        _check_cores(workers * threads, "this machine", usable_cores())
    elif address != "auto":
        _check_answers(address)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    here = {"num_cpus": workers * threads, "include_dashboard": False} if address is None else {}
    try:
        ray.init(
            # Without an address Ray would join another one that runs on this machine.
            address=address or "local",
            logging_level=logging.ERROR,
            log_to_driver=False,
            runtime_env={"env_vars": variables_of_worker(threads) | (variables or {})},
            **here,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise RunError(f"Cannot connect to Ray at {address or 'this machine'}: {reason}") from error
    try:
        found = ray.cluster_resources()
        if address is not None:
            _check_cores(workers * threads, f"the cluster {address}", int(found.get("CPU", 0)))
        if gpus and workers * gpus > found.get("GPU", 0):
            raise RunError(
                f"{workers} workers with {gpus:g} GPUs each need {workers * gpus:g} GPUs, and Ray "
                f"found {found.get('GPU', 0):g}. Lower --workers."
            )
        yield
    finally:
        ray.shutdown()


def check_installed():
    """Checks that Ray is installed.

    Raises:
        RunError: If it is not.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise RunError('--workers needs Ray, which is not installed: pip install "kerasfer[ray]".')


def check_visible(paths, folder=None):
    """Checks that every machine of the cluster sees the same files.

    Args:
        paths: Paths that must exist on all of them.
        folder: A folder in which all of them must see a file that this process writes, or `None`.

    Raises:
        RunError: If a machine does not see them, or does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    paths = [os.path.abspath(path) for path in paths]
    with contextlib.ExitStack() as stack:
        if folder is not None:
            # The path alone is not sufficient, since each machine may have a different folder
            # there.
            marker = stack.enter_context(
                tempfile.NamedTemporaryFile(dir=folder, prefix=".partial.visible.")
            )
            paths.append(os.path.abspath(marker.name))
        look = ray.remote(num_cpus=0)(_find_missing)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        found = [
            look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(paths)
            for node in nodes
        ]
        try:
            answers = ray.get(found, timeout=VISIBLE_SECONDS)
        except ray.exceptions.RayError as error:
            raise RunError(
                f"Not all machines of the Ray cluster answer: {str(error).splitlines()[0]}"
            ) from error
    for node, missing in zip(nodes, answers, strict=True):
        if missing:
            shown = Path(missing[0])
            if folder is not None and shown.name.startswith(".partial.visible."):
                shown = shown.parent
            raise RunError(
                f"The worker machine {node['NodeManagerAddress']} cannot see {shown}. Use a path "
                "on storage that all machines share, under the same name."
            )


def share_of_machines(workers):
    """Divides the cores and GPUs of the cluster among workers, evenly on each machine.

    Args:
        workers: The number of workers.

    Returns:
        The number of cores and of GPUs of each worker. There are 0 GPUs if the cluster has none, or
        if `$JAX_PLATFORMS` is `cpu`.

    Raises:
        RunError: If there are GPUs, but fewer than workers.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with_gpus = [machine for machine in machines if machine.get("GPU")]
    if os.environ.get("JAX_PLATFORMS") == "cpu" or not with_gpus:
        return _smallest_share(machines, "CPU", workers), 0
    found = int(sum(machine["GPU"] for machine in with_gpus))
    if found < workers:
        raise RunError(
            f"{workers} workers need a GPU each, and Ray found {found}. Lower --workers, or set "
            "the environment variable JAX_PLATFORMS=cpu to train without GPUs."
        )
    return tuple(_smallest_share(with_gpus, name, workers) for name in ("CPU", "GPU"))


def variables_of_worker(threads):
    """Returns the environment variables that select the backend of a worker and limit its threads.

    Args:
        threads: The number of cores of the worker.
    """
    limited = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC")
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return dict.fromkeys(limited, str(threads)) | passed_on


def last_line(error):
    """Returns the last line of Ray's message about an error, which names the error of a worker."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__


def _check_cores(needed, place, found):
    if needed > found:
        raise RunError(
            f"Expected at most as many workers as {place} has cores, {found}. Received: workers "
            f"for {needed} cores. Lower --workers."
        )


def _check_answers(address):
    """Checks within seconds that a gRPC server answers. Ray would wait for minutes."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    import grpc

    target = address.removeprefix("ray://")
    with grpc.insecure_channel(target) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_SECONDS)
        except grpc.FutureTimeoutError as error:
            raise RunError(
                f"No Ray cluster answers at {address} within {ANSWER_SECONDS} seconds. Expected "
                "the address that `ray start --head` prints, such as 10.0.0.5:6379."
            ) from error


def _smallest_share(machines, resource, workers):
    """Returns the share of a worker if the workers are spread evenly over machines, at least 1."""
    found = [machine[resource] for machine in machines if machine.get(resource)]
    return max(1, int(min(found) // -(-workers // len(found))))


def _find_missing(paths):
    return [path for path in paths if not os.path.exists(path)]
