import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerasfer.layers import BiMap
from kerasfer.optimizers import GCSGD, GCAdam, GCAdamW, GCRMSprop, centralization_axes

pytestmark = pytest.mark.usefixtures("seed")

PAIRS = {
    GCSGD: keras.optimizers.SGD,
    GCAdam: keras.optimizers.Adam,
    GCAdamW: keras.optimizers.AdamW,
    GCRMSprop: keras.optimizers.RMSprop,
}

# What centralization_axes must say of `every_kernel()`, by the rules of its docstring.
AXES = {
    "conv/kernel": (0, 1, 2),
    "depthwise/kernel": (0, 1),
    "transposed/kernel": (0, 1, 2),
    "separable/depthwise_kernel": (0, 1),
    "separable/pointwise_kernel": (0, 1, 2),
    "conv1d/kernel": (0, 1),
    "attention/query/kernel": (0,),
    "attention/key/kernel": (0,),
    "attention/value/kernel": (0,),
    "attention/attention_output/kernel": (0, 1),
    "dense/kernel": (0,),
}


def every_kernel():
    pictures = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(pictures)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2DTranspose(5, 2, name="transposed")(x)
    x = layers.SeparableConv2D(6, 3, name="separable")(x)
    x = layers.Reshape((-1, 6))(x)
    x = layers.Conv1D(6, 1, name="conv1d")(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    words = keras.Input((9,), dtype="int32")
    x = layers.Concatenate()([x, layers.Embedding(10, 2, name="embedding")(words)])
    x = ops.matmul(ops.transpose(x, (0, 2, 1)), x)
    x = layers.Flatten()(BiMap(3, name="bimap")(x))
    return keras.Model([pictures, words], layers.Dense(2, name="dense")(x))


def updates(optimizer, variables, gradients):
    before = [ops.convert_to_numpy(variable) for variable in variables]
    optimizer.apply_gradients(zip(map(ops.convert_to_tensor, gradients), variables, strict=True))
    return {
        variable.path: ops.convert_to_numpy(variable) - old
        for variable, old in zip(variables, before, strict=True)
    }


def random_gradients(variables):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(v.shape) + 1).astype("float32") for v in variables]


def relative_mean(update, axes):
    return np.abs(update.mean(axis=axes)).max() / np.abs(update).max()


@pytest.fixture
def model():
    return every_kernel()


def test_axes_of_every_kind_of_kernel(model):
    assert centralization_axes(model) == AXES


@pytest.mark.parametrize("optimizer", PAIRS)
@pytest.mark.parametrize("location", ["gradient", "update"])
def test_the_first_update_has_zero_mean_per_output_unit(model, optimizer, location):
    variables, axes = model.trainable_variables, centralization_axes(model)
    start = model.get_weights()
    gradients = random_gradients(variables)
    moved = updates(
        optimizer(0.1, axes=axes, location=location, weight_decay=0.0), variables, gradients
    )
    model.set_weights(start)
    plain = updates(PAIRS[optimizer](0.1, weight_decay=0.0), variables, gradients)
    for path, update in moved.items():
        if path not in axes:
            # Biases, normalizations, embeddings and Stiefel kernels are updated as usual.
            np.testing.assert_allclose(update, plain[path], atol=1e-6)
            continue
        assert np.abs(update - plain[path]).max() > 1e-3, path
        # Adam and RMSprop divide by each entry's own size, which undoes the mean of the gradient.
        if optimizer is GCSGD or location == "update":
            assert relative_mean(update, axes[path]) < 1e-5, path
    assert len(moved) > len(axes)


