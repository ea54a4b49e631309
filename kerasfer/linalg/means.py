"""Means, powers and geodesics of SPD matrices, under two metrics."""

from keras import ops

from kerasfer.linalg.matrices import check_square, symmetrize
from kerasfer.linalg.spectral import expm, logm

METRICS = ("affine_invariant", "log_euclidean")


def powm(x, exponent, method="eigh"):
    """Raises SPD matrices to a real power, exp(p log X).

    Args:
        x: SPD matrices `(..., n, n)`.
        exponent: Float or tensor that broadcasts to `(..., 1, 1)`.
        method: `"eigh"` or `"matmul"`, as in `logm`.

    Returns:
        SPD matrices `(..., n, n)`.
    """
    return expm(exponent * logm(x, method=method), method)


def congruence(x, p):
    """Returns P X P for symmetric P."""
    return symmetrize(ops.matmul(ops.matmul(p, x), p))


def spd_mean(x, metric="affine_invariant", steps=1, method="eigh"):
    """Averages SPD matrices on their manifold.

    The log-Euclidean mean is exp(mean(log X)). The affine-invariant mean minimizes the sum of
    squared geodesic distances and is found by Karcher steps from the arithmetic mean.

    Args:
        x: SPD matrices `(batch, n, n)`.
        metric: `"affine_invariant"` or `"log_euclidean"`.
        steps: Number of Karcher steps. One step suffices for batch normalization; about ten are
            needed for the mean itself.
        method: `"eigh"` or `"matmul"`, as in `logm`.

    Returns:
        One SPD matrix `(n, n)`.

    Raises:
        ValueError: If `x` is not square or `metric` is unknown.

    Example:
        >>> from keras import ops
        >>> x = ops.stack([ops.eye(2), 4.0 * ops.eye(2)])
        >>> mean = spd_mean(x, "log_euclidean")  # 2 · I, the geometric mean

    Source: Arsigny et al., Log-Euclidean Metrics, 2006; Karcher, Riemannian Center of Mass, 1977.
    """
    check_square(x.shape)
    check_metric(metric)
    if metric == "log_euclidean":
        return expm(ops.mean(logm(x, method=method), axis=0), method)
    mean = ops.mean(x, axis=0)
    for _ in range(steps):
        root, inverse_root = (powm(mean, exponent, method) for exponent in (0.5, -0.5))
        tangents = logm(congruence(x, inverse_root), method=method)
        mean = congruence(expm(ops.mean(tangents, axis=0), method), root)
    return mean


def geodesic(start, end, t, metric="affine_invariant", method="eigh"):
    """Returns the point at `t` in [0, 1] on the geodesic between two SPD matrices `(n, n)`."""
    check_metric(metric)
    if metric == "log_euclidean":
        logs = (logm(x, method=method) for x in (start, end))
        return expm(sum(w * log for w, log in zip((1 - t, t), logs, strict=True)), method)
    root, inverse_root = (powm(start, exponent, method) for exponent in (0.5, -0.5))
    return congruence(powm(congruence(end, inverse_root), t, method), root)


def check_metric(metric):
    """Raises a ValueError unless `metric` is one of `METRICS`."""
    if metric not in METRICS:
        raise ValueError(f"`metric` must be one of {METRICS}. Received: metric={metric!r}.")
