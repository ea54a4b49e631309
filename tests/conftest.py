"""Every test runs on the backend that KERAS_BACKEND names, with fixed seeds and no network."""

import os
import signal
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands do
# On small sizes JAX compiles for much longer than it computes.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Their asserts are tests too: without this a failure shows no values.
pytest.register_assert_rewrite("layer_checks", "spectral_oracle")


# Tests that train, export, compile or build large networks. `-m "not slow"` leaves them out.
SLOW = (
    "tests/evaluate",
    "tests/explain",
    "tests/export",
    "tests/layers/test_onnx_export.py",
    "tests/linalg/test_compiled.py",
    "tests/linalg/test_second_derivatives.py",
    "tests/models",
    "tests/predict/test_runtimes.py",
    "tests/recipe/test_recipes.py",
    "tests/scale/test_scoring.py",
    "tests/scale/test_studies.py",
    "tests/scale/test_training.py",
    "tests/tables",
    "tests/test_demo.py",
    "tests/test_docstrings.py",
    "tests/test_optimizers_keep_axes.py",
    "tests/test_readme.py",
    "tests/train",
    "tests/video/test_video.py",
)


def pytest_configure():
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # A shell's background jobs ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    root = config.rootpath
    for item in items:
        if item.path.relative_to(root).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("deploy") and "deploy" not in config.option.markexpr:
            item.add_marker(pytest.mark.skip(reason="It runs only with -m deploy."))


@pytest.fixture
def inputs(record_property):
    """Counts the random inputs of a test. The summary lists them, with the peak of the memory."""
    import resource  # Windows has none.

    begin, counts = time.monotonic(), Counter()
    yield counts
    if counts:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        seconds = time.monotonic() - begin
        record_property("inputs", {**counts, "seconds": round(seconds), "peak_mib": peak})
        assert peak < 2048 or counts.total() < 1000, f"{peak} MiB"


def pytest_terminal_summary(terminalreporter, config):
    if "fuzz" not in (config.getoption("-m") or ""):
        return
    terminalreporter.section("random inputs")
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        found = dict(getattr(report, "user_properties", ())).get("inputs")
        if found and report.when == "teardown":
            accepted, refused = found.get("accepted", 0), found.get("refused", 0)
            terminalreporter.line(
                f"{report.nodeid.rpartition('::')[2]:<40} {accepted + refused:>6,} inputs, "
                f"{refused:>6,} refused, {found['seconds']:>4} s, peak {found['peak_mib']} MiB"
            )


@pytest.fixture
def seed():
    import keras  # Most of the tests below this folder need no backend.

    keras.utils.set_random_seed(0)


@pytest.fixture
def plain(monkeypatch):
    """Spares a run its figures, which take as long as the training of a tiny model."""
    import tiny_models

    for figure in tiny_models.FIGURES:
        monkeypatch.setattr(figure, lambda *arguments, **options: None)


@pytest.fixture
def offline(monkeypatch):
    """Makes every attempt to reach a host fail at once, as on a machine without a network."""
    import socket

    def refuse(*args, **kwargs):
        raise OSError("No network in the tests.")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


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
