"""Basic matrix operations: covariances, triangles, norms and small helpers."""

import math

import keras
import numpy as np
from keras import backend, ops


def covariance(x):
    """Computes the sample covariance of the rows: `(..., n, samples)` → `(..., n, n)`.

    Args:
        x: `(..., n, samples)`: n variables, each observed `samples` times, at least twice.

    Returns:
        Symmetric positive semi-definite matrices `(..., n, n)`, divided by `samples − 1`.
    """
    x = as_float(x)
    samples = ops.shape(x)[-1]
    centered = x - ops.mean(x, axis=-1, keepdims=True)
    # The division precedes the product, since a sum over all samples could overflow float16.
    scaled = centered / ops.sqrt(ops.cast(samples - 1, x.dtype))
    return ops.matmul(scaled, ops.swapaxes(scaled, -2, -1))


def shrink(x, shrinkage):
    """Adds `shrinkage` · trace(X) · I, which makes a covariance positive definite."""
    x = as_float(x)
    return x + shrinkage * trace(x)[..., None, None] * identity_like(x)


def vech(x):
    """Flattens the upper triangles of symmetric matrices, with off-diagonal entries times √2.

    The factor preserves lengths and angles: ‖vech(X)‖₂ = ‖X‖_F.

    Args:
        x: Symmetric matrices `(..., n, n)`.

    Returns:
        Vectors `(..., n(n+1)/2)`, row by row.
    """
    size = int(x.shape[-1])  # a tensor while torch traces a model to export it
    rows, columns = np.triu_indices(size)
    weights = np.where(rows == columns, 1.0, math.sqrt(2.0))
    flat = ops.reshape(x, (*ops.shape(x)[:-2], size * size))
    upper = _entries(flat, rows * size + columns)
    return upper * ops.convert_to_tensor(weights, dtype=x.dtype)


def unvech(x):
    """Rebuilds the symmetric matrices `(..., n, n)` of the vectors `(..., n(n+1)/2)` of `vech`."""
    size = vech_side(int(x.shape[-1]))
    rows, columns = np.triu_indices(size)
    position = np.zeros((size, size), dtype="int32")
    position[rows, columns] = position[columns, rows] = np.arange(len(rows))
    weights = np.where(np.eye(size) == 1, 1.0, math.sqrt(0.5)).reshape(-1)
    flat = _entries(x, position.reshape(-1)) * ops.convert_to_tensor(weights, dtype=x.dtype)
    return ops.reshape(flat, (*ops.shape(x)[:-1], size, size))


def _entries(x, indices):
    """Returns the entries `(..., k)` of vectors `(..., n)` at k indices."""
    if backend.backend() == "torch" and not isinstance(x, keras.KerasTensor):
        import torch  # `ops.take` calls `ravel` here, which torch cannot export to ONNX.

        x = ops.convert_to_tensor(x)
        return torch.index_select(x, -1, torch.tensor(indices, dtype=torch.int64, device=x.device))
    return ops.take(x, indices, axis=-1)


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
    """Computes sign(x) · √|x|, with a slope of at most 1 / (2√epsilon), and of 0 at 0."""
    return ops.sign(x) * ops.sqrt(ops.abs(x) + epsilon)


def l2_normalize(x, epsilon=1e-7, axes=(-1,)):
    """Divides vectors by their L2 norm, or by `epsilon` if the norm is smaller.

    Args:
        x: `(..., n)`, or `(..., n, m)` with two `axes`, where each matrix is treated as one vector.
        epsilon: Lower bound of the norm, a float or a tensor that broadcasts with the norms.
        axes: The axes of the norm. They are summed one after the other, because a single sum of
            many small squares loses most of them in half precision.

    Returns:
        A tensor with the shape of `x`.
    """
    square = ops.square(x)
    for axis in axes:
        square = ops.sum(square, axis=axis, keepdims=True)
    # The maximum precedes the root, whose slope at 0 makes `ops.normalize` NaN on torch.
    return x * ops.rsqrt(ops.maximum(square, epsilon**2))


def split_length(x):
    """Splits matrices `(..., n, m)` into matrices with a Frobenius norm of about 1 and a factor.

    The product of both is always `x`. If the factor is within the range of float16, in which
    exported models may run, so are all intermediate values. No gradient flows through the factor.

    Returns:
        The scaled matrices `(..., n, m)` and their factors `(..., 1, 1)`, which are positive.
    """
    # The lower bounds avoid 0 / 0. Both are normal numbers in float16.
    largest = ops.maximum(_largest_entry(x), 1e-4)
    mean_square = ops.mean(ops.square(x / largest), axis=(-2, -1), keepdims=True)
    count = ops.cast(ops.shape(x)[-2] * ops.shape(x)[-1], x.dtype)
    root = ops.sqrt(ops.maximum(mean_square, 1e-4)) * ops.sqrt(count)
    largest, root = ops.stop_gradient(largest), ops.stop_gradient(root)
    return x / largest / root, largest * root


def symmetrize(x):
    """Returns the symmetric part (X + Xᵀ) / 2."""
    return (x + ops.swapaxes(x, -2, -1)) / 2


def trace(x):
    """Sums the diagonals of matrices: `(..., n, n)` → `(...)`."""
    if backend.backend() != "tensorflow":
        return ops.trace(x, axis1=-2, axis2=-1)
    # TensorFlow's identity matrix becomes an ONNX operator that ONNX Runtime lacks.
    size = x.shape[-1]
    flat = ops.reshape(x, (*ops.shape(x)[:-2], size * size))
    return ops.sum(flat[..., :: size + 1], axis=-1)


def identity_like(x):
    """Returns the identity matrix `(n, n)` with the size and dtype of `x`."""
    # A constant instead of `ops.eye`, for the reason given in `trace`.
    return ops.convert_to_tensor(np.eye(int(x.shape[-1])), dtype=x.dtype)


def as_float(x):
    """Casts float16, bfloat16 and integers to float32 and leaves float32 and float64."""
    x = ops.convert_to_tensor(x)
    dtype = backend.standardize_dtype(x.dtype)
    if dtype.startswith("complex"):
        raise ValueError(
            "Matrices must be real. A Hermitian A + iB has the same functions as the symmetric "
            f"[[A, −B], [B, A]] of twice its size; pass that instead. Received: dtype={dtype}."
        )
    return x if dtype in ("float32", "float64") else ops.cast(x, "float32")


def check_square(shape):
    """Raises a ValueError unless the last two entries of `shape` are equal and known."""
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] is None:
        raise ValueError(
            "The last two dimensions must be equal and known: symmetric matrices (..., n, n). "
            f"Received: shape={tuple(shape)}."
        )


def frobenius_norm(x):
    # Squares of large entries overflow float16, in which exported models may run.
    largest = ops.maximum(_largest_entry(x), 1e-30)
    square = ops.sum(ops.square(x / largest), axis=(-2, -1), keepdims=True)
    return largest * ops.sqrt(square)


def _largest_entry(x):
    """Returns the largest absolute value of each matrix: `(..., n, m)` → `(..., 1, 1)`."""
    options = {"axis": (-2, -1), "keepdims": True}
    if backend.backend() == "tensorflow":  # `amax` rejects empty batches here.
        return ops.max(ops.abs(x), initial=0.0, **options)
    return ops.amax(ops.abs(x), **options)  # `max` rejects them on torch.
