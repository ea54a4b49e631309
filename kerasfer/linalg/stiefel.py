"""The Stiefel manifold of matrices with orthonormal rows."""

from keras import ops

from kerasfer.linalg.matrices import frobenius_norm, identity_like, symmetrize
from kerasfer.linalg.products import newton_schulz_scales


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
    w = w / ops.sqrt(frobenius_norm(gram))
    for scale in newton_schulz_scales(1e-2, iterations):
        gram = ops.matmul(w, ops.transpose(w))
        # The step is a product of two matrices: see `products` for the reason.
        step = 1.5 * scale * identity_like(gram) - 0.5 * scale**3 * gram
        w = ops.matmul(step, w)
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

    # The product makes a tensor of a variable, of which TensorFlow would want the gradient here.
    return project(ops.multiply(w, 1.0))
