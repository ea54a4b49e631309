import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import check_layer

from kerasfer.layers import BiMap, Covariance, LogEig, SPDAttention, SPDProject, Vech

pytestmark = pytest.mark.usefixtures("seed")


def maps_and_vectors(batch=4, regions=3):
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((batch, regions, 3, 2, 16)).astype("float32")
    return maps, rng.standard_normal((batch, regions, 5)).astype("float32")


@pytest.mark.parametrize("options", [{}, {"axis": "channel", "units": 3, "normalize": False}])
def test_as_a_keras_layer(options):
    check_layer(lambda **kwargs: SPDAttention(**options, **kwargs), *maps_and_vectors())


def test_scores_weigh_the_vectors():
    maps, vectors = maps_and_vectors()
    layer = SPDAttention()
    attended, scores = layer([maps, vectors], return_attention_scores=True)
    attended, scores = ops.convert_to_numpy(attended), ops.convert_to_numpy(scores)
    assert scores.shape == (4, 3)
    assert scores.min() >= 0 and scores.max() <= 1
    assert np.ptp(scores) > 1e-3
    np.testing.assert_allclose(attended, np.einsum("br,brf->bf", scores, vectors), atol=1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer([maps, vectors])), attended)


def test_normalized_scores_sum_to_one():
    plain, normalized = SPDAttention(normalize=False), SPDAttention()
    inputs = maps_and_vectors()
    scores = ops.convert_to_numpy(plain(inputs, return_attention_scores=True)[1])
    normalized(inputs)
    normalized.set_weights(plain.get_weights())
    attended, shares = normalized(inputs, return_attention_scores=True)
    shares = ops.convert_to_numpy(shares)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(shares, scores / scores.sum(axis=1, keepdims=True), rtol=1e-5)
    expected = np.einsum("br,brf->bf", shares, inputs[1])
    np.testing.assert_allclose(ops.convert_to_numpy(attended), expected, atol=1e-5)


def test_scores_in_a_functional_model():
    maps, vectors = maps_and_vectors()
    inputs = [keras.Input(maps.shape[1:]), keras.Input(vectors.shape[1:])]
    outputs = SPDAttention()(inputs, return_attention_scores=True)
    assert [tuple(output.shape) for output in outputs] == [(None, 5), (None, 3)]
    attended, scores = keras.Model(inputs, outputs).predict([maps, vectors], verbose=0)
    np.testing.assert_allclose(attended, np.einsum("br,brf->bf", scores, vectors), atol=1e-5)


def test_attention_equals_its_parts():
    maps, vectors = maps_and_vectors(batch=2)
    layer = SPDAttention(units=4, shrinkage=0.01, epsilon=0.05, normalize=False)
    scores = layer([maps, vectors], return_attention_scores=True)[1]
    x = SPDProject(0.01)(Covariance()(maps.reshape(6, 3, 2, 16)))
    bimap = BiMap(4)
    bimap.build((None, 6, 6))
    bimap.set_weights(layer.bimap.get_weights())
    tangent = ops.convert_to_numpy(Vech()(LogEig(0.05)(bimap(x)))) / 4  # by the matrix's size
    kernel, bias = layer.score.get_weights()
    expected = 1 / (1 + np.exp(-(tangent @ kernel + bias)))
    np.testing.assert_allclose(ops.convert_to_numpy(scores), expected.reshape(2, 3), atol=1e-5)


def test_the_bimap_halves_the_covariance():
    layer = SPDAttention()
    layer.build([(None, 3, 7, 7, 512), (None, 3, 512)])
    assert tuple(layer.bimap.kernel.shape) == (24, 49)
    assert layer.units is None  # the argument is unchanged


def test_the_penalty_is_in_the_loss():
    inputs = maps_and_vectors()
    heavy, none = SPDAttention(logreg_weight=0.5), SPDAttention(logreg_weight=0.0)
    heavy(inputs)
    none(inputs)
    assert len(heavy.losses) == 1 and ops.convert_to_numpy(heavy.losses[0]) > 0
    assert none.losses == []


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4, 4, 8), (2, 8)),  # regions differ
        ((3, 8), (3, 8)),  # no positions
        ((3, 4, 4, 8), (3, 4, 8)),  # vectors that are maps
    ],
)
def test_shapes_that_do_not_fit_are_errors(shapes):
    with pytest.raises(ValueError, match="of the same regions. Received: input_shape="):
        SPDAttention()([keras.Input(shape) for shape in shapes])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": "time"}, "`axis` must be 'spatial' or 'channel'. Received: axis='time'"),
        ({"method": "svd"}, "`method` must be one of"),
        ({"logreg_form": "cubic"}, "one of .*'squared', 'linear'.*'cubic'"),
    ],
)
def test_unknown_choices_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        SPDAttention(**options)


def test_normalized_scores_survive_coefficients_near_zero():
    inputs = maps_and_vectors()
    layer = SPDAttention()
    layer(inputs)
    kernel, bias = layer.score.get_weights()
    layer.score.set_weights([kernel, bias - 200.0])  # every sigmoid underflows
    scores = ops.convert_to_numpy(layer(inputs, return_attention_scores=True)[1])
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)
