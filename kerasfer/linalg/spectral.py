"""The public functions of symmetric matrices, each in two forms."""

from typing import get_args

from keras import ops

from kerasfer.linalg import eigh, products
from kerasfer.linalg.matrices import as_float, check_square, identity_like, symmetrize, trace
from kerasfer.options import Method, PenaltyForm

METHODS = get_args(Method)
PENALTY_FORMS = get_args(PenaltyForm)


def logm(x, epsilon=None, method="eigh"):
    """Computes the matrix logarithm of SPD matrices, with eigenvalues of at least `epsilon`.

    The rectification is fused: log(max(σ, ε)) costs one eigendecomposition instead of two, and its
    gradient remains exact if many eigenvalues below ε are equal. With `"eigh"`, first and second
    derivatives are exact, in forward and reverse mode. With `"matmul"`, all derivatives exist.

    Args:
        x: Symmetric matrices `(..., n, n)`. Positive definite unless `epsilon` is given.
        epsilon: Positive float. Smaller eigenvalues are first raised to it. `None` leaves them
            unchanged.
        method: `"eigh"`, or `"matmul"`: inverse scaling and squaring with Newton-Schulz square
            roots, then a series. In float32, values are accurate to about 1e-4 and gradients to
            about 1e-3 up to a condition of 1e5. Where TensorFlow compiles `"eigh"` by XLA, errors
            of the logarithm reach 1e-2 there, since XLA's solver stops early.

    Returns:
        Symmetric matrices `(..., n, n)`.

    Raises:
        ValueError: If `x` is not square, if it is complex, if `method` is unknown or, with
            `"eigh"`, if a matrix contains NaN or infinity. Under `jax.jit`, which cannot raise,
            the result for such a matrix is NaN; a TensorFlow graph raises InvalidArgumentError.

    Example:
        >>> from keras import ops
        >>> float(logm(2.0 * ops.eye(3))[0, 0])  # log(2)
        0.693147...

    Source: Huang and Van Gool, A Riemannian Network for SPD Matrix Learning, AAAI 2017.
    """
    x = _checked(x, method)
    if method == "matmul":
        return products.logm(x if epsilon is None else rectify(x, epsilon, method))
    return eigh.spectral_map(x, _rectified_log(epsilon))[0]


def rectified_logm(x, epsilon=None, method="eigh"):
    """Returns the rectified matrices and their logarithm from one eigendecomposition.

    The arguments and errors are those of `logm`.

    Returns:
        A pair of `(..., n, n)`: max(X, εI) and its logarithm.
    """
    x = _checked(x, method)
    if method == "matmul":
        rectified = x if epsilon is None else rectify(x, epsilon, method)
        return rectified, products.logm(rectified)
    if epsilon is None:
        return symmetrize(x), logm(x)
    return tuple(eigh.spectral_map(x, eigh.rectifier(epsilon), _rectified_log(epsilon)))


def rectify(x, epsilon, method="eigh"):
    """Raises the eigenvalues of symmetric matrices to at least `epsilon`.

    Args:
        x: Symmetric matrices `(..., n, n)`.
        epsilon: Positive float, the smallest eigenvalue of the result.
        method: `"eigh"`, or `"matmul"`: (X + εI + |X − εI|) / 2 with the matrix sign function,
            which resolves eigenvalues that differ from ε by about 1e-6 of the largest or more.

    Returns:
        SPD matrices `(..., n, n)`.

    Raises:
        ValueError: If `x` is not square or complex, or if `method` is unknown.
    """
    x = _checked(x, method)
    if method == "eigh":
        return eigh.spectral_map(x, eigh.rectifier(epsilon))[0]
    threshold = epsilon * identity_like(x)
    above = x - threshold
    return symmetrize(x + threshold + ops.matmul(above, products.sign(above))) / 2


def expm(x, method="eigh"):
    """Computes the matrix exponential of symmetric matrices, the inverse of `logm`.

    Args:
        x: Symmetric matrices `(..., n, n)` with eigenvalues in about [-80, 80].
        method: `"eigh"`, or `"matmul"`: scaling and squaring of a Taylor polynomial.

    Returns:
        SPD matrices `(..., n, n)`.

    Raises:
        ValueError: If `x` is not square or complex, or if `method` is unknown.
    """
    x = _checked(x, method)
    if method == "matmul":
        return products.expm(x)
    return eigh.spectral_map(x, eigh.EXP)[0]


def log_eigenvalue_penalty(x, log_x, form="squared"):
    """Measures how far the eigenvalues of SPD matrices are from 1.

    With h(σ) = σ − 1 − log σ, the squared form is Σ h(σ_i)² / n and the linear one Σ h(σ_i) / n.
    X and log X commute, so both forms are computed from the matrices, without eigenvalues.

    Args:
        x: SPD matrices `(..., n, n)`.
        log_x: Their logarithms `(..., n, n)`.
        form: `"squared"`, equation (8), or `"linear"`, whose gradient I − Σ⁻¹ is equation (10).

    Returns:
        Tensor `(...)`, at least 0, and 0 for the identity.

    Raises:
        ValueError: If `form` is unknown.

    Source: Du et al., Local-manifold Attention for Facial Expression Recognition, 2022.
    """
    check_penalty_form(form)
    distance = x - identity_like(x) - log_x
    if form == "squared":
        return ops.sum(ops.square(distance), axis=(-2, -1)) / x.shape[-1]
    return trace(distance) / x.shape[-1]


def check_method(method):
    """Raises a ValueError unless `method` is one of `METHODS`."""
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {METHODS}. Received: method={method!r}.")


def check_penalty_form(form):
    """Raises a ValueError unless `form` is one of `PENALTY_FORMS`."""
    if form not in PENALTY_FORMS:
        raise ValueError(f"The form must be one of {PENALTY_FORMS}. Received: {form!r}.")


def _rectified_log(epsilon):
    return eigh.LOG if epsilon is None else eigh.compose(eigh.LOG, eigh.rectifier(epsilon))


def _checked(x, method):
    check_square(x.shape)
    check_method(method)
    # `spectral_map` takes the symmetric part itself, together with the gradient's.
    return symmetrize(as_float(x)) if method == "matmul" else as_float(x)
