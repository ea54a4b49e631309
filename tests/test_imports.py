import os
import subprocess
import sys

import pytest

from kerasfer.imports import without_tensorflow

RUN = """
import sys
from kerasfer.recipe import load_recipe
from kerasfer.train import train

changes = ["data.num_samples=28", "data.image_size=32", "train.epochs=1", "train.tensorboard=true"]
model = ["model.name=resnet18", "model.bimap_units=null"]
train(load_recipe(sys.argv[1], changes + model), output_dir=sys.argv[2])
print([name for name in sys.modules if name.split(".")[0] == "tensorflow"])
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_run_on_another_backend_leaves_tensorflow_alone(tmp_path, pytestconfig, backend):
    recipe = pytestconfig.rootpath / "recipes" / "quickstart.yaml"
    done = subprocess.run(
        [sys.executable, "-c", RUN, recipe, tmp_path],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_hidden_for_the_block_alone(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with without_tensorflow(), pytest.raises(ImportError):
        import tensorflow  # noqa: F401
    assert "tensorflow" not in sys.modules


def test_what_is_imported_already_stays(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    monkeypatch.setitem(sys.modules, "tensorflow", os)
    with without_tensorflow():
        import tensorflow
    assert tensorflow is os
