"""Functions of symmetric matrices by one eigendecomposition, with an exact gradient.

The gradient of U f(Σ) Uᵀ is U (K ∘ (Uᵀ sym(G) U)) Uᵀ with the divided differences
K_ij = (f(σ_i) − f(σ_j)) / (σ_i − σ_j) and K_ii = f′(σ_i) (Daleckii and Krein). They are computed
without tolerances, so that tied eigenvalues (the rule for rank-deficient covariances) are no
special case and no sample depends on the others in its batch. The automatic gradients of the
backends are NaN or silently wrong there.
"""

import contextlib
from typing import NamedTuple

from keras import backend, ops

from kerasfer.linalg.matrices import symmetrize

# Stands for a gap of 0 between tied eigenvalues: log1p(x) / x and the like are 1 there, exactly.
_TIED = 1e-30


class SpectralFunction(NamedTuple):
    """f on eigenvalues, and its divided difference (f(a) − f(b)) / (a − b), at ties f′(a)."""

    value: callable
    slope: callable


def spectral_map(x, *functions):
    """Applies functions to the eigenvalues of sym(x): (..., n, n) → (..., len(functions), n, n)."""

    @ops.custom_gradient
    def apply(x):
        values, vectors = _eigh(symmetrize(x))
        values, vectors = values[..., None, :], vectors[..., None, :, :]
        vectors_t = ops.swapaxes(vectors, -2, -1)
        mapped = ops.concatenate([f.value(values) for f in functions], axis=-2)

        def grad(*args, upstream=None):
            g = args[0] if upstream is None else upstream
            a, b = values[..., :, None], values[..., None, :]
            slopes = ops.concatenate([f.slope(a, b) for f in functions], axis=-3)
            inner = slopes * ops.matmul(vectors_t, ops.matmul(g, vectors))
            # The sum over functions first: one product on each side serves all of them.
            inner = ops.sum(inner, axis=-3, keepdims=True)
            # K is symmetric, so sym(G) may as well be taken last, which serves sym(x) too.
            return symmetrize(ops.matmul(vectors, ops.matmul(inner, vectors_t))[..., 0, :, :])

        return ops.matmul(vectors * mapped[..., None, :], vectors_t), grad

    return apply(x)


def _eigh(x):
    """Eigenvalues `(..., n)` and vectors `(..., n, n)`, solved in float64 where the device has it.

    In float32 LAPACK's eigenvalues are off by about 1e-7 of the largest: at condition 1e5 the
    gradient of the logarithm is then wrong by 1 %. float64 makes it right and costs a third more.
    """
    dtype = x.dtype
    with _float64_enabled(), _nan_explained():
        values, vectors = ops.linalg.eigh(ops.cast(x, "float64") if _has_float64(x) else x)
        return ops.cast(values, dtype), ops.cast(vectors, dtype)


def _has_float64(x):
    if backend.backend() == "jax":
        import jax  # Only the backend knows its device.

        return jax.default_backend() != "tpu"
    return backend.backend() != "torch" or x.device.type != "mps"


def _float64_enabled():
    if backend.backend() == "jax":
        import jax  # Its float64 is off by default; this turns it on for one computation.

        return jax.enable_x64(True)
    return contextlib.nullcontext()


@contextlib.contextmanager
def _nan_explained():
    """Turns the solvers' guesses about NaN into one clear error. JAX returns NaN for NaN."""
    if backend.backend() == "torch":
        import torch  # Each backend has an error of its own here.

        failure = torch.linalg.LinAlgError
    elif backend.backend() == "tensorflow":
        import tensorflow as tf

        failure = tf.errors.InvalidArgumentError
    else:
        failure = ()
    try:
        yield
    except failure as error:
        raise ValueError(
            "The eigendecomposition failed: its input must be finite. Received: NaN or infinity "
            "in a matrix, as from a diverged training or a picture with broken values."
        ) from error


def _log_slope(a, b):
    # log1p keeps every digit at any distance of a and b; at ties this is 1 / low.
    low = ops.minimum(a, b)
    share = ops.maximum(ops.abs(a - b) / low, _TIED)
    return ops.log1p(share) / share / low


def _exp_slope(a, b):
    gap = ops.maximum(ops.abs(a - b), _TIED)
    return ops.exp(ops.maximum(a, b)) * (-ops.expm1(-gap) / gap)


def rectifier(epsilon):
    def slope(a, b):
        # 1 where both are above epsilon, 0 where both are below, ties included.
        gap = ops.maximum(ops.abs(a - b), _TIED)
        return ops.clip((ops.maximum(a, b) - epsilon) / gap, 0.0, 1.0)

    return SpectralFunction(lambda s: ops.maximum(s, epsilon), slope)


def compose(outer, inner):
    """Chain rule of divided differences: (f∘g)[a, b] = f[g(a), g(b)] · g[a, b]."""

    def slope(a, b):
        return outer.slope(inner.value(a), inner.value(b)) * inner.slope(a, b)

    return SpectralFunction(lambda s: outer.value(inner.value(s)), slope)


LOG = SpectralFunction(ops.log, _log_slope)
EXP = SpectralFunction(ops.exp, _exp_slope)
