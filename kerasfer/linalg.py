"""All numerics on symmetric positive definite (SPD) matrices, on `keras.ops`, for every backend.

A function of a symmetric matrix acts on its eigenvalues: f(X) = U f(Σ) Uᵀ. Each one here comes in
two forms behind `method`:

- `"eigh"`: one eigendecomposition. Its gradient is U (K ∘ (Uᵀ sym(G) U)) Uᵀ with the divided
  differences K_ij = (f(σ_i) − f(σ_j)) / (σ_i − σ_j) and K_ii = f′(σ_i) (Daleckii and Krein). They
  are computed without tolerances, so that tied eigenvalues (the rule for rank-deficient
  covariances) are no special case and no sample depends on the others in its batch. The automatic
  gradients of the backends are NaN or silently wrong there.
- `"matmul"`: matrix products only, for phones, ONNX and XLA. The gradient is automatic.

float16 and bfloat16 are computed in float32; float64 stays float64.
"""

import contextlib
import math
from typing import NamedTuple

import numpy as np
from keras import backend, ops

METHODS = ("eigh", "matmul")


# Functions of symmetric matrices


def logm(x, epsilon=None, method="eigh"):
    """Takes the matrix logarithm of SPD matrices, with their eigenvalues kept above `epsilon`.

    The rectification is fused: log(max(σ, ε)) costs one eigendecomposition instead of two and its
    gradient stays exact where many eigenvalues tie below ε.

    Args:
        x: Symmetric matrices `(..., n, n)`. Positive definite unless `epsilon` is given.
        epsilon: Positive float. Smaller eigenvalues are raised to it first. `None` raises none.
        method: `"eigh"`, or `"matmul"`: inverse scaling and squaring with Newton-Schulz square
            roots, then a series; in float32 right to about 1e-4 up to condition 1e4.

    Returns:
        Symmetric matrices `(..., n, n)`.

    Raises:
        ValueError: Where `x` is not square or `method` is unknown.

    Example:
        >>> logm(2.0 * ops.eye(3))  # log(2) · I

    Source: Huang and Van Gool, A Riemannian Network for SPD Matrix Learning, AAAI 2017.
    """
    return rectified_logm(x, epsilon, method)[1]


def rectified_logm(x, epsilon=None, method="eigh"):
    """Returns the rectified matrices and their logarithm from one eigendecomposition.

    Args and errors as in `logm`.

    Returns:
        A pair of `(..., n, n)`: max(X, εI) and its logarithm.
    """
    x = _symmetric(x, method)
    if method == "matmul":
        rectified = x if epsilon is None else rectify(x, epsilon, method)
        return rectified, _logm_by_products(rectified)
    if epsilon is None:
        return x, _spectral(x, _LOG)[..., 0, :, :]
    rectifier = _rectifier(epsilon)
    both = _spectral(x, rectifier, _compose(_LOG, rectifier))
    return both[..., 0, :, :], both[..., 1, :, :]


def rectify(x, epsilon, method="eigh"):
    """Raises the eigenvalues of symmetric matrices to at least `epsilon`.

    Args:
        x: Symmetric matrices `(..., n, n)`.
        epsilon: Positive float, the smallest eigenvalue of the result.
        method: `"eigh"`, or `"matmul"`: (X + εI + |X − εI|) / 2 with the matrix sign function,
            which resolves eigenvalues no nearer to ε than about 1e-6 of the largest.

    Returns:
        SPD matrices `(..., n, n)`.

    Raises:
        ValueError: Where `x` is not square or `method` is unknown.
    """
    x = _symmetric(x, method)
    if method == "eigh":
        return _spectral(x, _rectifier(epsilon))[..., 0, :, :]
    above = x - epsilon * identity_like(x)
    return symmetrize(x + epsilon * identity_like(x) + ops.matmul(above, _sign(above))) / 2


def expm(x, method="eigh"):
    """Takes the matrix exponential of symmetric matrices: the way back from `logm`.

    Args:
        x: Symmetric matrices `(..., n, n)` with eigenvalues in about [-80, 80].
        method: `"eigh"`, or `"matmul"`: scaling and squaring of a Taylor polynomial.

    Returns:
        SPD matrices `(..., n, n)`.

    Raises:
        ValueError: Where `x` is not square or `method` is unknown.
    """
    x = _symmetric(x, method)
    if method == "matmul":
        return _expm_by_products(x)
    return _spectral(x, _EXP)[..., 0, :, :]


