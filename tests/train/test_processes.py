"""Several processes train as one, without Ray."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from two_processes import train_twice

from kerasfer.models.loading import load_model
from kerasfer.runs.folder import RunFolder
from kerasfer.train.processes import count_processes, from_first, is_first

TESTS = Path(__file__).parents[1]


def free_address():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{opened.getsockname()[1]}"


def test_an_ordinary_training_is_the_first_and_only_process():
    assert (count_processes(), is_first(), from_first(7)) == (1, True, 7)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX joins processes")
def test_two_processes_train_as_one(tmp_path, plain):
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, Path(__file__).with_name("two_processes.py"), tmp_path / "two"]
    processes = [
        subprocess.Popen(
            [*command, address, "2", str(index)],
            env=os.environ | {"PYTHONPATH": paths},
            stderr=subprocess.PIPE,
            text=True,
        )
        for address in [free_address()]
        for index in range(2)
    ]
    errors = [process.communicate(timeout=500)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    metrics = train_twice(tmp_path / "one")

    one, two = (RunFolder(tmp_path / name / "shared") for name in ("one", "two"))
    assert two.read_environment()["num_devices"] == 2
    assert len(two.read_history()) == 3
    for row, expected in zip(two.read_history(), one.read_history(), strict=True):
        for column in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert row[column] == pytest.approx(expected[column], rel=1e-5), column
    assert two.read_metrics()["accuracy"] == metrics["accuracy"]
    ours, expected = (load_model(run.model) for run in (two, one))
    for values, same in zip(ours.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(values, same, rtol=1e-4, atol=2e-6)
    (kernel,) = [v for v in ours.trainable_variables if v.constraint is not None]
    kernel = keras.ops.convert_to_numpy(kernel).astype("float64")
    assert abs(kernel @ kernel.T - np.eye(len(kernel))).max() < 1e-6
    assert {path.name for path in two.path.iterdir()} >= {"recipe.yaml", "metrics.json"}
