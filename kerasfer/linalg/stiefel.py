"""The Stiefel manifold of matrices with orthonormal rows."""

from keras import ops

from kerasfer.linalg.matrices import frobenius_norm
from kerasfer.linalg.products import newton_schulz_scales


def retract(w, condition=1e2):
    """Projects matrices onto the Stiefel manifold, to the nearest W with W Wᵀ = I.

    This is the polar factor of the matrix, computed by Newton-Schulz iterations. It requires only
    matrix products, so it compiles under XLA, exports to every format and has automatic derivatives
    of any order. On the manifold its gradient is G − sym(G Wᵀ) W, the projection of G onto the
    tangent space. Multiples of W, which decoupled weight decay produces, are mapped to W.

    Args:
        w: `(m, n)` with m ≤ n and full rank.
        condition: Largest ratio of two singular values for which the rows become orthonormal. It
            sets the number of iterations: 12 for 1e2, and 27 for 1e8.

    Returns:
        `(m, n)` with orthonormal rows. Zeros remain zeros.

    Source: Absil et al., Optimization Algorithms on Matrix Manifolds, 2008, example 4.1.3.
    """
    # The result does not depend on these two scales. The first avoids overflow in the second.
    largest = ops.stop_gradient(ops.max(ops.abs(w)))
    w = w / ops.maximum(largest, 1e-30)
    norm = ops.stop_gradient(ops.sqrt(frobenius_norm(ops.matmul(w, ops.transpose(w)))))
    w = w / ops.maximum(norm, 1e-30)
    identity = ops.eye(int(w.shape[0]), dtype=w.dtype)
    for scale in newton_schulz_scales(1 / condition):
        gram = ops.matmul(w, ops.transpose(w))
        # The step is a product of two matrices: see `products` for the reason.
        step = 1.5 * scale * identity - 0.5 * scale**3 * gram
        w = ops.matmul(step, w)
    return w


def orthonormalize(w):
    """Projects a matrix of any rank onto the Stiefel manifold by a singular value decomposition.

    If the rank is not full, the rows are completed to orthonormal ones.

    Args:
        w: `(m, n)` with m ≤ n.

    Returns:
        `(m, n)` with orthonormal rows.
    """
    left, _, right = ops.svd(w, full_matrices=False)
    return ops.matmul(left, right)
