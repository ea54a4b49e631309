"""Computes functions of symmetric matrices by one eigendecomposition, with exact derivatives.

With X = U Σ Uᵀ, the derivatives of f(X) = U f(Σ) Uᵀ in the directions G and H are, in the basis U,

    D f(X)[G]_ij      = f[σ_i, σ_j] G_ij
    D² f(X)[G, H]_ij  = Σ_k f[σ_i, σ_k, σ_j] (G_ik H_kj + H_ik G_kj)

(Daleckii and Krein). The divided differences f[…] are computed without tolerances. Tied
eigenvalues, which are common in rank-deficient covariances, therefore need no special treatment,
and no sample depends on the others in its batch. The automatic gradients of the backends are NaN or
silently wrong at ties.
"""

import contextlib
import math
from typing import NamedTuple

from keras import backend, ops

from kerasfer.linalg.derivatives import with_derivatives
from kerasfer.linalg.matrices import symmetrize

# The step at ties, as a fraction of a function's unit, and its lower bound in float32; see `slope`.
_STEP, _SMALLEST_STEP = 1e-12, 1e-37
# Below this distance of eigenvalues the Taylor series of the curvature is used. Its error, the
# fifth power of the distance, and the rounding error of a difference of slopes, ε / 0.03, are both
# small.
_NEAR = 0.03


class SpectralFunction(NamedTuple):
    """An increasing function f of eigenvalues and its divided differences (derivatives at ties).

    Elementwise operations on pairs of eigenvalues take as long as matrix products, so terms that
    depend on a single eigenvalue are computed on vectors.
    """

    value: callable
    derivative: callable
    distance: callable  # |f(a) − f(b)|, in full precision at any distance of a and b
    unit: callable  # a length at a over which the derivative changes by its own size or less
    curvature: callable  # f[a, b, c] = (f[a, b] − f[b, c]) / (a − c)

    def slope(self, a, b):
        """f[a, b] = (f(a) − f(b)) / (a − b).

        A tiny step along the tangent at a is added. It matters only at ties, where this is f'(a).
        """
        step = ops.maximum(_STEP * self.unit(a), _SMALLEST_STEP)
        return (self.distance(a, b) + step * self.derivative(a)) / (abs(a - b) + step)


def spectral_map(x, *functions):
    """Applies each function to the eigenvalues of sym(x), after a single eigendecomposition.

    Args:
        x: `(..., n, n)`.
        *functions: `SpectralFunction`s.

    Returns:
        A list with one tensor `(..., n, n)` per function. First and second derivatives are exact.
        The second ones take O(n³) memory per matrix; third ones raise NotImplementedError.
    """
    values, vectors = _eigh(symmetrize(ops.stop_gradient(x)))
    return [
        with_derivatives(_derivative_of(function), values, vectors, x) for function in functions
    ]


def _derivative_of(function):
    """Returns the function that computes f(X), D f(X)[G] or D² f(X)[G, H] from U and Σ."""

    def derivative(values, vectors, *directions):
        vectors_t = ops.swapaxes(vectors, -2, -1)
        if not directions:
            return (vectors * function.value(values)[..., None, :]) @ vectors_t
        g, *h = (symmetrize(vectors_t @ (d @ vectors)) for d in directions)
        if not h:
            inner = g * function.slope(values[..., :, None], values[..., None, :])
        elif len(h) == 1:
            inner = _second_derivative(function, values, g, h[0])
        else:
            raise NotImplementedError(
                "Functions of eigenvalues have first and second derivatives. "
                f"Received: a request for derivative {len(directions)}. "
                'Use method="matmul", which can be differentiated any number of times.'
            )
        return vectors @ (inner @ vectors_t)

    return derivative


def _second_derivative(function, values, g, h):
    curvature = function.curvature(
        values[..., :, None, None], values[..., None, :, None], values[..., None, None, :]
    )
    # Axes (..., i, k, j). The second term is the transpose of the first.
    return 2 * symmetrize(ops.sum(curvature * g[..., :, :, None] * h[..., None, :, :], axis=-2))


def _eigh(x):
    """Computes eigenvalues and eigenvectors, in float64 if the device supports it.

    In float32, the error of LAPACK's eigenvalues is about 1e-7 of the largest one. At a condition
    number of 1e5, the gradient of the logarithm then has an error of 1 %. float64 avoids the error
    and takes a third longer.
    """
    dtype = x.dtype
    with _float64_enabled(), _explained():
        x = _check_finite(x)
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


_NOT_FINITE = (
    "The eigendecomposition failed: its input must be finite. Received: NaN or infinity "
    "in a matrix, as from a diverged training or a picture with broken values."
)


