"""Inputs of every type, size and data format, compiled and not, on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasfer.layers import (
    AffineSampling,
    BilinearPool,
    BiMap,
    ClassProbabilities,
    Covariance,
    ExpEig,
    FusedBatchNormalization,
    LogEig,
    ReEig,
    RegionCrops,
    SPDAttention,
    SPDBatchNormalization,
    SPDProject,
    Unvech,
    Vech,
)
from kerasfer.layers.affine import IDENTITY

pytestmark = pytest.mark.usefixtures("seed")

BACKEND = keras.backend.backend()
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3))
INTEGERS = np.random.default_rng(1).integers(0, 9, (3, 4, 4))
SYMMETRIC = INTEGERS + INTEGERS.transpose(0, 2, 1)
# A zoom by 2 into the upper left, of each picture.
ZOOM = np.tile(np.array([0.5, 0, -0.4, 0, 0.5, -0.4], "float32"), (3, 1))


def call(layer, *inputs, compiled=False):
    """Calls a layer, eagerly or as one compiled function."""
    inputs = [ops.convert_to_tensor(x) for x in inputs]
    one = inputs[0] if len(inputs) == 1 else inputs
    if not layer.built:
        layer.build(keras.tree.map_structure(lambda x: tuple(x.shape), one))
    if compiled and BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(layer, jit_compile=True)(one)
    if compiled and BACKEND == "jax":
        import jax

        return jax.jit(layer)(one)
    return layer(one)


def to_numpy(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


PICTURES = {
    "crops": lambda **kw: lambda x: (RegionCrops(2, "fixed", area=0.5, **kw), x),
    "affine": lambda **kw: lambda x: (AffineSampling(**kw), x, ZOOM[: len(x)]),
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float64"])
@pytest.mark.parametrize("compiled", [False, True])
def test_pictures_of_every_type(kind, dtype, compiled):
    expected = to_numpy(call(*PICTURES[kind]()(PIXELS.astype("float32"))))
    result = call(*PICTURES[kind]()(PIXELS.astype(dtype)), compiled=compiled)
    # As `Resizing`: floating-point pictures are cast to the compute type, integers remain.
    resized = keras.layers.Resizing(4, 4)(ops.convert_to_tensor(PIXELS.astype(dtype)))
    kept = keras.backend.standardize_dtype(resized.dtype)
    assert keras.backend.standardize_dtype(result.dtype) == kept
    expected = np.round(expected) if "int" in dtype else expected
    # Halves may be rounded to either side.
    np.testing.assert_allclose(to_numpy(result), expected, atol=1.01 if "int" in dtype else 1e-3)
    assert abs(to_numpy(result).mean() - expected.mean()) < 0.05


@pytest.mark.parametrize("kind", PICTURES)
def test_symbolic_types_of_booleans_and_integers(kind):
    for dtype in ("uint8", "bool"):
        layer, x, *rest = PICTURES[kind]()(
            (PIXELS > 127) if dtype == "bool" else PIXELS.astype(dtype)
        )
        symbols = [keras.Input(x.shape[1:], dtype=dtype), *(keras.Input(r.shape[1:]) for r in rest)]
        symbolic = layer(symbols[0] if len(symbols) == 1 else symbols)
        eager = call(layer, x, *rest)
        assert symbolic.dtype == keras.backend.standardize_dtype(eager.dtype) == dtype
        assert 0 < to_numpy(eager).mean() < 255


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches_of_pictures(kind, compiled, batch):
    x = PIXELS.astype("float32")[:batch]
    result = to_numpy(call(*PICTURES[kind]()(x), compiled=compiled))
    assert len(result) == batch and result.shape[-3:] == (8, 8, 3)


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("compiled", [False, True])
def test_channels_first(kind, compiled):
    x = PIXELS.astype("float32")[:, :6]  # Height and width differ.
    expected = to_numpy(call(*PICTURES[kind](data_format="channels_last")(x)))
    moved = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    result = call(*PICTURES[kind](data_format="channels_first")(moved), compiled=compiled)
    np.testing.assert_allclose(np.moveaxis(to_numpy(result), -3, -1), expected, atol=1e-3)


def test_the_data_format_is_saved():
    for layer in (RegionCrops(data_format="channels_first"), AffineSampling("channels_first")):
        assert type(layer).from_config(layer.get_config()).data_format == "channels_first"
        assert type(layer)().data_format == keras.config.image_data_format()


MATRICES = {
    "bimap": (lambda: BiMap(2), SYMMETRIC),
    "vech": (Vech, SYMMETRIC),
    "unvech": (Unvech, INTEGERS.reshape(3, 16)[:, :10]),
    "covariance": (Covariance, INTEGERS),
    "project": (lambda: SPDProject(0.1), SYMMETRIC),
    "bilinear": (BilinearPool, INTEGERS),
    "probabilities": (lambda: ClassProbabilities("abcd"), INTEGERS[:, 0]),
    "norm": (FusedBatchNormalization, PIXELS),
}


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "bool", "float16", "float64"])
@pytest.mark.parametrize("compiled", [False, True])
def test_matrices_of_every_type(kind, dtype, compiled):
    make, x = MATRICES[kind]
    x = x % 2 if dtype == "bool" else x
    layer = make()
    expected = to_numpy(call(layer, x.astype("float32")))
    result = call(layer, x.astype(dtype), compiled=compiled)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    np.testing.assert_allclose(to_numpy(result), expected, rtol=1e-4, atol=1e-4)


SPD = 0.1 * SYMMETRIC @ SYMMETRIC.transpose(0, 2, 1) + np.eye(4)
SPECTRAL = {
    f"{name} {method}": (lambda make=make, method=method: make(method=method), SPD)
    for method in ("eigh", "matmul")
    for name, make in {
        "log": lambda **kw: LogEig(1e-4, **kw),
        "rectify": lambda **kw: ReEig(1e-4, **kw),
        "exp": lambda **kw: ExpEig(**kw),
        "normalize": lambda **kw: SPDBatchNormalization(**kw),
    }.items()
}


@pytest.mark.parametrize("kind", [*MATRICES, *SPECTRAL])
@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches_of_matrices(kind, batch):
    make, x = (MATRICES | SPECTRAL)[kind]
    layer = make()
    expected = to_numpy(call(layer, x.astype("float32")))
    result = to_numpy(call(layer, x[:batch].astype("float32")))
    np.testing.assert_allclose(result, expected[:batch], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [k for k in MATRICES if k != "norm"])
def test_complex_inputs_are_errors(kind):
    make, x = MATRICES[kind]
    with pytest.raises(ValueError, match="requires real inputs. Received: dtype=complex64. Use"):
        call(make(), x.astype("complex64"))


@pytest.mark.parametrize("kind", PICTURES)
def test_complex_pictures_are_errors(kind):
    with pytest.raises(ValueError, match="requires real inputs. Received: dtype=complex64. Use"):
        call(*PICTURES[kind]()(PIXELS.astype("complex64")))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float64"])
def test_attention_over_vectors_of_every_type(dtype):
    rng = np.random.default_rng(0)
    maps, vectors = rng.integers(0, 9, (2, 3, 4, 4, 6)), rng.integers(0, 9, (2, 3, 5))
    layer = SPDAttention()
    expected = to_numpy(call(layer, maps.astype("float32"), vectors.astype("float32")))
    result = to_numpy(call(layer, maps.astype(dtype), vectors.astype(dtype)))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(result, expected, rtol=1e-3)


def test_float64_layers():
    x = np.random.default_rng(0).standard_normal((2, 2, 4, 4, 6))
    attention = SPDAttention(dtype="float64")
    assert to_numpy(call(attention, x, x[:, :, 0, 0])).shape == (2, 6)
    norm = FusedBatchNormalization(dtype="float64")
    result = ops.convert_to_numpy(norm(ops.convert_to_tensor(x[0]), training=True))
    assert result.dtype == ("float32" if BACKEND == "jax" else "float64")  # JAX without x64
    np.testing.assert_allclose(result.mean((0, 1, 2)), 0, atol=1e-6)


@pytest.mark.parametrize("shapes", [((4, 4, 3), (None, None, 5)), ((None, 4, 3), (4, None, 5))])
def test_known_and_unknown_sizes_can_be_pooled(shapes):
    layer = BilinearPool()
    symbolic = layer([keras.Input(shape) for shape in shapes])
    assert symbolic.shape == (None, 15)
    a, b = (
        np.random.default_rng(i).standard_normal((2, 4, 4, n)).astype("float32")
        for i, n in ((0, 3), (1, 5))
    )
    np.testing.assert_allclose(to_numpy(layer([a, b])), to_numpy(BilinearPool()([a, b])), atol=1e-6)


@pytest.mark.parametrize("shapes", [((4, 4, 3), (None, 5, 5)), ((4, 4, 3), (4, 4, 4, 3))])
def test_other_sizes_cannot_be_pooled(shapes):
    with pytest.raises(ValueError, match="the same positions. Received: input_shape="):
        BilinearPool()([keras.Input(shape) for shape in shapes])


def test_unknown_channels_cannot_be_pooled():
    with pytest.raises(ValueError, match="number of channels must be known. Received: input_sh"):
        BilinearPool()(keras.Input((4, 4, None)))


def test_the_identity_of_an_integer_picture():
    maps = np.tile(np.array(IDENTITY, "float32"), (3, 1))
    result = call(AffineSampling(), PIXELS.astype("uint8"), maps)
    np.testing.assert_array_equal(to_numpy(result), PIXELS)


@pytest.mark.parametrize("axis", ["spatial", "channel"])
def test_the_axis_survives_legacy_h5(axis, tmp_path):
    inputs = [keras.Input((2, 3, 3, 4)), keras.Input((2, 4)), keras.Input((3, 3, 4))]
    attended = SPDAttention(axis=axis, name="attention")(inputs[:2])
    model = keras.Model(inputs, [attended, Covariance(axis, name="covariance")(inputs[2])])
    model.save(tmp_path / "model.h5")
    loaded = keras.saving.load_model(tmp_path / "model.h5", compile=False)
    assert loaded.get_layer("attention").axis == axis
    assert loaded.get_layer("covariance").axis == axis


@pytest.mark.parametrize(
    "options",
    [
        {"renorm": True},
        {"renorm": True, "renorm_clipping": {"rmax": 2.0, "rmin": 0.5, "dmax": 1.0}},
        {"epsilon": 1e-7},
        {"dtype": "float64"},
        {"axis": 1},
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_every_argument_of_batch_normalization_works_as_in_keras(options, compiled):
    x = np.random.default_rng(0).normal(1, 3, (8, 4, 4, 4)).astype(options.get("dtype", "float32"))
    results = []
    for kind in (keras.layers.BatchNormalization, FusedBatchNormalization):
        inputs = keras.Input((4, 4, 4), dtype=str(x.dtype))
        model = keras.Model(inputs, kind(**options)(inputs))
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=compiled and BACKEND != "torch")
        model.fit(x, 2 * x, batch_size=4, shuffle=False, epochs=2, verbose=0)
        results.append([*model.get_weights(), model.predict(x, verbose=0)])
    for expected, result in zip(*results, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4)