def log_eigenvalue_penalty(x, log_x, form="squared"):
    """Measures how far the eigenvalues of SPD matrices are from 1, where the logarithm is gentle.

    With h(σ) = σ − 1 − log σ, the squared form is Σ h(σ_i)² / n and the linear one Σ h(σ_i) / n.
    X and log X commute, so both are had from the matrices, without the eigenvalues.

    Args:
        x: SPD matrices `(..., n, n)`.
        log_x: Their logarithms `(..., n, n)`.
        form: `"squared"`, equation (8), or `"linear"`, whose gradient I − Σ⁻¹ is equation (10).

    Returns:
        Tensor `(...)`, at least 0, and 0 for the identity.

    Raises:
        ValueError: Where `form` is unknown.

    Source: Du et al., Local-manifold Attention for Facial Expression Recognition, 2022.
    """
    check_penalty_form(form)
    distance = x - identity_like(x) - log_x
    if form == "squared":
        return ops.sum(ops.square(distance), axis=(-2, -1)) / x.shape[-1]
    return ops.trace(distance, axis1=-2, axis2=-1) / x.shape[-1]


# Covariance, vectorisation, pooling


def covariance(x):
    """Takes the sample covariance of the rows' entries: (..., n, samples) → (..., n, n).

    Args:
        x: `(..., n, samples)`: n variables, each observed `samples` times, at least twice.

    Returns:
        Symmetric positive semi-definite matrices `(..., n, n)`, divided by `samples − 1`.
    """
    x = at_least_float32(x)
    samples = ops.shape(x)[-1]
    centered = x - ops.mean(x, axis=-1, keepdims=True)
    return ops.matmul(centered, ops.swapaxes(centered, -2, -1)) / ops.cast(samples - 1, x.dtype)


def shrink(x, shrinkage):
    """Adds `shrinkage` · trace(X) · I, which makes a covariance positive definite."""
    x = at_least_float32(x)
    trace = ops.trace(x, axis1=-2, axis2=-1)[..., None, None]
    return x + shrinkage * trace * identity_like(x)


def vech(x):
    """Lays the upper triangle of symmetric matrices out as vectors, with √2 off the diagonal.

    The factor keeps lengths and angles: ‖vech(X)‖₂ = ‖X‖_F.

    Args:
        x: Symmetric matrices `(..., n, n)`.

    Returns:
        Vectors `(..., n(n+1)/2)`, row by row.
    """
    size = x.shape[-1]
    rows, columns = np.triu_indices(size)
    weights = np.where(rows == columns, 1.0, math.sqrt(2.0))
    flat = ops.reshape(x, (*ops.shape(x)[:-2], size * size))
    upper = ops.take(flat, rows * size + columns, axis=-1)
    return upper * ops.cast(weights, x.dtype)


def unvech(x):
    """Rebuilds the symmetric matrices `(..., n, n)` of the vectors `(..., n(n+1)/2)` of `vech`."""
    size = vech_side(x.shape[-1])
    rows, columns = np.triu_indices(size)
    position = np.zeros((size, size), dtype="int32")
    position[rows, columns] = position[columns, rows] = np.arange(len(rows))
    weights = np.where(np.eye(size) == 1, 1.0, math.sqrt(0.5)).reshape(-1)
    flat = ops.take(x, position.reshape(-1), axis=-1) * ops.cast(weights, x.dtype)
    return ops.reshape(flat, (*ops.shape(x)[:-1], size, size))


def vech_side(length):
    """Returns n for a vector of n(n+1)/2 entries."""
    size = (math.isqrt(8 * length + 1) - 1) // 2
    if size * (size + 1) // 2 != length:
        raise ValueError(
            "The last dimension must be n(n+1)/2, the upper triangle of an n × n matrix. "
            f"Received: {length}."
        )
    return size


def signed_sqrt(x, epsilon=1e-8):
    """Takes sign(x) · √|x|, with a slope of at most 1 / (2√epsilon) and of 0 at 0 itself."""
    return ops.sign(x) * ops.sqrt(ops.abs(x) + epsilon)


# The Stiefel manifold of matrices with orthonormal rows


