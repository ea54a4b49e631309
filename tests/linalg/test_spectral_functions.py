import keras
import numpy as np
import pytest
from pyriemann.geometry import base
from spectral_oracle import (
    BACKEND,
    EXP,
    LOG,
    error,
    float64_enabled,
    nearly_tied,
    rank_deficient,
    rectified_log_oracle,
    rectify_oracle,
    spread,
    tied,
    upstream_like,
    value,
    value_and_gradient,
)

from kerasfer import linalg

EPSILON = 2e-3
KINDS = {"spread": spread, "tied": tied, "nearly tied": nearly_tied}
FUNCTIONS = {
    "logm": (linalg.logm, LOG),
    "rectify": (lambda x: linalg.rectify(x, EPSILON), rectify_oracle(EPSILON)),
    "rectified logm": (lambda x: linalg.logm(x, EPSILON), rectified_log_oracle(EPSILON)),
}


def test_the_logarithm_of_two_identities_is_log_two_identities():
    identity = np.eye(3, dtype="float32")
    for method in linalg.METHODS:
        log = value(lambda x, m=method: linalg.logm(x, method=m), 2 * identity)
        np.testing.assert_allclose(log, np.log(2) * identity, atol=1e-5)
        two = value(lambda x, m=method: linalg.expm(x, method=m), np.float32(np.log(2)) * identity)
        np.testing.assert_allclose(two, 2 * identity, rtol=1e-5, atol=1e-6)


def test_rectification_by_hand():
    # Eigenvalues 3 on (1, 1) and -1 on (1, -1); the -1 becomes 0.5.
    x = np.array([[1, 2], [2, 1]], "float32")
    for method in linalg.METHODS:
        raised = value(lambda x, m=method: linalg.rectify(x, 0.5, m), x)
        np.testing.assert_allclose(raised, [[1.75, 1.25], [1.25, 1.75]], atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 4.0, 1e30])
