"""Computes functions of symmetric matrices by matrix products only, with automatic gradients.

Every step of an iteration ends in a product, and only the result is symmetrized. XLA recomputes
elementwise sums wherever they are used, each time with different rounding errors. In a step that
adds a multiple of the previous iterate to a product, these errors grow to 1 % of the result.
"""

import math

import numpy as np
from keras import ops
from numpy.polynomial import chebyshev

from kerasfer.linalg.matrices import frobenius_norm, identity_like, symmetrize

_SMALLEST = 1e-6  # eigenvalue that the logarithm is accurate for, relative to the Frobenius norm
_ROOTS = 4  # square roots before the series: a condition of 1e6 becomes 1e6^(1/16) = 2.37
_SERIES_TERMS = 9
_SQUARINGS = 8
_TAYLOR_TERMS = 9


def logm(x):
    """Computes log X = 2^k log X^(1/2^k) + log(μ) I, with a series for the root's logarithm."""
    # The result does not depend on μ, so no gradient needs to flow through it.
    norm = ops.stop_gradient(frobenius_norm(x))
    identity = identity_like(x)
    root, smallest = x / norm, _SMALLEST
    for _ in range(_ROOTS):
        root = _newton_schulz_root(root, identity, smallest)
        smallest = math.sqrt(smallest)
    # A Padé approximant would need an inverse, and Taylor's series two more roots.
    middle, half_width = (1 + smallest) / 2, (1 - smallest) / 2
    centered = (root - middle * identity) / half_width
    first, *others = reversed(_log_coefficients(middle, half_width))
    series = first * identity
    for coefficient in others:
        series = coefficient * identity + ops.matmul(centered, series)
    return symmetrize(2.0**_ROOTS * series + ops.log(norm) * identity)


def _log_coefficients(middle, half_width):
    """Returns the coefficients of the polynomial nearest to log(middle + half_width · t)."""

    def log(t):
        return np.log(middle + half_width * t)

    return chebyshev.cheb2poly(chebyshev.chebinterpolate(log, _SERIES_TERMS)).tolist()


def _newton_schulz_root(x, identity, smallest):
    """Computes the square root of SPD matrices with eigenvalues in [smallest, 1]."""
    first, *others = newton_schulz_scales(math.sqrt(smallest))
    step = _newton_schulz_step(x, identity, first)
    y, z = ops.matmul(x, step), step
    for scale in others:
        step = _newton_schulz_step(ops.matmul(z, y), identity, scale)
        y, z = ops.matmul(y, step), ops.matmul(step, z)
    return y


def _newton_schulz_step(square, identity, scale):
    return 1.5 * scale * identity - 0.5 * scale**3 * square


def sign(x, smallest=1e-6):
    """Computes the matrix sign, −1 or 1 for each eigenvalue beyond smallest · ‖X‖_F."""
    # The lower bound is for zero matrices. Squares of smaller entries underflow in float32.
    sign = x / ops.stop_gradient(ops.maximum(frobenius_norm(x), 1e-18))
    identity = identity_like(x)
    for scale in newton_schulz_scales(smallest):
        square = ops.matmul(sign, sign)
        sign = ops.matmul(sign, _newton_schulz_step(square, identity, scale))
    return symmetrize(sign)


def newton_schulz_scales(smallest, iterations=None):
    """Returns the scales s of the steps x ← s x (3 − s² x²) / 2 that map [smallest, 1] to 1.

    With the optimal s² = 3 / (1 + l + l²), small values grow by a factor of 2.6 instead of 1.5 per
    step (Chen and Chow, 2014). However, 1 is then mapped to similarly small values, where rounding
    errors dominate. With s ≤ 1.5 (a growth of 2.25), 1 remains above one half.
    """
    scales, low = [], smallest
    while len(scales) < iterations if iterations else low < 1 - 1e-8:
        scale = min(1.5, math.sqrt(3 / (1 + low + low**2)))
        low = min(1.0, scale * low * (3 - (scale * low) ** 2) / 2)
        scales.append(scale)
    return scales


def expm(x):
    scaled = x / 2.0**_SQUARINGS
    result = identity = identity_like(x)
    for term in range(_TAYLOR_TERMS, 0, -1):
        result = identity + ops.matmul(scaled, result) / term
    for _ in range(_SQUARINGS):
        result = ops.matmul(result, result)
    return symmetrize(result)