def retract(w, iterations=12):
    """Brings matrices back to the Stiefel manifold, to the nearest W with W Wᵀ = I.

    This is the polar retraction, by Newton-Schulz: matrix products only, no QR, right under XLA.
    A step's multiple of W (decoupled weight decay) is undone by it exactly.

    Args:
        w: `(m, n)` with m ≤ n and full rank; singular values apart by a factor of at most 100.
        iterations: Newton-Schulz steps.

    Returns:
        `(m, n)` with orthonormal rows.

    Source: Absil et al., Optimization Algorithms on Matrix Manifolds, 2008, example 4.1.3.
    """
    gram = ops.matmul(w, ops.transpose(w))
    w = w / ops.sqrt(_frobenius(gram))
    for scale in _newton_schulz_scales(1e-2, iterations):
        gram = ops.matmul(w, ops.transpose(w))
        w = scale * (1.5 * w - 0.5 * scale**2 * ops.matmul(gram, w))
    return w


def on_stiefel(w):
    """Returns `w` unchanged and projects its gradient on the tangent space of the manifold.

    The projection G − sym(G Wᵀ) W removes what the retraction would only undo.

    Args:
        w: `(m, n)` with orthonormal rows.

    Returns:
        The same `(m, n)`.
    """

    @ops.custom_gradient
    def project(w):
        def grad(*args, upstream=None):
            g = args[0] if upstream is None else upstream
            normal = symmetrize(ops.matmul(g, ops.transpose(w)))
            return g - ops.matmul(normal, w)

        return ops.multiply(w, 1.0), grad

    return project(w)


# Small helpers


def symmetrize(x):
    """Takes (X + Xᵀ) / 2."""
    return (x + ops.swapaxes(x, -2, -1)) / 2


def identity_like(x):
    """Returns the identity `(n, n)` in the size and type of `x`."""
    return ops.eye(x.shape[-1], dtype=x.dtype)


def at_least_float32(x):
    """Casts float16, bfloat16 and integers to float32 and leaves float32 and float64."""
    x = ops.convert_to_tensor(x)
    dtype = backend.standardize_dtype(x.dtype)
    return x if dtype in ("float32", "float64") else ops.cast(x, "float32")


def check_square(shape):
    """Raises a ValueError unless the last two entries of `shape` are equal and known."""
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] is None:
        raise ValueError(
            "The last two dimensions must be equal and known: symmetric matrices (..., n, n). "
            f"Received: shape={tuple(shape)}."
        )


def check_method(method):
    """Raises a ValueError unless `method` is one of `METHODS`."""
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {METHODS}. Received: method={method!r}.")


def check_penalty_form(form):
    """Raises a ValueError unless `form` is a form of `log_eigenvalue_penalty`."""
    if form not in ("squared", "linear"):
        raise ValueError(f"The form must be 'squared' or 'linear'. Received: {form!r}.")


def _symmetric(x, method):
    check_square(x.shape)
    check_method(method)
    return symmetrize(at_least_float32(x))


def _frobenius(x):
    return ops.sqrt(ops.sum(ops.square(x), axis=(-2, -1), keepdims=True))


# The eigh form: one routine under every function


class _SpectralFunction(NamedTuple):
    """f on eigenvalues, and its divided difference (f(a) − f(b)) / (a − b), at ties f′(a)."""

    value: callable
    slope: callable


def _spectral(x, *functions):
    """Applies functions to the eigenvalues of `x`: (..., n, n) → (..., len(functions), n, n)."""

    @ops.custom_gradient
    def apply(x):
        values, vectors = _eigh(x)
        values, vectors = values[..., None, :], vectors[..., None, :, :]
        vectors_t = ops.swapaxes(vectors, -2, -1)
        mapped = ops.concatenate([f.value(values) for f in functions], axis=-2)

        def grad(*args, upstream=None):
            g = args[0] if upstream is None else upstream
            a, b = values[..., :, None], values[..., None, :]
            slopes = ops.concatenate([f.slope(a, b) for f in functions], axis=-3)
            inner = ops.matmul(vectors_t, ops.matmul(symmetrize(g), vectors))
            # The sum over functions first: one product on each side serves all of them.
            inner = ops.sum(slopes * inner, axis=-3, keepdims=True)
            return ops.matmul(vectors, ops.matmul(inner, vectors_t))[..., 0, :, :]

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
    # log1p(d / low) / d keeps every digit at any distance d ≥ 0; at ties it is 1 / low.
    low, gap = ops.minimum(a, b), ops.abs(a - b)
    tied = gap == 0
    gap = ops.where(tied, 1.0, gap)
    return ops.where(tied, 1.0 / low, ops.log1p(gap / low) / gap)


