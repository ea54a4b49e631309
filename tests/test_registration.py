"""`import kerasfer` is enough for Keras to load models, and imports nothing by itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import kerasfer
from kerasfer.layers import BiMap
from kerasfer.optimizers import GCSGD

PACKAGE = Path(kerasfer.__file__).parent


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model = keras.Sequential([keras.Input((3, 3)), BiMap(2), keras.layers.Flatten()])
    model.compile(GCSGD(0.1), "mse")
    model.save(path)
    return path


def run(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "imports",
    [
        "import kerasfer, keras",
        "import keras, kerasfer",
        "import kerasfer\nfrom keras.saving import load_model\nimport keras",
        "import kerasfer.layers, keras",
        "from kerasfer import linalg\nimport keras",
        "import kerasfer.optimizers, keras",
    ],
)
def test_models_load(imports, saved):
    code = (
        f"{imports}\nimport sys\nmodel = keras.saving.load_model(sys.argv[1])\n"
        "print([type(each).__name__ for each in (*model.layers, model.optimizer)])"
    )
    result = run(code, saved)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "['BiMap', 'Flatten', 'GCSGD']"


def test_importing_the_package_imports_no_backend():
    backends = "{'keras', 'tensorflow', 'jax', 'torch', 'numpy'}"
    result = run(f"import sys, kerasfer; print({backends} & set(sys.modules))")
    assert result.stdout.strip() == "set()", result.stderr


def test_a_missing_keras_is_reported_as_usual():
    code = (
        "import sys, importlib.util as util, kerasfer\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'keras' else find(name, *rest)\n"
        "sys.path = [p for p in sys.path if 'site-packages' not in p]\n"
        "import keras"
    )
    assert "ModuleNotFoundError: No module named 'keras'" in run(code).stderr


def test_every_module_with_registered_classes_is_imported():
    with_classes = {
        ".".join(["kerasfer", *path.relative_to(PACKAGE).with_suffix("").parts])
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^@keras\.saving\.register", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(with_classes) > 5
    result = run("import kerasfer, keras, sys; print(*sys.modules)")
    assert with_classes <= set(result.stdout.split())
