"""Gradient centralization finds the right axes in models of every form, also after loading."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerasfer.optimizers import GCSGD, GCAdam, centralization_axes

pytestmark = pytest.mark.usefixtures("seed")

BACKEND = keras.backend.backend()
PICTURES = np.random.default_rng(0).uniform(0, 1, (8, 6, 6, 3)).astype("float32")
TARGETS = np.random.default_rng(1).standard_normal((8, 2)).astype("float32")
# The axes of the kernels of `stack()`, in the order of the model's layers.
AXES = [(0, 1, 2), (0, 1), (0,)]
ZERO = 5e-4  # Rounding of the weights; without centralization the means are above 0.01.


def stack():
    return [
        layers.Conv2D(4, 3, name="conv"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.Flatten(name="flatten"),
        layers.Dense(2, name="scores"),
    ]


@keras.saving.register_keras_serializable(package="kerasfer_tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = stack()

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


@keras.saving.register_keras_serializable(package="kerasfer_tests")
class Outer(keras.Model):
    """Nests a model, and uses the name `conv` twice for kernels of different kinds."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.before = keras.Sequential([layers.DepthwiseConv2D(1, name="conv")], name="before")
        self.inner = keras.Sequential(stack(), name="inner")

    def call(self, x):
        return self.inner(self.before(x))


def sequential():
    return keras.Sequential([keras.Input((6, 6, 3)), *stack()])


def functional():
    inputs = keras.Input((6, 6, 3))
    outputs = inputs
    for layer in stack():
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def nested():
    inputs = keras.Input((6, 6, 3))
    return keras.Model(inputs, keras.Sequential([sequential(), layers.Activation("tanh")])(inputs))


def shared():
    inputs = keras.Input((6, 6, 3))
    inner = sequential()
    return keras.Model(inputs, layers.Add()([inner(inputs), inner(inputs * inputs)]))


MODELS = {
    "sequential": sequential,
    "lazy": lambda: keras.Sequential(stack()),
    "subclassed": Subclassed,
    "functional": functional,
    "nested": nested,
    "shared": shared,
    "outer": Outer,
}


def kernels(model):
    """The kernels of `stack()` inside of any of the models."""
    return [v for v in model.trainable_variables if v.name == "kernel" and v.shape[1:] != (1, 3, 1)]


def largest_means(model):
    """Trains for a step and returns the largest mean of each kernel's update over its axes."""
    before = [ops.convert_to_numpy(kernel) for kernel in kernels(model)]
    model.fit(PICTURES, TARGETS, batch_size=8, verbose=0)
    moved = [
        ops.convert_to_numpy(kernel) - old
        for kernel, old in zip(kernels(model), before, strict=True)
    ]
    assert all(np.abs(update).max() > 1e-5 for update in moved)
    return [
        np.abs(update.mean(axis=axes)).max() / np.abs(update).max()
        for update, axes in zip(moved, AXES, strict=True)
    ]


def test_without_centralization_the_means_are_large():
    model = sequential()
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    assert min(largest_means(model)) > 0.01


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("explicit", [False, True])
def test_loading_keeps_the_axes(kind, explicit, tmp_path):
    model = MODELS[kind]()
    model(PICTURES)
    axes = centralization_axes(model) if explicit else None
    model.compile(GCSGD(0.1, momentum=0.9, axes=axes), "mse", jit_compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert max(largest_means(model)) < ZERO
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        # Not the model that was saved: its layers, of the same names, would be found as well.
        del model
        assert max(largest_means(loaded)) < ZERO
    assert isinstance(loaded.optimizer, GCSGD)


@pytest.mark.parametrize("explicit", [False, True])
def test_a_model_that_was_saved_before_its_first_step(explicit, tmp_path):
    model = Subclassed()
    model(PICTURES)
    axes = centralization_axes(model) if explicit else None
    model.compile(GCAdam(0.1, location="update", axes=axes), "mse", jit_compile=False)
    model.save(tmp_path / "model.keras")
    assert max(largest_means(keras.saving.load_model(tmp_path / "model.keras"))) < ZERO


@pytest.mark.parametrize("kind", ["sequential", "functional", "nested", "shared"])
@pytest.mark.parametrize("explicit", [False, True])
def test_cloning_keeps_the_axes(kind, explicit):
    model = MODELS[kind]()
    axes = centralization_axes(model) if explicit else None
    model.compile(GCSGD(0.1, axes=axes), "mse", jit_compile=False)
    largest_means(model)
    cloned = keras.models.clone_model(model)
    if not cloned.compiled:
        cloned.compile(GCSGD.from_config(model.optimizer.get_config()), "mse", jit_compile=False)
    assert max(largest_means(cloned)) < ZERO


@pytest.mark.skipif(BACKEND == "torch", reason="torch does not compile its steps by default.")
@pytest.mark.parametrize("location", ["gradient", "update"])
def test_compiled(location):
    model = sequential()
    model.compile(GCSGD(0.1, momentum=0.9, location=location), "mse", jit_compile=True)
    assert max(largest_means(model)) < ZERO


def test_a_stray_kernel_is_not_taken_for_another():
    # Both layers' kernels are (3, 3, 1, 1), at the same path: only the layer tells them apart.
    inputs = keras.Input((6, 6, 1))
    depthwise, conv = layers.DepthwiseConv2D(3, name="x"), layers.Conv2D(1, 3, name="x")
    inner = keras.Input((6, 6, 1))
    x = keras.Model(inner, depthwise(inner), name="inner")(inputs)
    model = keras.Model(inputs, conv(x), name="outer")
    optimizer = GCSGD(0.1)
    optimizer.build(model.trainable_variables)
    assert depthwise.kernel.path == conv.kernel.path
    found = {id(v): a for v, a in zip(model.trainable_variables, optimizer._mean_axes, strict=True)}
    assert found[id(depthwise.kernel)] == (0, 1) and found[id(conv.kernel)] == (0, 1, 2)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: layers.Dense(1), (1,)),
        (lambda: layers.Conv2D(3, 1), (4, 4, 1)),
        (lambda: layers.DepthwiseConv2D(1), (4, 4, 3)),
        (lambda: layers.Conv1D(2, 1), (4, 1)),
    ],
)
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("location", ["gradient", "update"])
def test_a_mean_over_a_single_element_is_not_subtracted(layer, shape, explicit, location):
    model = keras.Sequential([keras.Input(shape), layer(), layers.Flatten(), layers.Dense(1)])
    axes = centralization_axes(model) if explicit else None
    kernel = model.trainable_variables[0]
    before = ops.convert_to_numpy(kernel)
    model.compile(GCSGD(0.1, axes=axes, location=location), "mse")
    model.fit(np.ones((2, *shape), "float32"), np.full((2, 1), 10.0), verbose=0)
    assert np.abs(ops.convert_to_numpy(kernel) - before).min() > 1e-3


