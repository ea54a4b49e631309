import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import Scale, check_layer
from spectral_oracle import BACKEND, LOG, error, rank_deficient, spread, value_and_gradient

from kerasfer.layers import ExpEig, LogEig, ReEig

pytestmark = pytest.mark.usefixtures("seed")


@pytest.mark.parametrize(
    "make",
    [
        lambda **kwargs: ReEig(1e-3, **kwargs),
        lambda **kwargs: ReEig(1e-3, method="matmul", **kwargs),
        lambda **kwargs: LogEig(**kwargs),
        lambda **kwargs: LogEig(1e-3, logreg_weight=0.1, logreg_form="linear", **kwargs),
        lambda **kwargs: LogEig(1e-3, method="matmul", **kwargs),
        lambda **kwargs: ExpEig(**kwargs),
        lambda **kwargs: ExpEig(method="matmul", **kwargs),
    ],
)
def test_as_a_keras_layer(make):
    check_layer(make, spread(1e1, size=6))


def test_log_of_two_identities():
    log = ops.convert_to_numpy(LogEig()(2 * ops.eye(3)[None]))
    np.testing.assert_allclose(log[0], np.log(2) * np.eye(3), atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(ExpEig()(log))[0], 2 * np.eye(3), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_half_policies_compute_in_float32(policy):
    layer = LogEig(1e-4, dtype=policy)
    assert layer.compute_dtype == "float32"
    x = spread(1e3)
    assert error(ops.convert_to_numpy(layer(ops.convert_to_tensor(x))), LOG(x)) < 1e-5


@pytest.fixture
def decompositions(monkeypatch):
    calls, eigh = [], keras.ops.linalg.eigh

    def counting(x):
        calls.append(tuple(x.shape))
        return eigh(x)

    monkeypatch.setattr(keras.ops.linalg, "eigh", counting)
    return calls


@pytest.mark.parametrize("logreg_weight", [0.0, 1e-3])
def test_rectified_logarithm_costs_one_eigendecomposition(decompositions, logreg_weight):
    x = rank_deficient(samples=8, size=16)
    upstream = np.ones_like(x)
    fused = value_and_gradient(LogEig(1e-3, logreg_weight=logreg_weight), x, upstream)
    assert decompositions == [x.shape]
    rectify, log = ReEig(1e-3), LogEig()
    steps = value_and_gradient(lambda x: log(rectify(x)), x, upstream)
    assert len(decompositions) == 3
    assert error(fused[0], steps[0]) < 1e-5
    assert error(fused[1], steps[1]) < 1e-3  # the second step sees ε with float32's rounding of 1


def test_matmul_form_needs_no_eigendecomposition(decompositions):
    x = spread(1e1, size=8)
    for layer in (ReEig(1e-3, "matmul"), LogEig(1e-3, method="matmul"), ExpEig("matmul")):
        value_and_gradient(layer, x, np.ones_like(x))
    assert decompositions == []


def test_logreg_is_added_to_the_loss():
    x = np.stack([np.diag([0.5, 1.0, 4.0]), np.eye(3)]).astype("float32")
    h = np.array([0.5, 1.0, 4.0]) - 1 - np.log([0.5, 1.0, 4.0])
    for form, penalty in (("squared", np.mean(h**2)), ("linear", np.mean(h))):
        inputs = keras.Input((3, 3))
        model = keras.Model(inputs, LogEig(1e-3, logreg_weight=0.2, logreg_form=form)(inputs))
        model(x)
        # The mean over both matrices, of which the identity has none.
        loss = ops.convert_to_numpy(model.losses[0])
        np.testing.assert_allclose(loss, 0.2 * penalty / 2, rtol=1e-5)
        model.compile("sgd", "mse")
        expected = np.mean((model.predict(x, verbose=0) - 1) ** 2) + 0.2 * penalty / 2
        loss = model.evaluate(x, np.ones_like(x), verbose=0)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_logreg_of_weight_zero_adds_nothing():
    layer = LogEig(1e-3)
    layer(ops.eye(3)[None])
    assert layer.losses == []


@pytest.mark.parametrize("make", [LogEig, ReEig, ExpEig])
@pytest.mark.parametrize("method", ["eigh", "matmul"])
@pytest.mark.filterwarnings("ignore:Model doesn't support `jit_compile=True`")
@pytest.mark.skipif(BACKEND == "torch", reason="Keras compiles on torch only where it is asked to.")
def test_the_compiler_is_chosen_for_the_user(make, method):
    # XLA makes TensorFlow's eigendecomposition 18 times slower, and JAX without it runs op by op.
    x = spread(1e1, size=4)
    inputs = keras.Input((4, 4))
    model = keras.Model(inputs, Scale()(make(method=method)(inputs)))
    # Asked for openly, since "auto" turns to it on TensorFlow only where there is a GPU.
    model.compile("sgd", "mse", jit_compile=True)
    assert model.jit_compile == (method == "matmul" or BACKEND == "jax")
    assert np.isfinite(model.fit(x, x, verbose=0).history["loss"]).all()
    model.compile("sgd", "mse", jit_compile="auto")
    if BACKEND == "jax" or method == "eigh":
        assert model.jit_compile == (BACKEND == "jax")


def test_a_diverged_training_is_explained():
    inputs = keras.Input((4, 4))
    model = keras.Model(inputs, Scale()(LogEig(1e-3)(inputs)))
    x = np.full((2, 4, 4), np.nan, "float32")
    message = "must be finite. Received: NaN or infinity"
    with pytest.raises(ValueError, match=message):
        model(x)
    model.compile("sgd", "mse")
    if BACKEND == "jax":
        # A compiled program cannot raise.
        assert np.isnan(model.predict(x, verbose=0)).all()
        return
    # TensorFlow raises an InvalidArgumentError from within its graph.
    with pytest.raises(Exception, match=message):
        model.fit(x, x, verbose=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReEig(0.0), r"`epsilon` must be positive. Received: epsilon=0.0."),
        (lambda: LogEig(-1e-4), r"`epsilon` must be positive. Received: epsilon=-0.0001."),
        (lambda: LogEig(logreg_weight=-1), r"must not be negative. Received: logreg_weight=-1."),
        (lambda: LogEig(logreg_form="cubic"), r"one of \('squared', 'linear'\).*'cubic'"),
        (lambda: ExpEig("svd"), r"one of \('eigh', 'matmul'\). Received: method='svd'"),
        (lambda: LogEig()(keras.Input((3, 4))), r"must be equal .* shape=\(None, 3, 4\)"),
        (lambda: ReEig()(keras.Input((None, None))), r"must be equal and known"),
    ],
)
def test_bad_arguments_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
