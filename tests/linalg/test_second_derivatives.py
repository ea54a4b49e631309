"""Second derivatives of the spectral functions, against differences of float64 gradients."""

import keras
import numpy as np
import pytest
from spectral_oracle import (
    BACKEND,
    EXP,
    LOG,
    error,
    nearly_tied,
    rank_deficient,
    rectified_log_oracle,
    rectify_oracle,
    spread,
    tied,
    upstream_like,
)

from kerasfer import linalg
from kerasfer.layers import ExpEig, LogEig, ReEig

EPSILON = 2e-3
FUNCTIONS = {
    "logm": (LogEig(), LOG),
    "rectify": (ReEig(EPSILON), rectify_oracle(EPSILON)),
    "rectified logm": (LogEig(EPSILON), rectified_log_oracle(EPSILON)),
    "expm": (ExpEig(), EXP),
    "logm by products": (LogEig(method="matmul"), LOG),
}
# No eigenvalue lies at ε itself, where the rectification has a kink.
MATRICES = {
    "spread": spread(1e3, size=12) + np.float32(0.7 * EPSILON) * np.eye(12, dtype="float32"),
    "tied": tied(1e2, size=12),
    "nearly tied": nearly_tied(1e2, size=12),
    "identity": np.eye(12, dtype="float32")[None],
    "rank deficient": rank_deficient(samples=6, size=12),
}


def hessian_vector_products(function, x, upstream, direction):
    """Returns the Hessian of <function(x), upstream> times a direction, computed in each way."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def product(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    loss = tf.reduce_sum(function(x) * upstream)
                slope = tf.reduce_sum(inner.gradient(loss, x) * direction)
            return outer.gradient(slope, x)

        x = tf.constant(x)
        return [product(x), tf.function(product, autograph=False)(x)]
    if BACKEND == "jax":
        import jax

        def loss(x):
            return (function(x) * upstream).sum()

        def slope(x):
            return (jax.grad(loss)(x) * direction).sum()

        return [
            jax.grad(slope)(x),
            jax.jit(jax.grad(slope))(x),
            jax.jvp(jax.grad(loss), (x,), (direction,))[1],
            jax.grad(lambda x: jax.jvp(loss, (x,), (direction,))[1])(x),
        ]
    import torch

    x, upstream, direction = map(torch.tensor, (x, upstream, direction))
    required = x.clone().requires_grad_()

    def loss(x):
        return (function(x) * upstream).sum()

    gradient = torch.autograd.grad(loss(required), required, create_graph=True)[0]
    return [
        torch.autograd.grad((gradient * direction).sum(), required)[0],
        torch.func.grad(lambda x: (torch.func.grad(loss)(x) * direction).sum())(x),
        torch.func.jvp(torch.func.grad(loss), (x,), (direction,))[1],
    ]


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessian_vector_products(name, kind):
    if "logm" in name and name != "rectified logm" and kind == "rank deficient":
        pytest.skip("The logarithm needs definite matrices.")
    function, oracle = FUNCTIONS[name]
    x = MATRICES[kind]
    if name == "expm":
        x = (x - np.float32(0.5) * np.eye(12, dtype="float32")).astype("float32")
    upstream, direction = upstream_like(x), upstream_like(x, seed=2)
    step = 1e-6 * (direction + np.swapaxes(direction, -2, -1)) / 2
    after, before = (
        oracle.value_and_gradient(x.astype("float64") + sign * step, upstream)[1]
        for sign in (1, -1)
    )
    expected = (after - before) / 2e-6
    tolerance = 1e-4 if name == "logm by products" else 3e-5
    for product in hessian_vector_products(function, x, upstream, direction):
        # Some are 0: the shift makes their error absolute.
        shift = np.eye(12)
        assert error(keras.ops.convert_to_numpy(product) + shift, expected + shift) < tolerance


def test_a_gradient_penalty_by_hand():
    # L(x) = Σ log(x_i) on the diagonal: the gradient's square is Σ 1 / x_i², its slope −2 / x_i³.
    x = np.diag([0.5, 1.0, 2.0]).astype("float32")
    identity = np.eye(3, dtype="float32")
    twice_gradient = np.diag(2 / np.diag(x)).astype("float32")
    for product in hessian_vector_products(linalg.logm, x, identity, twice_gradient):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(product), np.diag(-2 / np.diag(x) ** 3), rtol=1e-5, atol=1e-6
        )


def test_batches_of_functions_agree_with_batches_of_matrices():
    x = spread(1e2, size=5)
    expected = keras.ops.convert_to_numpy(linalg.logm(keras.ops.convert_to_tensor(x)))
    gradient = np.stack([LOG.value_and_gradient(one, np.ones_like(one))[1] for one in x])
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def slope(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(linalg.logm(x))
            return tape.gradient(loss, x)

        results = [tf.vectorized_map(f, tf.constant(x)) for f in (linalg.logm, slope)]
    elif BACKEND == "jax":
        import jax

        slope = jax.grad(lambda x: linalg.logm(x).sum())
        results = [jax.vmap(f)(x) for f in (linalg.logm, slope)]
    else:
        import torch

        slope = torch.func.grad(lambda x: linalg.logm(x).sum())
        results = [torch.vmap(f)(torch.tensor(x)) for f in (linalg.logm, slope)]
    assert error(results[0], expected) < 1e-6
    assert error(results[1], gradient) < 1e-5


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow has no function for a Hessian.")
def test_the_hessian_is_symmetric_and_agrees_with_its_products():
    x, upstream = tied(1e2, size=6)[-1], upstream_like(np.zeros((6, 6), "float32"))
    direction = upstream_like(x, seed=2)
    if BACKEND == "jax":
        import jax

        hessian = np.asarray(jax.hessian(lambda x: (linalg.logm(x) * upstream).sum())(x))
    else:
        import torch

        upstream_ = torch.tensor(upstream)
        hessian = torch.func.hessian(lambda x: (linalg.logm(x) * upstream_).sum())(torch.tensor(x))
        hessian = hessian.numpy()
    as_matrix = hessian.reshape(36, 36)
    np.testing.assert_allclose(as_matrix, as_matrix.T, atol=1e-4 * np.abs(hessian).max())
    product = hessian_vector_products(linalg.logm, x, upstream, direction)[0]
    product = keras.ops.convert_to_numpy(product)
    assert error(np.tensordot(hessian, direction, axes=2), product) < 1e-4


def test_third_derivatives_are_an_error():
    x, ones = spread(1e1, size=4, batch=1), np.ones((1, 4, 4), "float32")
    message = "first and second derivatives. Received: a request for derivative 3. Use method="
    with pytest.raises(NotImplementedError, match=message):
        if BACKEND == "tensorflow":
            import tensorflow as tf

            x = tf.constant(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                product = hessian_vector_products(linalg.logm, x, ones, ones)[0]
            tape.gradient(product, x)
        elif BACKEND == "jax":
            import jax

            jax.grad(lambda x: hessian_vector_products(linalg.logm, x, ones, ones)[0].sum())(x)
        else:
            import torch

            def product(x):
                gradient = torch.func.grad(lambda x: linalg.logm(x).sum())
                return torch.func.jvp(gradient, (x,), (torch.ones_like(x),))[1].sum()

            torch.func.grad(product)(torch.tensor(x))
