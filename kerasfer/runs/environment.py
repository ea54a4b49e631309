"""Describes the environment of a run: versions, backend, device, revision and time."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import keras

from kerasfer import __version__
from kerasfer.errors import RecipeError, RunError
from kerasfer.text import describe_cpu


def environment(seed):
    """Describes the environment of a run, for its `environment.json`.

    Args:
        seed: The seed of every random choice.

    Returns:
        A dict of strings and numbers.

    Example:

    >>> environment(seed=0)["seed"]
    0
    """
    backend = keras.backend.backend()
    found = accelerators()
    return {
        "kerasfer": __version__,
        "python": platform.python_version(),
        "keras": keras.version(),
        "backend": backend,
        "backend_version": sys.modules[backend].__version__,
        "device": ", ".join(found) if found else describe_cpu(),
        "platform": platform.platform(),
        "seed": seed,
        "git_revision": _git_revision(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def check_backend(expected):
    """Checks that Keras uses the backend that a recipe asks for.

    Args:
        expected: `train.backend` of the recipe. None accepts every backend.

    Raises:
        RecipeError: If it uses another one. The backend cannot be changed after Keras is imported.
    """
    backend = keras.backend.backend()
    if expected not in (None, backend):
        raise RecipeError(
            f"train.backend is {expected}, but Keras was imported with the backend {backend}. Set "
            f"the environment variable KERAS_BACKEND={expected} before Keras is imported, or set "
            "train.backend to null."
        )


def continued(before, now, extended=None):
    """Describes the environment of a run that an earlier process has begun.

    Args:
        before: The dict of `environment.json` of the earlier part.
        now: The same of this process.
        extended: A record of an extension of the training beyond the original plan, or None.

    Returns:
        `now` with the time at which the run began, and with all of its extensions.

    Raises:
        RunError: If the run began with another backend, whose random numbers and rounding differ,
            or with another teacher.
    """
    if before.get("backend") not in (None, now["backend"]):
        raise RunError(
            f"The run began with the backend {before['backend']}, and this process uses "
            f"{now['backend']}. Resume it with --backend {before['backend']}, or train from the "
            "beginning under another name."
        )
    teacher, same = (facts.get("teacher") or {} for facts in (now, before))
    if teacher.get("sha256") != same.get("sha256"):
        raise RunError(
            f"The teacher {teacher.get('path')} is not the one that this run began with, since it "
            "was trained again. Restore the earlier one, or remove the run folder to train from "
            "the beginning."
        )
    kept = {key: before[key] for key in ("started", "extended") if key in before}
    if extended:
        kept["extended"] = [*kept.get("extended", ()), extended]
    return now | kept


def accelerators():
    """Lists the accelerators of the backend, such as `gpu:0`. CPUs are not included."""
    if keras.backend.backend() == "torch":
        import torch  # keras.distribution does not list the devices of PyTorch.

        return [f"gpu:{number}" for number in range(torch.cuda.device_count())]
    devices = keras.distribution.list_devices()
    return [device for device in devices if "cpu" not in device.lower()]


def emulates_half_precision(cpu_facts="/proc/cpuinfo"):
    """Returns whether half precision is slower than float32, on a CPU that only emulates it.

    TensorFlow and PyTorch compute float16 and bfloat16 fast on CPUs with AVX-512 or Arm's BF16. On
    others a training step takes up to eleven times longer than in float32. JAX computes in float32.

    Args:
        cpu_facts: The path of the kernel's description of the CPU. Windows and macOS have none;
            there the result is `False`.

    Returns:
        A bool.
    """
    if keras.backend.backend() == "jax" or accelerators():
        return False
    try:
        lines = Path(cpu_facts).read_text().lower().splitlines()
    except OSError:
        return False
    known = {
        word for line in lines if line.startswith(("flags", "features")) for word in line.split()
    }
    return bool(known) and not known & {"avx512f", "bf16"}


def _git_revision():
    """Returns the revision of the working folder's repository, with a + for changed files."""
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return shown.stdout.strip() or None