def test_the_gradient_by_hand_at_exact_ties(scale):
    # At c I every slope is f'(c): log gives sym(G) / c. Stock gradients are NaN here.
    g = upstream_like(np.zeros((1, 5, 5), "float32"))
    x = np.float32(scale) * np.eye(5, dtype="float32")[None]
    symmetric = (g + np.swapaxes(g, -2, -1)) / 2
    _, gradient = value_and_gradient(linalg.logm, x, g)
    np.testing.assert_allclose(scale * gradient, symmetric, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_the_rectifier_is_zero_at_ties_below_epsilon():
    x, g = 4 * np.eye(5, dtype="float32")[None], upstream_like(np.zeros((1, 5, 5), "float32"))
    _, gradient = value_and_gradient(lambda x: linalg.rectify(x, 9.0), x, g)
    np.testing.assert_array_equal(gradient, np.zeros_like(g))


@pytest.mark.parametrize("condition", [1e1, 1e2, 1e5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_exact_in_float32(name, kind, condition):
    function, oracle = FUNCTIONS[name]
    x = KINDS[kind](condition)
    if name != "logm" and kind != "spread" and condition == 1e5:
        x = x + np.float32(1e-3) * np.eye(24, dtype="float32")  # no bunch at ε itself
    upstream = upstream_like(x)
    y, gradient = value_and_gradient(function, x, upstream)
    true_y, true_gradient = oracle.value_and_gradient(x, upstream)
    assert error(y, true_y) < 1e-5
    assert error(gradient, true_gradient) < 1e-5
    np.testing.assert_allclose(y, np.swapaxes(y, -2, -1), atol=1e-5 * np.abs(y).max())


@pytest.mark.parametrize("kind", KINDS)
def test_the_exponential_and_its_gradient_are_exact(kind):
    x = LOG(KINDS[kind](1e3)).astype("float32")
    upstream = upstream_like(x)
    y, gradient = value_and_gradient(linalg.expm, x, upstream)
    true_y, true_gradient = EXP.value_and_gradient(x, upstream)
    assert error(y, true_y) < 1e-5
    assert error(gradient, true_gradient) < 1e-5


@pytest.mark.parametrize("shrinkage", [0.0, 1e-4])
def test_rank_deficient_covariances_have_exact_gradients(shrinkage):
    x = rank_deficient(samples=144, size=256)
    upstream = upstream_like(x)
    x = x + np.float32(shrinkage) * np.trace(x, axis1=-2, axis2=-1)[:, None, None] * np.eye(
        256, dtype="float32"
    )
    epsilon = 1e-4
    y, gradient = value_and_gradient(lambda x: linalg.logm(x, epsilon), x, upstream)
    true_y, true_gradient = rectified_log_oracle(epsilon).value_and_gradient(x, upstream)
    if not shrinkage:  # 113 eigenvalues tie at ε, where the logarithm is flat.
        assert np.sum(np.linalg.eigvalsh(y[0]) < np.log(epsilon) + 1e-3) == 113
    assert error(y, true_y) < 1e-5
    assert error(gradient, true_gradient) < 1e-5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_sample_does_not_depend_on_its_batch(name):
    function, oracle = FUNCTIONS[name]
    x = nearly_tied(1e2, batch=1)
    upstream = upstream_like(x)
    giant = 1000 * np.eye(24, dtype="float32")[None]
    y, gradient = value_and_gradient(function, x, upstream)
    both_y, both_gradient = value_and_gradient(
        function, np.concatenate([giant, x]), np.concatenate([upstream, upstream])
    )
    true_y, true_gradient = oracle.value_and_gradient(x, upstream)
    assert error(both_y[1:], true_y) <= 1.01 * error(y, true_y) + 1e-9
    assert error(both_gradient[1:], true_gradient) <= 1.01 * error(gradient, true_gradient) + 1e-9


def test_values_agree_with_pyriemann():
    x = spread(1e3)
    as_float64 = x.astype("float64")
    assert error(value(linalg.logm, x), base.logm(as_float64)) < 1e-5
    log = base.logm(as_float64)
    assert error(value(linalg.expm, log.astype("float32")), base.expm(log)) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["logm", "rectify", "rectified logm", "expm"])
def test_products_agree_with_the_eigendecomposition(name, kind):
    x = KINDS[kind](1e4)
    if name in ("rectify", "rectified logm"):
        # No bunch at ε itself, where the gradient jumps.
        x = x - np.float32(3e-3) * np.eye(24, dtype="float32")
    functions = {
        "logm": linalg.logm,
        "rectify": lambda x, method: linalg.rectify(x, 1e-3, method),
        "rectified logm": lambda x, method: linalg.logm(x, 1e-3, method),
        "expm": linalg.expm,
    }
    if name == "expm":
        x = LOG(x).astype("float32")
    upstream = upstream_like(x)
    results = [
        value_and_gradient(lambda x, m=m: functions[name](x, method=m), x, upstream)
        for m in ("matmul", "eigh")
    ]
    (y, gradient), (exact_y, exact_gradient) = results
    assert error(y, exact_y) < 1e-3
    assert error(gradient, exact_gradient) < 1e-3


@pytest.mark.parametrize("method", linalg.METHODS)
def test_rectified_logm_equals_its_two_steps(method):
    x = spread(1e4)
    rectified, log = linalg.rectified_logm(keras.ops.convert_to_tensor(x), 1e-3, method)
    assert error(rectified, value(lambda x: linalg.rectify(x, 1e-3, method), x)) < 1e-6
    assert error(log, value(lambda x: linalg.logm(x, 1e-3, method), x)) < 1e-6
    plain, log = linalg.rectified_logm(keras.ops.convert_to_tensor(x), None, method)
    np.testing.assert_allclose(plain, x, rtol=1e-6)
    assert error(log, value(lambda x: linalg.logm(x, None, method), x)) < 1e-6


def test_the_fused_gradient_is_that_of_the_two_steps():
    x = spread(1e4)
    upstream = upstream_like(x)
    fused = value_and_gradient(lambda x: linalg.logm(x, 1e-3), x, upstream)
    steps = value_and_gradient(lambda x: linalg.logm(linalg.rectify(x, 1e-3)), x, upstream)
    assert error(fused[0], steps[0]) < 1e-5
    # The second step sees its 1e-3 with float32's rounding of 1: 6e-8 / 1e-3.
    assert error(fused[1], steps[1]) < 1e-3


@pytest.mark.skipif(BACKEND == "torch", reason="Keras' torch operations end in float32.")
def test_float64_stays_float64():
    x = spread(1e5).astype("float64")
    x = (x + np.swapaxes(x, -2, -1)) / 2
    upstream = upstream_like(x)
    with float64_enabled():
        for function, oracle in [*FUNCTIONS.values(), (linalg.expm, EXP)]:
            y, gradient = value_and_gradient(function, x, upstream)
            true_y, true_gradient = oracle.value_and_gradient(x, upstream)
            assert y.dtype == gradient.dtype == "float64"
            assert error(y, true_y) < 1e-10
            assert error(gradient, true_gradient) < 1e-10


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    x = keras.ops.cast(spread(1e1), dtype)
    y = linalg.logm(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert error(y, LOG(keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")))) < 1e-5


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_broken_matrix_is_an_error(broken):
    x = np.full((2, 4, 4), broken, "float32")
    x[0] = np.eye(4)
    message = "its input must be finite. Received: NaN or infinity"
    with pytest.raises(ValueError, match=message):
        linalg.logm(keras.ops.convert_to_tensor(x))
    if BACKEND == "jax":
        import jax

        # A compiled program cannot raise. Only the result of the broken matrix is NaN.
        y = np.asarray(jax.jit(linalg.logm)(x))
        assert np.isnan(y[1]).all()
        np.testing.assert_allclose(y[0], np.zeros((4, 4)), atol=1e-6)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            tf.function(linalg.logm, autograph=False)(tf.constant(x))


@pytest.mark.parametrize("method", linalg.METHODS)
def test_complex_matrices_are_an_error(method):
    x = np.array([[2, 1j], [-1j, 2]], "complex64")
    for function in (linalg.logm, linalg.expm):
        with pytest.raises(ValueError, match=r"must be real\. .* Received: dtype=complex64"):
            function(keras.ops.convert_to_tensor(x), method=method)
    # The error proposes this matrix of twice the size. The eigenvalues of x are 1 and 3.
    real = np.block([[x.real, -x.imag], [x.imag, x.real]])
    log = value(lambda x: linalg.logm(x, method=method), real)
    expected = np.log(3) / 2 * np.array([[1, 1j], [-1j, 1]])
    np.testing.assert_allclose(log[:2, :2] + 1j * log[2:, :2], expected, atol=1e-5)


@pytest.mark.parametrize("method", linalg.METHODS)
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e-4 * (1 + 1e-6)])
def test_multiples_of_the_identity_near_epsilon(method, scale):
    # A black picture has a covariance of 0, which one rectification makes ε · I exactly.
    x = np.float32(scale) * np.eye(6, dtype="float32")[None]
    y, gradient = value_and_gradient(lambda x: linalg.rectify(x, 1e-4, method), x, np.ones_like(x))
    np.testing.assert_allclose(y, 1e-4 * np.eye(6)[None], rtol=1e-5, atol=1e-10)
    assert np.isfinite(gradient).all()
    y, gradient = value_and_gradient(
        lambda x: linalg.logm(linalg.rectify(x, 1e-4, method), 1e-4, method), x, np.ones_like(x)
    )
    np.testing.assert_allclose(y, np.log(1e-4) * np.eye(6)[None], rtol=1e-5, atol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("function", [linalg.logm, linalg.expm, lambda x: linalg.rectify(x, 1.0)])
@pytest.mark.parametrize("shape", [(2, 3, 4), (3,)])
def test_non_square_matrices_are_an_error(function, shape):
    with pytest.raises(ValueError, match=r"must be equal and known: .* Received: shape=\("):
        function(keras.ops.ones(shape))


def test_unknown_choices_are_errors():
    x = keras.ops.eye(3)
    for function in (linalg.logm, linalg.expm, lambda x, method: linalg.rectify(x, 1.0, method)):
        with pytest.raises(ValueError, match="must be one of .*'eigh', 'matmul'.*'svd'"):
            function(x, method="svd")
    with pytest.raises(ValueError, match="must be one of .*'squared', 'linear'.*'cubic'"):
        linalg.log_eigenvalue_penalty(x, x, "cubic")


def test_the_penalty_by_hand():
    x = np.diag([0.5, 1.0, 4.0]).astype("float32")
    h = np.array([0.5, 1.0, 4.0]) - 1 - np.log([0.5, 1.0, 4.0])

    def penalty(form):
        return value(lambda x: linalg.log_eigenvalue_penalty(x, linalg.logm(x), form), x)

    np.testing.assert_allclose(penalty("squared"), np.mean(h**2), rtol=1e-5)
    np.testing.assert_allclose(penalty("linear"), np.mean(h), rtol=1e-5)
    identity = np.eye(3, dtype="float32")
    for form in linalg.PENALTY_FORMS:
        zero = value(
            lambda x, f=form: linalg.log_eigenvalue_penalty(x, linalg.logm(x), f), identity
        )
        np.testing.assert_allclose(zero, 0, atol=1e-6)


def test_the_penalties_gradients():
    x = spread(1e1, size=8)
    n, identity = 8, np.eye(8)
    inverse, log = np.linalg.inv(x.astype("float64")), LOG(x)

    def gradient(form):
        def penalty(x):
            return linalg.log_eigenvalue_penalty(x, linalg.logm(x), form)

        return value_and_gradient(penalty, x, np.ones(len(x), "float32"))[1]

    assert error(gradient("linear"), (identity - inverse) / n) < 1e-5  # equation (10)
    chained = 2 * (x - identity - log) @ (identity - inverse) / n
    assert error(gradient("squared"), chained) < 1e-5


@pytest.mark.parametrize("method", linalg.METHODS)
def test_leading_dimensions_are_kept(method):
    x = spread(1e1, size=6, batch=6).reshape(2, 3, 6, 6)
    y = value(lambda x: linalg.logm(x, 1e-3, method), x)
    assert error(y, LOG(x)) < 1e-3
    single = value(lambda x: linalg.logm(x, 1e-3, method), x[1, 2])
    np.testing.assert_allclose(single, y[1, 2], atol=1e-6)
