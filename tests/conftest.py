"""Every test runs on the backend that KERAS_BACKEND names, with fixed seeds and no network."""

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands do
# On small sizes JAX compiles for much longer than it computes.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Their asserts are tests too: without this a failure shows no values.
pytest.register_assert_rewrite("layer_checks", "spectral_oracle")


@pytest.fixture
def seed():
    import keras  # Most of the tests below this folder need no backend.

    keras.utils.set_random_seed(0)


@pytest.fixture
def plain(monkeypatch):
    """Spares a run its figures, which take as long as the training of a tiny model."""
    import tiny_models

    for drawing in tiny_models.FIGURES:
        monkeypatch.setattr(f"kerasfer.train.{drawing}", lambda *arguments, **options: None)


@pytest.fixture
def offline(monkeypatch):
    """Makes every attempt to reach a host fail at once, as on a machine without a network."""
    import socket

    def refuse(*args, **kwargs):
        raise OSError("No network in the tests.")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