@pytest.mark.parametrize(
    ("optimizer", "location", "options"),
    [
        (GCSGD, "gradient", {"momentum": 0.9}),
        (GCSGD, "update", {"momentum": 0.9, "nesterov": True}),
        (GCAdam, "update", {}),
        (GCAdam, "update", {"amsgrad": True}),
        (GCRMSprop, "update", {"momentum": 0.9}),
    ],
)
def test_the_mean_stays_zero_over_several_steps(optimizer, location, options):
    kernel = keras.Variable(np.zeros((4, 3), "float32"), name="kernel")
    made = optimizer(0.1, axes={kernel.path: (0,)}, location=location, **options)
    for step in range(4):
        gradient = np.random.default_rng(step).standard_normal((4, 3)) + 1
        updates(made, [kernel], [gradient.astype("float32")])
    assert relative_mean(ops.convert_to_numpy(kernel), (0,)) < 1e-5


@pytest.mark.parametrize(("optimizer", "location"), [(GCSGD, "gradient"), (GCAdam, "update")])
def test_fit_keeps_each_units_mean(model, optimizer, location):
    axes = centralization_axes(model)
    variables = [v for v in model.trainable_variables if v.path in axes]
    before = [ops.convert_to_numpy(variable) for variable in variables]
    model.compile(optimizer(0.01, axes=axes, location=location), "mse")
    rng = np.random.default_rng(0)
    x = [rng.uniform(0, 1, (8, 6, 6, 3)).astype("float32"), rng.integers(0, 10, (8, 9))]
    model.fit(x, rng.standard_normal((8, 2)).astype("float32"), batch_size=4, verbose=0)
    for variable, old in zip(variables, before, strict=True):
        moved = ops.convert_to_numpy(variable) - old
        # An attention does not depend on a shift of all keys, so their gradient is almost 0.
        assert np.abs(moved).max() > 1e-6 or "key" in variable.path, variable.path
        assert np.abs(moved.mean(axis=axes[variable.path])).max() < 1e-6, variable.path


@pytest.mark.parametrize("location", ["gradient", "update"])
def test_adams_first_moment(model, location):
    axes = centralization_axes(model)
    optimizer = GCAdam(0.1, axes=axes, location=location)
    updates(optimizer, model.trainable_variables, random_gradients(model.trainable_variables))
    for variable, moment in zip(model.trainable_variables, optimizer._momentums, strict=True):
        if variable.path in axes:
            mean = relative_mean(ops.convert_to_numpy(moment), axes[variable.path])
            assert (mean < 1e-5) == (location == "gradient"), variable.path


def test_decoupled_decay_stays_outside():
    kernel = keras.Variable(np.ones((4, 3), "float32"), name="kernel")
    axes = {kernel.path: (0,)}
    for location in ("gradient", "update"):
        kernel.assign(np.ones((4, 3)))
        optimizer = GCAdamW(0.1, weight_decay=0.5, axes=axes, location=location)
        # A constant gradient is all mean: the decay alone is left, 1 - 0.1 · 0.5.
        updates(optimizer, [kernel], [np.ones((4, 3), "float32")])
        np.testing.assert_allclose(ops.convert_to_numpy(kernel), 0.95, rtol=1e-5)


def test_l2_regularisers_are_part_of_the_gradient():
    inputs = keras.Input((4,))
    dense = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(1.0), name="dense")
    model = keras.Model(inputs, dense(inputs))
    dense.kernel.assign(np.arange(12, dtype="float32").reshape(4, 3))
    model.compile(GCSGD(0.1, axes=centralization_axes(model)), "mse")
    x = np.zeros((2, 4), "float32")
    model.fit(x, np.zeros((2, 3), "float32"), verbose=0)
    kernel = np.arange(12).reshape(4, 3)
    expected = kernel - 0.1 * 2 * (kernel - kernel.mean(axis=0))
    np.testing.assert_allclose(ops.convert_to_numpy(dense.kernel), expected, rtol=1e-5)


@pytest.mark.parametrize("optimizer", PAIRS)
def test_without_axes_the_layers_decide(model, optimizer):
    variables, gradients = model.trainable_variables, random_gradients(model.trainable_variables)
    start = model.get_weights()
    options = {"location": "update", "weight_decay": 0.0}
    moved = updates(optimizer(0.1, **options), variables, gradients)
    model.set_weights(start)
    axes = centralization_axes(model)
    explicit = updates(optimizer(0.1, axes=axes, **options), variables, gradients)
    for path, update in explicit.items():
        np.testing.assert_allclose(moved[path], update, atol=1e-6, err_msg=path)
        assert path not in axes or relative_mean(update, axes[path]) < 1e-5, path


