"""Runs all checks: lint, the tests on TensorFlow, the backend-neutral ones on JAX and PyTorch."""

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
    "tests/data/test_pipeline.py",
    "tests/test_compiling.py",
    "tests/test_distill.py",
    "tests/test_fitting.py",
    "tests/test_gradient_norms.py",
    "tests/test_predict.py",
    "tests/explain",
    "tests/video/test_video.py",
]


def main():
    failed = []
    for arguments in (["check"], ["format", "--check"]):
        failed += run(["ruff", *arguments, "."])
    for backend in ("torch", "jax"):
        failed += run(["pytest", *NEUTRAL, *sys.argv[1:]], backend)
    failed += run(["pytest", *sys.argv[1:]], "tensorflow")
    if failed:
        print("failed: " + "; ".join(failed), file=sys.stderr)
    return len(failed)


def run(command, backend=None):
    """Runs a module; returns its command line in a list if it failed, else an empty list."""
    title = " ".join(command) + (f" on {backend}" if backend else "")
    print(f"\n{title}", flush=True)
    environment = {**os.environ, "KERAS_BACKEND": backend} if backend else None
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment)
    return [title] if done.returncode else []


if __name__ == "__main__":
    sys.exit(main())