def _check_finite(x):
    """Raises an error for NaN and infinity, except in compiled JAX, where NaN remains NaN."""
    if backend.backend() == "jax":
        import jax  # Keras cannot distinguish traced values from concrete ones.

        if not isinstance(x, jax.core.Tracer) and not jax.numpy.isfinite(x).all():
            raise ValueError(_NOT_FINITE)
    elif backend.backend() == "tensorflow":
        import tensorflow as tf  # A compiled graph raises with this text, too.

        return tf.debugging.check_numerics(x, _NOT_FINITE)
    return x


@contextlib.contextmanager
def _explained():
    """Turns the backends' errors about NaN and infinity into one clear ValueError."""
    if backend.backend() == "torch":
        import torch  # Each backend raises a different error here.

        failure = torch.linalg.LinAlgError
    elif backend.backend() == "tensorflow":
        import tensorflow as tf

        failure = tf.errors.InvalidArgumentError
    else:
        failure = ()
    try:
        yield
    except failure as error:
        raise ValueError(_NOT_FINITE) from error


def _difference_of(slope, a, b, c):
    low, middle, high = _sorted(a, b, c)
    return (slope(middle, high) - slope(low, middle)) / ops.maximum(high - low, 1e-30)


def _curvature(slope, unit, scale, coefficients):
    """Builds f[a, b, c] from a difference of slopes and, near ties, from the Taylor series.

    Args:
        slope: f[a, b].
        unit, scale: Functions of the mean m of the three eigenvalues.
        coefficients: f⁽ʲ⁾(m) / j! · unit(m)ʲ⁻² / scale(m) for j = 2, 4, 5, 6. The term of j = 3
            vanishes, because the deviations from the mean add up to 0.
    """

    def curvature(a, b, c):
        mean = (a + b + c) / 3
        a_, b_, c_ = ((x - mean) / unit(mean) for x in (a, b, c))
        # The complete symmetric polynomials of degree 2 and 3; that of degree 4 is q².
        q, p = (a_ * a_ + b_ * b_ + c_ * c_) / 2, a_ * b_ * c_
        second, fourth, fifth, sixth = coefficients
        near = scale(mean) * (second + q * (fourth + q * sixth) + p * fifth)
        return ops.where(q < _NEAR**2, near, _difference_of(slope, a, b, c))

    return curvature


def _sorted(a, b, c):
    low, high = ops.minimum(a, b), ops.maximum(a, b)
    return ops.minimum(low, c), ops.maximum(low, ops.minimum(high, c)), ops.maximum(high, c)


def rectifier(epsilon):
    """Returns the function max(σ, ε), whose derivative is 0 at ε."""

    def value(s):
        return ops.maximum(s, epsilon)

    rectify = SpectralFunction(
        value,
        derivative=lambda s: ops.cast(s > epsilon, s.dtype),
        distance=lambda a, b: abs(value(a) - value(b)),
        unit=value,
        curvature=lambda a, b, c: _difference_of(rectify.slope, a, b, c),
    )
    return rectify


def compose(outer, inner):
    """Composes functions by the chain rule (f∘g)[a, b] = f[g(a), g(b)] · g[a, b]."""

    def curvature(a, b, c):
        inner_a, inner_b, inner_c = inner.value(a), inner.value(b), inner.value(c)
        bent = outer.curvature(inner_a, inner_b, inner_c) * inner.slope(a, b) * inner.slope(a, c)
        return bent + outer.slope(inner_b, inner_c) * inner.curvature(a, b, c)

    return SpectralFunction(
        value=lambda s: outer.value(inner.value(s)),
        derivative=lambda s: outer.derivative(inner.value(s)) * inner.derivative(s),
        distance=lambda a, b: outer.distance(inner.value(a), inner.value(b)),
        unit=lambda s: outer.unit(inner.value(s)),
        curvature=curvature,
    )


LOG = SpectralFunction(
    ops.log,
    derivative=lambda s: 1 / s,
    distance=lambda a, b: ops.log1p(abs(a - b) / ops.minimum(a, b)),
    unit=lambda s: s,
    curvature=_curvature(
        lambda a, b: LOG.slope(a, b),
        lambda m: m,
        lambda m: 1 / m**2,
        (-1 / 2, -1 / 4, 1 / 5, -1 / 6),
    ),
)
EXP = SpectralFunction(
    ops.exp,
    derivative=ops.exp,
    distance=lambda a, b: ops.maximum(ops.exp(a), ops.exp(b)) * -ops.expm1(-abs(a - b)),
    unit=ops.ones_like,
    curvature=_curvature(
        lambda a, b: EXP.slope(a, b),
        lambda m: 1.0,
        ops.exp,
        tuple(1 / math.factorial(j) for j in (2, 4, 5, 6)),
    ),
)
