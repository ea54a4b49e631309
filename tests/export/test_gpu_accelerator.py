"""TFLite files on LiteRT's GPU accelerator, with Vulkan computed by software.

The driver is SwiftShader, which Chromium contains, or the one that `VK_ICD_FILENAMES` names. The
lavapipe driver of Mesa 22 lacks features that the accelerator requires.
"""

import os
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import keras
import numpy as np
import pytest
from chromium import find_chromium
from exported_models import make_covariance_model, make_model, metadata, pictures
from keras import layers

from kerasfer.export.rebuild import rebuild
from kerasfer.export.tflite_file import write_tflite
from kerasfer.layers import BilinearPool, ClassProbabilities

DRIVER = "vk_swiftshader_icd.json"
FOLDERS = ("/usr/lib/chromium", "/usr/lib/chromium-browser", "/opt/google/chrome")

# In a process of its own, since the accelerator aborts on graphs that it does not support.
ON_GPU = """
import sys
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import Options
folder, path = sys.argv[1:]
options = Options(hardware_accelerators=HardwareAccelerator.GPU | HardwareAccelerator.CPU)
options.gpu_options.enforce_f32 = True
model = CompiledModel.from_file(path, options=options)
(source,), (target,) = model.create_input_buffers(0), model.create_output_buffers(0)
answers = []
for picture in np.load(folder + "/pictures.npy"):
    source.write(picture[None])
    model.run_by_index(0, [source], [target])
    answers.append(target.read(7, np.float32))
np.savez(folder + "/answers.npz", answers=answers, complete=model.is_fully_accelerated())
"""

pytestmark = pytest.mark.deploy


def find_driver():
    """Returns the description of a software driver for Vulkan, or `None`."""
    named = os.environ.get("VK_ICD_FILENAMES")
    browser = find_chromium()
    folders = FOLDERS if browser is None else (Path(browser).resolve().parent, *FOLDERS)
    paths = [Path(folder, DRIVER) for folder in folders]
    return named or next((str(path) for path in paths if path.exists()), None)


@pytest.fixture
def on_gpu(tmp_path):
    """Returns a function that predicts pictures with a file on the GPU accelerator."""
    driver = find_driver()
    if driver is None:
        pytest.skip(
            f"No software driver for Vulkan: install Chromium, which contains {DRIVER}, or name a "
            "driver with VK_ICD_FILENAMES."
        )
    if find_library("vulkan") is None:
        pytest.skip("The loader of Vulkan, libvulkan.so.1, is not installed.")

    def predict(path, images):
        np.save(tmp_path / "pictures.npy", images)
        done = subprocess.run(
            [sys.executable, "-P", "-c", ON_GPU, str(tmp_path), str(path)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "VK_ICD_FILENAMES": driver},
        )
        assert done.returncode == 0, done.stderr
        return np.load(tmp_path / "answers.npz")

    return predict


def make_bilinear_model():
    covariances = make_covariance_model()
    maps = next(layer for layer in covariances.layers if isinstance(layer, layers.Conv2D)).output
    pooled = layers.Dense(7, name="logits")(BilinearPool(data_format="channels_last")(maps))
    names = covariances.layers[-1].class_names
    return keras.Model(covariances.input, ClassProbabilities(names)(pooled))


@pytest.mark.parametrize(
    "make, quantize, complete",
    [
        (make_covariance_model, "none", True),
        (make_covariance_model, "int8", True),
        (make_bilinear_model, "none", True),
        (make_model, "none", False),  # SPD-Attention has tensors of five axes.
    ],
)
def test_gpu_accelerator(tmp_path, on_gpu, make, quantize, complete):
    keras.utils.set_random_seed(0)
    model = rebuild(make(), "matmul")
    path, images = tmp_path / "faces.tflite", pictures(20)
    write_tflite(model, path, metadata(quantize), quantize, images)
    found = on_gpu(path, images[:5])
    expected = model.predict(images[:5], verbose=0)
    limit = 1e-3 if quantize == "none" else 0.1
    np.testing.assert_allclose(found["answers"], expected, atol=limit)
    assert found["complete"] == complete
