"""Several devices train as one: two devices of the CPU in a process of their own."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from kerasfer.data.batches import Batches, Training
from kerasfer.data.loading import load_dataset
from kerasfer.errors import DataError, RecipeError
from kerasfer.recipe.schema import Recipe
from kerasfer.train.devices import find_devices

BACKEND = keras.backend.backend()
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    command = [sys.executable, Path(__file__).with_name("two_devices.py"), BACKEND]
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, tmp_path_factory.mktemp("runs")],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


several = pytest.mark.skipif(BACKEND == "torch", reason="PyTorch uses one device")


@several
def test_two_devices_train_as_one(results):
    one, two = results["1"], results["2"]
    assert (one["num_devices"], two["num_devices"]) == (1, 2)
    # TensorFlow reports the penalties of both devices in the training loss.
    columns = ["accuracy", "val_accuracy", "val_loss"] + ["loss"] * (BACKEND == "jax")
    histories = [list(csv.DictReader(io.StringIO(run["history"]))) for run in (one, two)]
    assert len(histories[0]) == 2
    for column in columns:
        values = [[float(row[column]) for row in history] for history in histories]
        np.testing.assert_allclose(values[1], values[0], rtol=1e-5, err_msg=column)
    for ours, expected in zip(two["weights"], one["weights"], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-6)


@several
def test_kernels_stay_on_the_stiefel_manifold(results):
    assert results["2"]["stiefel"] < 1e-6


@several
def test_the_saved_model_loads_on_every_backend(results):
    assert results["2"]["synchronized"] == [False, False]


@several
def test_what_devices_cannot_do_is_refused_before_the_training(results):
    refused = results["refused"]
    assert f"train.devices is 3, but {BACKEND} finds 2: cpu:0, cpu:1" in refused["number"]
    assert "data.batch_size must be a multiple of the number of devices, 2" in refused["batch"]
    batch = refused["evaluation_batch"]
    assert "evaluate.batch_size must be a multiple of the number of devices, 2" in batch
    if BACKEND == "tensorflow":
        assert "optimizer.clip_norm is unsupported on tensorflow" in refused["clip_norm"]
    else:
        assert refused["clip_norm"] is None
    assert results["auto"] == ["cpu:0"]


def recipe(devices):
    sections = {"data": {"name": "synthetic"}, "model": {"name": "covpool"}}
    return Recipe.model_validate({**sections, "train": {"devices": devices}})


def test_a_machine_without_gpu_uses_one_device():
    assert find_devices(recipe("auto")) == find_devices(recipe(1)) == ["cpu:0"]


@pytest.mark.skipif(BACKEND != "torch", reason="the other backends support several devices")
def test_torch_names_the_backends_that_support_several_devices():
    with pytest.raises(
        RecipeError, match="unsupported on torch. Use --backend jax or --backend te"
    ):
        find_devices(recipe(2))


def test_batches_leave_out_what_cannot_be_shared():
    samples = load_dataset("synthetic", num_samples=23)
    batches = Batches(samples, 16, 8, training=Training(shuffle=False, multiple=4))
    assert [len(batches[index][1]) for index in range(len(batches))] == [8, 8, 4]
    with pytest.raises(DataError, match="Expected at least 24 pictures, one for each device"):
        Batches(samples, 16, 24, training=Training(multiple=24))
    with pytest.raises(ValueError, match="`batch_size` must be a multiple of 4"):
        Batches(samples, 16, 6, training=Training(multiple=4))