def _exp_slope(a, b):
    high, gap = ops.maximum(a, b), ops.abs(a - b)
    tied = gap == 0
    gap = ops.where(tied, 1.0, gap)
    return ops.exp(high) * ops.where(tied, 1.0, -ops.expm1(-gap) / gap)


def _rectifier(epsilon):
    def slope(a, b):
        gap = a - b
        tied = gap == 0
        quotient = (ops.maximum(a, epsilon) - ops.maximum(b, epsilon)) / ops.where(tied, 1.0, gap)
        return ops.where(tied, ops.cast(a > epsilon, a.dtype), quotient)

    return _SpectralFunction(lambda s: ops.maximum(s, epsilon), slope)


def _compose(outer, inner):
    """Chain rule of divided differences: (f∘g)[a, b] = f[g(a), g(b)] · g[a, b]."""

    def slope(a, b):
        return outer.slope(inner.value(a), inner.value(b)) * inner.slope(a, b)

    return _SpectralFunction(lambda s: outer.value(inner.value(s)), slope)


_LOG = _SpectralFunction(ops.log, _log_slope)
_EXP = _SpectralFunction(ops.exp, _exp_slope)


# The matmul form


_ROOTS = 6  # square roots before the series: a condition of 1e6 becomes 1e6^(1/64) = 1.24
_SERIES_TERMS = 9
_SQUARINGS = 8
_TAYLOR_TERMS = 9


def _logm_by_products(x):
    """log X = 2^k log X^(1/2^k) + log(μ) I, the last roots close enough to I for the series."""
    # The result does not depend on μ, so that no gradient flows through it.
    norm = ops.stop_gradient(_frobenius(x))
    root, smallest = x / norm, 1e-6
    for _ in range(_ROOTS):
        root = _newton_schulz_root(root, smallest)
        smallest = math.sqrt(smallest)
    # log A = 2 Σ z^(2j+1) / (2j+1) with z = (A − I)(A + I)⁻¹ needs an inverse; −Σ E^j / j does not.
    rest = identity_like(x) - root
    series = identity_like(x) / _SERIES_TERMS
    for term in range(_SERIES_TERMS - 1, 0, -1):
        series = identity_like(x) / term + ops.matmul(rest, series)
    log = -(2.0**_ROOTS) * ops.matmul(rest, series) + ops.log(norm) * identity_like(x)
    return symmetrize(log)


def _newton_schulz_root(x, smallest):
    """Square root of SPD matrices with eigenvalues in [smallest, 1], by the coupled iteration."""
    y, z = x, identity_like(x)
    for scale in _newton_schulz_scales(math.sqrt(smallest)):
        step = 1.5 * scale * identity_like(x) - 0.5 * scale**3 * ops.matmul(z, y)
        y, z = ops.matmul(y, step), ops.matmul(step, z)
    return symmetrize(y)


def _sign(x, smallest=1e-6):
    """Matrix sign of symmetric matrices: −1 or 1 for each eigenvalue beyond smallest · ‖X‖_F."""
    sign = x / ops.stop_gradient(_frobenius(x))
    for scale in _newton_schulz_scales(smallest):
        sign = 1.5 * scale * sign - 0.5 * scale**3 * ops.matmul(sign, ops.matmul(sign, sign))
        sign = symmetrize(sign)
    return sign


def _newton_schulz_scales(smallest, iterations=None):
    """Scales s of the steps x ← s x (3 − s² x²) / 2 that take [smallest, 1] to 1.

    The optimal s² = 3 / (1 + l + l²) grows small values by 2.6 instead of 1.5 a step (Chen and
    Chow, 2014), but folds 1 down to them, where rounding drowns them. At most 1.5 (growth 2.25)
    keeps 1 above a half.
    """
    scales, low = [], smallest
    while len(scales) < iterations if iterations else low < 1 - 1e-8:
        scale = min(1.5, math.sqrt(3 / (1 + low + low**2)))
        low = min(1.0, scale * low * (3 - (scale * low) ** 2) / 2)
        scales.append(scale)
    return scales


def _expm_by_products(x):
    scaled = x / 2.0**_SQUARINGS
    result = identity_like(x)
    for term in range(_TAYLOR_TERMS, 0, -1):
        result = identity_like(x) + ops.matmul(scaled, result) / term
    for _ in range(_SQUARINGS):
        result = ops.matmul(result, result)
    return symmetrize(result)