def test_low_rank_adapters_are_left_alone():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, name="a"), layers.Dense(2, name="b")], name="m"
    )
    model.layers[0].enable_lora(2)
    assert centralization_axes(model) == {"m/a/kernel": (0,), "m/b/kernel": (0,)}
    variables = model.trainable_variables
    gradients = [ops.ones(variable.shape) for variable in variables]
    before = [ops.convert_to_numpy(variable) for variable in variables]
    GCSGD(1.0).apply(gradients, variables)
    for variable, old in zip(variables, before, strict=True):
        # Ones are all mean. The last kernel is centralized, and the adapter's factors are not.
        expected = 0 if variable.name == "kernel" else -1
        moved = ops.convert_to_numpy(variable) - old
        np.testing.assert_allclose(moved, expected, atol=1e-5, err_msg=variable.path)
    assert sum("lora" in variable.name for variable in variables) == 2


def test_an_unbuilt_model_is_an_error():
    model = keras.Sequential(stack(), name="lazy")
    with pytest.raises(ValueError, match=r"must be built.*named 'lazy'. Call it on a batch, or"):
        centralization_axes(model)


def test_variables_without_a_layer():
    kernel = keras.Variable(np.ones((4, 3), "float32"), name="kernel")
    optimizer = GCSGD(0.5)
    with pytest.warns(UserWarning, match="GCSGD centralizes no gradient, because none of its var"):
        optimizer.apply([ops.ones((4, 3))], [kernel])
    np.testing.assert_allclose(ops.convert_to_numpy(kernel), 0.5)


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="Other backends have no variables of their own."
)
@pytest.mark.parametrize("compiled", [False, True])
def test_variables_of_tensorflow(compiled):
    import tensorflow as tf

    for axes, expected in ((None, 0.5), ({"w": (0,)}, 1.0)):
        w, optimizer = tf.Variable(tf.ones((4, 3)), name="w"), GCSGD(0.5, axes=axes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer.build([w])
        step = tf.function(optimizer.apply, jit_compile=compiled)
        step([tf.ones((4, 3))], [w])
        np.testing.assert_allclose(w.numpy(), expected)


def test_paths_that_match_nothing_are_a_warning():
    model = functional()
    optimizer = GCSGD(0.1, axes={"conv/kernel": (0, 1, 2), "cnov/kernel": (0, 1, 2)})
    with pytest.warns(UserWarning, match="no variable with these paths, .* lists: cnov/kernel. Le"):
        optimizer.build(model.trainable_variables)


def test_frozen_kernels_are_no_warning():
    model = functional()
    axes = centralization_axes(model)
    model.get_layer("conv").trainable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GCSGD(0.1, axes=axes).build(model.trainable_variables)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"scores/kernel": (0, 1, 2)}, r"axes of scores/kernel must be between 0 and 1. .*\(0, 1"),
        ({"a/w": (0,), "b/w": (1,)}, "distinguish the variables. Received: a/w and b/w with diff"),
    ],
)
def test_axes_that_do_not_fit_are_errors(axes, message):
    variables = [*functional().trainable_variables, keras.Variable(np.ones((2, 2)), name="w")]
    with pytest.raises(ValueError, match=message):
        GCSGD(0.1, axes=axes).build(variables)