def test_stiefel_kernels_are_left_alone_even_where_axes_name_them(model):
    (bimap,) = model.get_layer("bimap").trainable_weights
    gradients = random_gradients([bimap])
    start = ops.convert_to_numpy(bimap)
    for axes in (None, {bimap.path: (0,)}):
        bimap.assign(start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # None of its variables is a kernel.
            centralized = updates(GCSGD(0.1, axes=axes), [bimap], gradients)
        bimap.assign(start)
        plain = updates(keras.optimizers.SGD(0.1), [bimap], gradients)
        np.testing.assert_allclose(centralized[bimap.path], plain[bimap.path], atol=1e-6)


def test_conv_only(model):
    axes = centralization_axes(model)
    variables, gradients = model.trainable_variables, random_gradients(model.trainable_variables)
    for known in (axes, None):
        moved = updates(GCSGD(0.1, axes=known, conv_only=True), variables, gradients)
        assert relative_mean(moved["conv/kernel"], (0, 1, 2)) < 1e-5
        for path in ("dense/kernel", "attention/query/kernel", "conv1d/kernel"):
            assert relative_mean(moved[path], axes[path]) > 1e-2


@pytest.mark.parametrize("optimizer", PAIRS)
def test_as_a_keras_optimizer(optimizer):
    axes = {"dense/kernel": (0,)}
    made = optimizer(0.02, axes=axes, conv_only=True, location="update", clipnorm=1.0, use_ema=True)
    config = made.get_config()
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert type(again) is optimizer and again.get_config() == config
    assert (again.axes, again.conv_only, again.location) == (axes, True, "update")
    assert optimizer.from_config(optimizer().get_config()).axes is None


def test_saved_in_a_model(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, name="dense")(inputs))
    axes = centralization_axes(model)
    model.compile(GCAdamW(0.01, axes=axes, location="update"), "mse")
    x, y = np.random.default_rng(0).standard_normal((2, 8, 4)).astype("float32")
    model.fit(x, y[:, :3], verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, GCAdamW)
    assert again.optimizer.axes == axes == {"dense/kernel": (0,)}
    # It continues as if it had not been saved.
    for trained in (model, again):
        trained.fit(x, y[:, :3], verbose=0)
    for loaded, kept in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(loaded, kept, rtol=1e-6)


def test_mixed_precision_with_loss_scaling():
    inputs = keras.Input((4,))
    dense = layers.Dense(3, dtype="mixed_float16", name="dense")
    model = keras.Model(inputs, dense(inputs))
    axes = centralization_axes(model)
    before = ops.convert_to_numpy(dense.kernel)
    optimizer = keras.optimizers.LossScaleOptimizer(GCSGD(0.1, axes=axes))
    model.compile(optimizer, "mse")
    x, y = np.random.default_rng(0).standard_normal((2, 8, 4)).astype("float32")
    model.fit(x, y[:, :3], verbose=0)
    moved = ops.convert_to_numpy(dense.kernel) - before
    assert np.abs(moved).max() > 1e-4
    assert np.abs(moved.mean(axis=0)).max() < 1e-6


def test_kernels_of_one_path_must_agree():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 1, name="same")(inputs)
    inner = keras.Input((4, 4, 2))
    nested = keras.Model(inner, layers.DepthwiseConv2D(1, name="same")(inner))
    model = keras.Model(inputs, nested(x))
    with pytest.raises(ValueError, match="same path. Received: two kernels at 'same/kernel'"):
        centralization_axes(model)


def test_unknown_locations_are_errors():
    with pytest.raises(ValueError, match="must be 'gradient' or 'update'. Received: .*'moment'"):
        GCAdam(location="moment")
