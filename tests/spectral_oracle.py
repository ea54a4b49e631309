"""Functions of symmetric matrices and their gradients in float64, and matrices to try them on.

The divided differences here are other formulas than the package's own: for the logarithm
atanh(z)/z / m, for the exponential a sinh. `test_oracle.py` checks them against scipy.
"""

import contextlib
from typing import NamedTuple

import keras
import numpy as np

BACKEND = keras.backend.backend()


class Oracle(NamedTuple):
    value: callable
    slope: callable  # (f(a) - f(b)) / (a - b), at ties f'(a)

    def __call__(self, x):
        return self.value_and_gradient(x, np.zeros_like(x))[0]

    def value_and_gradient(self, x, upstream):
        values, vectors = np.linalg.eigh(x.astype("float64"))
        transposed = np.swapaxes(vectors, -2, -1)
        slopes = self.slope(values[..., :, None], values[..., None, :])
        symmetric = (upstream + np.swapaxes(upstream, -2, -1)) / 2
        inner = slopes * (transposed @ symmetric @ vectors)
        value = vectors @ (self.value(values)[..., None] * transposed)
        return value, vectors @ inner @ transposed


def log_slope(a, b):
    z, middle = (a - b) / (a + b), (a + b) / 2
    small = np.abs(z) < 1e-4
    ratio = np.arctanh(np.where(small, 0.5, z)) / np.where(small, 0.5, z)
    return np.where(small, 1 + z**2 / 3 + z**4 / 5, ratio) / middle


def exp_slope(a, b):
    half = (a - b) / 2
    small = np.abs(half) < 1e-4
    ratio = np.sinh(np.where(small, 1.0, half)) / np.where(small, 1.0, half)
    return np.exp((a + b) / 2) * np.where(small, 1 + half**2 / 6, ratio)


def rectify_oracle(epsilon):
    def slope(a, b):
        above, below = (a > epsilon) & (b > epsilon), (a <= epsilon) & (b <= epsilon)
        gap = np.where(above | below, 1.0, a - b)
        return np.where(
            above,
            1.0,
            np.where(below, 0.0, (np.maximum(a, epsilon) - np.maximum(b, epsilon)) / gap),
        )

    return Oracle(lambda s: np.maximum(s, epsilon), slope)


def rectified_log_oracle(epsilon):
    rectify = rectify_oracle(epsilon)

    def slope(a, b):
        return log_slope(rectify.value(a), rectify.value(b)) * rectify.slope(a, b)

    return Oracle(lambda s: np.log(np.maximum(s, epsilon)), slope)


LOG = Oracle(np.log, log_slope)
EXP = Oracle(np.exp, exp_slope)


def value_and_gradient(function, x, upstream, compiled=False):
    """Returns function(x) and the gradient of <function(x), upstream>, on the current backend.

    `compiled` uses XLA, with all of its optimizations. PyTorch always computes op by op.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def both(x, upstream):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return y, tape.gradient(y, x, output_gradients=upstream)

        if compiled:
            both = tf.function(both, jit_compile=True, autograph=False)
        y, gradient = both(tf.constant(x), tf.constant(upstream))
        return np.asarray(y), np.asarray(gradient)
    if BACKEND == "jax":
        import jax

        def both(x, upstream):
            y, pull_back = jax.vjp(function, x)
            return y, pull_back(upstream)[0]

        with optimized() if compiled else contextlib.nullcontext():
            both = jax.jit(both) if compiled else both
            y, gradient = both(jax.numpy.asarray(x), jax.numpy.asarray(upstream))
            return np.asarray(y), np.asarray(gradient)
    import torch

    x = torch.tensor(x, requires_grad=True)
    y = function(x)
    y.backward(torch.tensor(upstream))
    return y.detach().numpy(), x.grad.numpy()


@contextlib.contextmanager
def optimized():
    """Compiles as users do: conftest.py turns most of JAX's optimizations off."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def value(function, x):
    return keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(x)))


def float64_enabled():
    """JAX takes float64 only where it is turned on."""
    if BACKEND == "jax":
        import jax

        return jax.enable_x64(True)
    return contextlib.nullcontext()


def error(measured, expected):
    """Relative error of the worst matrix: each one by itself, so that none hides in the batch."""
    measured, expected = np.asarray(measured, "float64"), np.asarray(expected, "float64")
    difference = np.linalg.norm(measured - expected, axis=(-2, -1))
    return np.max(difference / np.linalg.norm(expected, axis=(-2, -1)))


def upstream_like(x, seed=1):
    """A gradient from above, not symmetric, as a dense layer's."""
    return np.random.default_rng(seed).standard_normal(x.shape).astype(x.dtype)


# Matrices (batch, n, n) with eigenvalues from 1/condition to 1.


def spread(condition, size=24, batch=4, seed=0):
    """Eigenvalues spread evenly on the logarithmic scale."""
    rng = np.random.default_rng(seed)
    values = np.exp(rng.uniform(-np.log(condition), 0, (batch, size)))
    values[:, 0], values[:, -1] = 1, 1 / condition
    return _rotated(values, rng)


def tied(condition, size=24, batch=4, seed=0):
    """Eigenvalues that tie exactly, in blocks of thirds: diagonal, and two by two coupled."""
    rng = np.random.default_rng(seed)
    values = np.repeat([1.0, condition**-0.5, 1 / condition], size // 3)
    diagonal = np.stack([np.diag(rng.permutation(values)) for _ in range(batch - 1)])
    # Each 2 × 2 block [[a, b], [b, a]] has the eigenvalues a ± b, here 1 and 1/condition.
    pair = np.array([[1 + 1 / condition, 1 - 1 / condition]] * 2) / 2
    pair[1] = pair[1, ::-1]
    coupled = np.kron(np.eye(size // 2), pair)
    return np.concatenate([diagonal, coupled[None]]).astype("float32")


def nearly_tied(condition, size=24, batch=4, seed=0):
    """Eigenvalues that differ by 1e-7 of themselves, in three bunches."""
    rng = np.random.default_rng(seed)
    values = np.repeat([1.0, condition**-0.5, 1 / condition], size // 3)
    return _rotated(values * (1 + 1e-7 * rng.standard_normal((batch, size))), rng)


def rank_deficient(samples=144, size=256, batch=2, seed=0):
    """Covariances of fewer samples than dimensions: size - samples + 1 eigenvalues are 0."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((batch, size, samples))
    centered = features - features.mean(axis=-1, keepdims=True)
    return (centered @ np.swapaxes(centered, -2, -1) / (samples - 1)).astype("float32")


def _rotated(values, rng):
    batch, size = values.shape
    rotation = np.linalg.qr(rng.standard_normal((batch, size, size)))[0]
    x = (rotation * values[:, None, :]) @ np.swapaxes(rotation, -2, -1)
    return ((x + np.swapaxes(x, -2, -1)) / 2).astype("float32")
