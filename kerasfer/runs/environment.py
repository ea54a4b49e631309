"""Where a run takes place: versions, backend, device, revision, time."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import keras

from kerasfer import __version__


def environment(seed):
    """Describes where a run takes place, for its `environment.json`.

    Args:
        seed: Seed of every random choice.

    Returns:
        A dict of strings and numbers.

    Example:
        >>> environment(seed=0)["backend"]
    """
    backend = keras.backend.backend()
    found = accelerators()
    return {
        "kerasfer": __version__,
        "python": platform.python_version(),
        "keras": keras.version(),
        "backend": backend,
        "backend_version": sys.modules[backend].__version__,
        "device": ", ".join(found) if found else f"CPU, {os.cpu_count()} cores",
        "platform": platform.platform(),
        "seed": seed,
        "git_revision": _git_revision(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def accelerators():
    """Lists the accelerators that the backend computes on, such as `gpu:0`; on a CPU, none."""
    if keras.backend.backend() == "torch":
        import torch  # keras.distribution does not know torch's devices.

        return [f"gpu:{number}" for number in range(torch.cuda.device_count())]
    devices = keras.distribution.list_devices()
    return [device for device in devices if "cpu" not in device.lower()]


def emulates_half_precision(cpu_facts="/proc/cpuinfo"):
    """Tells whether half precision is slower than float32 here: on a CPU that only emulates it.

    TensorFlow and PyTorch compute float16 and bfloat16 fast on CPUs with AVX-512 or Arm's BF16; on
    others a training step takes up to eleven times longer than in float32. JAX computes in float32.

    Args:
        cpu_facts: Path of the kernel's description of the CPU. Where there is none, such as on
            Windows and macOS, nothing is known and the answer is `False`.

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
    """The revision of the working folder's repository, with a + where files are changed."""
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
