"""Times several programs in turns, so that other load on the machine affects them equally.

Each contestant lives in a process of its own: two runtimes in one process keep spinning thread
pools that slow each other down. The processes take turns (A, B, A, B, …); one works while the
others sleep. What counts is the ratio of the medians. The quartiles of the ratios of neighboring
turns, the ratio of the fastest turns and the cores that other programs used meanwhile say how far
to trust it: PyTorch's OpenMP threads wait by spinning and suffer far more from company than
TensorFlow's, so that a busy machine flatters TensorFlow. With `--threads 1` nobody spins, and the
ratio of the processor times is right on a busy machine too.
"""

import argparse
import multiprocessing
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import numpy as np

PACKAGES = ("keras", "tensorflow", "jax", "torch", "spd_learn")


class Result(NamedTuple):
    """What a contestant did, by turns, and the facts that it told of itself."""

    seconds: np.ndarray  # a step
    processor: np.ndarray  # seconds a step, summed over its threads
    others: np.ndarray  # cores that other programs used
    facts: dict

    @property
    def median(self):
        return float(np.median(self.seconds))


def race(contestants, *, threads=2, turns=15, turn_seconds=0.5, warmup=3):
    """Times contestants in turns.

    Args:
        contestants: Mapping of names to pairs: a function at module level, and its keyword
            arguments. Called in a process of its own, it returns the function to time, which must
            wait for its result, and a dict of facts.
        threads: Number of cores that each process may use.
        turns: Number of turns of each.
        turn_seconds: About how long a turn lasts; it has at least one step.
        warmup: Number of steps before the first turn.

    Returns:
        A dict of names to `Result`.
    """
    context = multiprocessing.get_context("spawn")
    pipes, facts, steps, processes = {}, {}, {}, []
    try:
        for name, (make, arguments) in contestants.items():
            pipes[name], theirs = context.Pipe()
            task = (theirs, threads, warmup, make, arguments)
            processes.append(context.Process(target=_work, args=task, daemon=True))
            processes[-1].start()
            theirs.close()
            facts[name] = pipes[name].recv()  # one after the other: warm-ups do not overlap
            pipes[name].send(1)
            steps[name] = max(1, round(turn_seconds / pipes[name].recv()[0]))
        measured = {name: [] for name in contestants}
        for _ in range(turns):
            for name, pipe in pipes.items():
                pipe.send(steps[name])
                measured[name].append(pipe.recv())
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return {name: Result(*np.transpose(measured[name]), facts[name]) for name in contestants}


def _work(pipe, threads, warmup, make, arguments):
    limit_threads(threads)
    step, facts = make(**arguments)
    for _ in range(warmup):
        step()
    pipe.send(facts)
    while True:
        steps = pipe.recv()
        start, own, all_programs = time.perf_counter(), time.process_time(), _busy_seconds()
        for _ in range(steps):
            step()
        seconds, own = time.perf_counter() - start, time.process_time() - own
        others = max(0.0, _busy_seconds() - all_programs - own)
        pipe.send((seconds / steps, own / steps, others / seconds))


def _busy_seconds():
    """Returns the processor time that all programs have used; NaN where it cannot be known."""
    try:
        with open("/proc/stat") as file:
            user, nice, system = (int(field) for field in file.readline().split()[1:4])
    except OSError:
        return float("nan")
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def limit_threads(threads):
    """Leaves this process `threads` cores; call it before a runtime is imported."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[variable] = str(threads)
    if hasattr(os, "sched_setaffinity"):  # JAX has no setting of its own; Linux only
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    # On a GPU the processes share its memory.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as kerasfer's commands do


def parse(description, **defaults):
    """Parses `--threads`, `--turns` and the options of a script, from their defaults."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    for name, default in ({"threads": 2, "turns": 15} | defaults).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=str if default is None else type(default),
            default=default,
            help=f"[default: {default}]",
        )
    return parser.parse_args()


def print_header(threads):
    """Prints one line about the machine and the versions."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print(f"{_cpu()}, {threads} threads{load} | backend {backend} | {', '.join(versions)}")


def _cpu():
    try:
        with open("/proc/cpuinfo") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        name = {key.strip(): value.strip() for key, value in fields.items()}["model name"]
    except (OSError, KeyError):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def print_pair(title, ours, peer):
    """Prints both medians and peer / ours: above 1, ours is faster.

    Args:
        title: What was timed.
        ours: `Result`.
        peer: `Result` of the same race.

    Returns:
        The ratio.
    """
    ratio = peer.median / ours.median
    low, high = np.quantile(peer.seconds / ours.seconds, [0.25, 0.75])
    fastest = peer.seconds.min() / ours.seconds.min()
    processor = np.median(peer.processor) / np.median(ours.processor)
    others = np.mean([ours.others, peer.others])
    print(
        f"{title:<33}ours {ours.median * 1e3:7.1f} ms  peer {peer.median * 1e3:7.1f} ms  "
        f"peer / ours {ratio:5.2f} ({low:.2f} to {high:.2f}; fastest turns {fastest:.2f}; "
        f"processor time {processor:.2f}; others used {others:.1f} cores)",
        flush=True,
    )
    return ratio
