"""Gradients of all orders for functions of symmetric matrices, on each backend.

The derivative D^k f(X)[G_1, …, G_k] of a function of eigenvalues is linear and symmetric in its
directions, and ⟨D^k f(X)[G_1, …, G_k], H⟩ does not change if H is exchanged with one of them.
Automatic differentiation therefore requires only the derivative itself:

- a tangent T of X gives D^(k+1) f(X)[G_1, …, G_k, T], and a tangent T of G_j replaces G_j;
- the gradients of ⟨·, H⟩ are the same expressions with H instead of T.

Each backend defines such rules differently. `ops.custom_gradient` supports no second derivatives on
torch and no forward mode on JAX.
"""

import functools

from keras import backend, ops


def with_derivatives(derivative, values, vectors, x, *directions):
    """Computes D^k f(X)[G_1, …, G_k] such that it is differentiable with respect to X and each G.

    Args:
        derivative: Function of `(values, vectors, *directions)` that computes it for each k.
        values: Eigenvalues of X, `(..., n)`. No gradient flows through them.
        vectors: Eigenvectors of X, `(..., n, n)`. No gradient flows through them.
        x: The matrices X, `(..., n, n)`, through which gradients flow.
        *directions: The k matrices G, `(..., n, n)`.

    Returns:
        Symmetric matrices `(..., n, n)`.
    """
    return _BACKENDS[backend.backend()]()(derivative, values, vectors, x, *directions)


def _substitutions(directions, tangents):
    """Yields the directions of each term of the derivative, the one of X first."""
    x_tangent, *tangents = tangents
    yield x_tangent is not None, lambda: (*directions, x_tangent)
    for place, tangent in enumerate(tangents):
        changed = (*directions[:place], tangent, *directions[place + 1 :])
        yield tangent is not None, lambda changed=changed: changed


def _tensorflow():
    def apply(derivative, values, vectors, x, *directions):
        @ops.custom_gradient
        def differentiable(x, *directions):
            def grad(upstream):
                upstreams = [upstream] * (1 + len(directions))
                return [
                    apply(derivative, values, vectors, x, *changed())
                    for _, changed in _substitutions(directions, upstreams)
                ]

            return derivative(values, vectors, *directions), grad

        return differentiable(x, *directions)

    return apply


@functools.cache
def _torch():
    import torch  # Keras' function saves no tensors, so it has no second derivative.

    class Spectral(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(derivative, values, vectors, x, *directions):
            return derivative(values, vectors, *directions)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.derivative, *tensors = inputs
            ctx.save_for_backward(*tensors)
            ctx.save_for_forward(*tensors)

        @staticmethod
        def backward(ctx, upstream):
            upstreams = [upstream if needed else None for needed in ctx.needs_input_grad[3:]]
            return None, None, None, *Spectral.terms(ctx, upstreams)

        @staticmethod
        def jvp(ctx, derivative, values, vectors, *tangents):
            return sum(term for term in Spectral.terms(ctx, tangents) if term is not None)

        @staticmethod
        def terms(ctx, tangents):
            values, vectors, x, *directions = ctx.saved_tensors
            return [
                Spectral.apply(ctx.derivative, values, vectors, x, *changed()) if needed else None
                for needed, changed in _substitutions(directions, tangents)
            ]

    return Spectral.apply


@functools.cache
def _jax():
    import jax  # `custom_vjp` has no forward mode, and `custom_jvp` no second derivative.
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

    spectral = Primitive("spectral")

    def compute(values, vectors, x, *directions, derivative):
        return derivative(values, vectors, *directions)

    def jvp(primals, tangents, derivative):
        values, vectors, x, *directions = primals
        tangents = [None if type(t) is ad.Zero else t for t in tangents[2:]]
        terms = [
            spectral.bind(values, vectors, x, *changed(), derivative=derivative)
            for needed, changed in _substitutions(directions, tangents)
            if needed
        ]
        return spectral.bind(*primals, derivative=derivative), functools.reduce(
            ad.add_tangents, terms
        )

    def transpose(upstream, values, vectors, x, *directions, derivative):
        if type(upstream) is ad.Zero:
            return [None] * (3 + len(directions))
        changed = [upstream if ad.is_undefined_primal(d) else d for d in directions]
        gradient = spectral.bind(values, vectors, x, *changed, derivative=derivative)
        return [None] * 3 + [gradient if ad.is_undefined_primal(d) else None for d in directions]

    def batch(operands, axes, derivative):
        size = next(o.shape[a] for o, a in zip(operands, axes, strict=True) if a is not None)
        operands = [batching.bdim_at_front(o, a, size) for o, a in zip(operands, axes, strict=True)]
        return spectral.bind(*operands, derivative=derivative), 0

    spectral.def_impl(compute)
    spectral.def_abstract_eval(
        lambda values, vectors, x, *directions, derivative: jax.core.ShapedArray(x.shape, x.dtype)
    )
    mlir.register_lowering(spectral, mlir.lower_fun(compute, multiple_results=False))
    ad.primitive_jvps[spectral] = jvp
    ad.primitive_transposes[spectral] = transpose
    batching.primitive_batchers[spectral] = batch

    return lambda derivative, *operands: spectral.bind(*operands, derivative=derivative)


_BACKENDS = {"tensorflow": lambda: _tensorflow(), "torch": _torch, "jax": _jax}
