"""Runs the conversion and the runtime's probe, each in a separate process.

Keras exports on TensorFlow only, whatever backend trained the model, and converters and runtimes
may crash. A separate process also verifies that a runtime needs neither Keras nor kerasfer.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from kerasfer import errors
from kerasfer.errors import RunError
from kerasfer.export import child, probe
from kerasfer.export.formats import FORMATS
from kerasfer.files import read_json, write_json

SECONDS = 5  # maximum time to measure a latency


def convert(job, work):
    """Converts a model in a TensorFlow process.

    Args:
        job: `kerasfer.export.job.Job`.
        work: Folder that receives the output of `kerasfer.export.convert`.

    Returns:
        The dict of `converted.json`.

    Raises:
        RunError, RecipeError, DataError: As the conversion raises them.
    """
    job.save(work)
    done = run_python(["kerasfer.export.convert", str(work)], KERAS_BACKEND="tensorflow")
    if (work / "error.json").exists():
        reported = read_json(work / "error.json")
        raise getattr(errors, reported["type"])(reported["message"])
    if done.returncode:
        raise _failed(f"The conversion to {job.format}", done)
    return read_json(work / "converted.json")


def measure(format, exported, work):
    """Loads an exported model with its own runtime, and predicts and times the pictures.

    Args:
        format: A key of `FORMATS`.
        exported: Path of the exported file or folder.
        work: Folder with `pictures.npy`; receives `probabilities.npy`.

    Returns:
        The dict of `probe.json`: `"latency"`, `"load_ms"`, `"memory_bytes"` and `"versions"`.

    Raises:
        RunError: If the runtime is not installed or does not accept the file.
    """
    asked = {"format": format, "path": str(exported), "threads": FORMATS[format].threads}
    write_json(work / "probe_job.json", {**asked, "seconds": SECONDS})
    done = run_python([probe.__file__, str(work)])
    if done.returncode:
        raise _failed(f"Loading the exported {format} model with its runtime", done)
    return read_json(work / "probe.json")


def run_python(arguments, **environment):
    """Runs a module or a script in a process that ends with this one.

    Args:
        arguments: The name of the module or the path of the script, and its arguments.
        environment: Environment variables.

    Returns:
        The `subprocess.CompletedProcess` with the output as text.
    """
    # The package may be imported from a folder that is not installed.
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Neither process needs an accelerator, and one that is in use may have no free memory.
        "CUDA_VISIBLE_DEVICES": "-1",
        **environment,
    }
    read, write = os.pipe()
    try:
        return subprocess.run(
            # -P: the folder of the script must not be on the import path.
            [sys.executable, "-P", child.__file__, *arguments],
            stdin=read,
            env=environment,
            capture_output=True,
            text=True,
        )
    finally:
        os.close(read)
        os.close(write)


def _failed(step, done):
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reason = lines[-1][:300] if lines else f"exit code {done.returncode}"
    missing = re.match(r"ModuleNotFoundError: No module named '([^'.]+)", reason)
    if missing and missing[1] != "kerasfer":
        return RunError(
            f"{step} needs the optional dependency {missing[1]}. Install it with "
            'pip install "kerasfer[export]".'
        )
    with tempfile.NamedTemporaryFile(
        "w", prefix="kerasfer-export-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.write(done.stdout + done.stderr)
    return RunError(f"{step} failed: {reason} (complete log: {log.name})")
