import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer
from pyriemann.geometry.mean import mean_logeuclid, mean_riemann
from spectral_oracle import error, spread, value, value_and_gradient

from kerasfer import linalg
from kerasfer.layers import SPDBatchNormalization

pytestmark = pytest.mark.usefixtures("seed")


def batch(batch=12, size=6):
    return spread(20.0, size=size, batch=batch, seed=3)


@pytest.mark.parametrize("method", linalg.METHODS)
@pytest.mark.parametrize("metric", linalg.METRICS)
def test_as_a_keras_layer(metric, method):
    check_layer(lambda **kwargs: SPDBatchNormalization(metric, method=method, **kwargs), batch(4))


@pytest.mark.parametrize("method", linalg.METHODS)
def test_means_agree_with_pyriemann(method):
    x = batch()
    mean = value(lambda x: linalg.spd_mean(x, "log_euclidean", method=method), x)
    assert error(mean, mean_logeuclid(x.astype("float64"))) < 1e-4
    mean = value(lambda x: linalg.spd_mean(x, steps=15, method=method), x)
    assert error(mean, mean_riemann(x.astype("float64"), tol=1e-12)) < 1e-4


@pytest.mark.parametrize("method", linalg.METHODS)
def test_agrees_with_spd_learn(method):
    torch = pytest.importorskip("torch")
    from spd_learn.modules import SPDBatchNormMean, SPDBatchNormMeanVar

    x = batch()
    for peer, scale in ((SPDBatchNormMean, False), (SPDBatchNormMeanVar, True)):
        theirs = peer(6, momentum=0.1)
        ours = SPDBatchNormalization(momentum=0.9, scale=scale, method=method)
        for training in (True, True, False):
            theirs.train(training)
            expected = theirs(torch.tensor(x)[:, None]).detach().numpy()[:, 0]
            result = ops.convert_to_numpy(ours(ops.convert_to_tensor(x), training=training))
            assert error(result, expected) < 1e-3, (peer, training)


@pytest.mark.parametrize("metric", linalg.METRICS)
def test_the_output_has_the_specified_mean_and_dispersion(metric):
    layer = SPDBatchNormalization(metric, steps=15)
    x = batch()
    layer.build(x.shape)
    layer.gamma.assign(0.7)
    log_bias = np.linspace(-0.5, 0.5, 21).astype("float32")
    layer.log_bias.assign(log_bias)
    y = ops.convert_to_numpy(layer(ops.convert_to_tensor(x), training=True)).astype("float64")
    bias = linalg.expm(linalg.unvech(ops.convert_to_tensor(log_bias)))
    mean = mean_riemann(y, tol=1e-12) if metric == "affine_invariant" else mean_logeuclid(y)
    assert error(mean, ops.convert_to_numpy(bias)) < 1e-4


@pytest.mark.parametrize("metric", linalg.METRICS)
def test_running_statistics_and_inference(metric):
    x = batch()
    layer = SPDBatchNormalization(metric, momentum=0.5, steps=10)
    for _ in range(20):
        trained = layer(ops.convert_to_tensor(x), training=True)
    # After 20 steps on one batch its statistics are the running ones.
    inferred = layer(ops.convert_to_tensor(x), training=False)
    assert error(ops.convert_to_numpy(inferred), ops.convert_to_numpy(trained)) < 1e-3
    before = ops.convert_to_numpy(layer.moving_mean)
    layer(ops.convert_to_tensor(3 * x), training=False)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.moving_mean), before)


@pytest.mark.parametrize("metric", linalg.METRICS)
def test_the_gradient_by_differences(metric):
    x = batch(5, size=3)
    layer = SPDBatchNormalization(metric)
    upstream = np.random.default_rng(0).standard_normal(x.shape).astype("float32")
    direction = np.random.default_rng(1).standard_normal(x.shape).astype("float32")
    direction += direction.swapaxes(1, 2)

    def loss(x):
        return np.sum(value(lambda x: layer(x, training=True), x).astype("float64") * upstream)

    _, gradient = value_and_gradient(lambda x: layer(x, training=True), x, upstream)
    step = np.float32(3e-4)
    expected = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "euclidean"}, r"one of \('affine_invariant', 'log_euclidean'\).*'euclidean'"),
        ({"momentum": 1.5}, r"must be in \[0, 1\]. Received: momentum=1.5"),
        ({"epsilon": 0.0}, r"`epsilon` must be positive. Received: epsilon=0.0"),
        ({"steps": 0}, r"`steps` must be at least 1. Received: steps=0"),
        ({"method": "svd"}, r"one of \('eigh', 'matmul'\). Received: method='svd'"),
    ],
)
def test_bad_arguments_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        SPDBatchNormalization(**options)
    with pytest.raises(ValueError, match="must be equal and known"):
        SPDBatchNormalization()(keras.Input((3, 4)))
