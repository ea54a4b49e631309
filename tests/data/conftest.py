"""Draws pictures and trees as the releases ship them."""

import numpy as np
import pytest
from PIL import Image


def draw_picture(path, size=(48, 48), mode="L", seed=0, **options):
    """Writes a picture of noise and makes the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype="uint8")
    Image.fromarray(noise).convert(mode).save(path, **options)
    return path


@pytest.fixture
def draw():
    return draw_picture


@pytest.fixture
def tree(tmp_path):
    """Writes small pictures at the given relative paths."""

    def plant(*paths, root=tmp_path):
        for seed, path in enumerate(paths):
            draw_picture(root / path, seed=seed)
        return root

    return plant
