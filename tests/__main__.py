"""Runs all checks: lint, the tests on TensorFlow, the backend-neutral ones on JAX and PyTorch.

Arguments go on to pytest: `python -m tests -k resume`.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# What computes with Keras runs on each backend; the rest is the same code whatever the backend.
NEUTRAL = [
    "tests/linalg",
    "tests/layers",
    "tests/models",
    "tests/test_optimizers.py",
    "tests/data/test_batches.py",
    "tests/train/test_compiling.py",
    "tests/train/test_distillation.py",
    "tests/runs/test_environment.py",
    "tests/train/test_stages.py",
    "tests/train/test_gradient_norms.py",
    "tests/predict/test_predict.py",
    "tests/explain",
    "tests/video/test_video.py",
]

# XLA compiles these for minutes on a CPU: large networks, of Keras' own layers alone.
LARGE = ["tests/models/test_networks.py", "tests/models/test_res_masking.py"]

# A file stays whole: its tests share what is costly to set up. Two processes take up to 11 GB.
PARALLEL = ["--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile"]


def main():
    failed = []
    for arguments in (["check"], ["format", "--check"]):
        failed += run(["ruff", *arguments, "."])
    failed += run(["pytest", *PARALLEL, *NEUTRAL, *sys.argv[1:]], "torch")
    without = [f"--ignore={file}" for file in LARGE]
    failed += run(["pytest", *PARALLEL, *NEUTRAL, *without, *sys.argv[1:]], "jax")
    failed += run(["pytest", *PARALLEL, *sys.argv[1:]], "tensorflow")
    if failed:
        print("failed: " + "; ".join(failed), file=sys.stderr)
    return len(failed)


def run(command, backend=None):
    """Runs a module; returns its command line in a list if it failed, else an empty list."""
    title = " ".join(command) + (f" on {backend}" if backend else "")
    print(f"\n{title}", flush=True)
    # The processes share the cores: OpenMP's threads, which else wait by spinning, would hold them.
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    if backend:
        environment["KERAS_BACKEND"] = backend
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment)
    return [title] if done.returncode else []


if __name__ == "__main__":
    sys.exit(main())
