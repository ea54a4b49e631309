import keras
import numpy as np
import pytest
from keras import layers

from kerasfer.errors import RecipeError
from kerasfer.models import MODELS, build_model, covpool, make_backbone, obsr, spd_attention
from kerasfer.optimizers import GCSGD, centralization_axes

pytestmark = pytest.mark.usefixtures("seed")

NAMES = ("angry", "happy", "sad")


def pictures(count=2, side=32):
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype("float32")


def tiny_backbone(side=32):
    """A feature extractor of a moment: the models around it are what is tested."""
    inputs = keras.Input((side, side, 3))
    x = layers.Conv2D(6, 3, strides=4, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    return keras.Model(inputs, layers.Conv2D(8, 3, strides=2, padding="same", name="last")(x))


def check_model(model, folder, side=32):
    """Builds → probabilities → one step → saved → the same probabilities."""
    x, y = pictures(side=side), np.eye(3, dtype="float32")[[0, 2]]
    assert model.input_shape == (None, side, side, 3)
    assert model.output_shape == (None, 3)
    assert model.layers[-1].class_names == NAMES
    before = model.get_weights()
    # Two pictures of 1 × 1 make batch norm's gradients huge.
    optimizer = GCSGD(1.0, clipnorm=1e-3, axes=centralization_axes(model))
    optimizer.build(model.trainable_variables)  # TensorFlow else traces the step twice
    model.compile(optimizer, "categorical_crossentropy")
    history = model.fit(x, y, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = model.get_weights()
    assert all(np.isfinite(weight).all() for weight in after)
    assert any(np.any(new != old) for new, old in zip(after, before, strict=True))
    probabilities = model.predict(x, verbose=0)
    assert probabilities.dtype == "float32"
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    model.save(folder / "model.keras")
    again = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), probabilities)
    assert again.layers[-1].class_names == NAMES


# Their tracing takes most of a minute; `test_networks.py` and `test_res_masking.py` build them.
LARGE = {
    "densenet121",
    "inception_resnet_v1",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "res_masking",
    "vgg19",
}


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LARGE])
def test_every_model(name, tmp_path):
    # The costly ones on a smaller backbone; `test_weights.py` builds them in full.
    smaller = {
        "alexnet": {"stem": "small"},
        "classifier": {"backbone": tiny_backbone()},
        "obsr": {"backbone": "resnet18", "shared": True},
        "slim_spd": {"width": 8, "method": "eigh"},
        "spd_attention": {"crops": 1},
    }
    check_model(build_model(name, NAMES, 32, **smaller.get(name, {})), tmp_path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("classifier", {"dropout": 0.5, "frozen": True}),
        ("obsr", {"dropout": 0.5}),
        ("obsr", {"frozen": True, "shared": True}),
        ("spd_attention", {"method": "matmul", "bimap_units": 2, "normalize": True, "crops": 2}),
        ("spd_attention", {"axis": "channel", "crop_mode": "fixed"}),
    ],
)
def test_options_of_a_custom_backbone(name, options, tmp_path):
    model = build_model(name, NAMES, 32, backbone=tiny_backbone(), **options)
    kernels = [weight.path for weight in model.trainable_weights]
    assert any("last" in path for path in kernels) != options.get("frozen", False)
    check_model(model, tmp_path)


def test_two_extractors_are_two_or_one():
    two = obsr(NAMES, 32, backbone=tiny_backbone())
    one = obsr(NAMES, 32, backbone=tiny_backbone(), shared=True)
    extractor = sum(np.prod(weight.shape) for weight in tiny_backbone().weights)
    assert two.count_params() - one.count_params() == extractor
    # The second begins as a copy of the first; bilinear pooling of both is then symmetric.
    a, b = two.get_layer("extractor_a"), two.get_layer("extractor_b")
    for first, second in zip(a.weights, b.weights, strict=True):
        assert first is not second
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(first), keras.ops.convert_to_numpy(second)
        )


def test_random_extractors_differ():
    model = obsr(NAMES, 32, backbone="resnet18")
    a, b = (model.get_layer(name).get_weights()[0] for name in ("extractor_a", "extractor_b"))
    assert np.abs(a - b).max() > 0.01


def test_spd_attention_adds_its_penalty():
    def losses(weight):
        model = spd_attention(NAMES, 32, backbone=tiny_backbone(), logreg_weight=weight)
        model(pictures())
        return [keras.ops.convert_to_numpy(loss) for loss in model.losses]

    assert losses(0.0) == []
    assert len(losses(1e-3)) == 1 and losses(1e-3)[0] > 0


def test_spd_attention_reads_another_stage():
    model = spd_attention(NAMES, 32, feature_stage="P4", crops=1)
    assert model.get_layer("backbone").output_shape == [(None, 2, 2, 256), (None, 1, 1, 512)]
    assert model.get_layer("spd_attention").bimap.units == 2
    assert model.predict(pictures(), verbose=0).shape == (2, 3)


def test_covpool_reads_the_covariance_of_144_places():
    model = covpool(NAMES)
    assert model.get_layer("covariance").input.shape == (None, 12, 12, 256)
    assert model.get_layer("log_eig").output.shape == (None, 128, 128)


def test_covpool_reads_the_covariance_of_any_network():
    model = covpool(NAMES, 32, 16, backbone="efficientnet_lite0_stride16", frozen=True)
    assert model.get_layer("covariance").input.shape == (None, 2, 2, 112)
    assert model.get_layer("log_eig").output.shape == (None, 16, 16)
    assert model.predict(pictures(), verbose=0).shape == (2, 3)
    trained = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert trained == {"bimap", "dense_1", "dense_2", "logits"}
    # Pixels are scaled as the network expects, not as a ResNet does.
    scale = model.get_layer("preprocessing").scale
    assert scale == [1 / 128] * 3


def test_pictures_are_scaled_as_imagenet_expects():
    model = build_model("classifier", NAMES, 32, backbone=tiny_backbone())
    color = np.array([255 * 0.485, 255 * (0.456 + 0.224), 0], "float32")
    x = model.get_layer("preprocessing")(np.tile(color, (1, 32, 32, 1)))
    expected = [0, 1, -0.406 / 0.225]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(x)[0, 0, 0], expected, atol=1e-5)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = spd_attention(NAMES, 32, backbone=tiny_backbone(), crops=2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("spd_attention").log_eig.compute_dtype == "float32"
    assert model.get_layer("backbone").outputs[0].dtype == "float16"
    model.compile("sgd", "categorical_crossentropy")
    y = np.eye(3, dtype="float32")[[0, 2]]
    assert np.isfinite(model.fit(pictures(), y, verbose=0).history["loss"]).all()
    np.testing.assert_allclose(model.predict(pictures(), verbose=0).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, r"model.name must be one of alexnet, .*'resnet81'. Did you mean resnet"),
        ("transformer", {}, r"model.name must be one of .* Received: 'transformer'\.$"),
        ("covpool", {"crops": 2}, "covpool does not take model.crops; it takes bimap_units, "),
        ("covpool", {"stem": "small"}, "belong to a `backbone`, which is None. .* stem='small'"),
        ("covpool", {"bimap_units": 257}, r"covpool cannot be built: .* units=257"),
        ("spd_attention", {"bimap_units": 9}, r"spd_attention cannot be built: .* units=9"),
        ("spd_attention", {"axis": "time"}, "cannot be built: `axis` must be 'spatial' or"),
        ("spd_attention", {"crops": 7}, "cannot be built: `crops` must be from 1 to 5"),
        ("resnet18", {"stem": "tiny"}, "`stem` must be one of imagenet, half, small. .*'tiny'"),
        ("obsr", {"backbone": "resnet50"}, "`backbone` must be one of resnet18, resnet34.*resnet5"),
        ("spd_attention", {"feature_stage": "P6"}, "`stage` must be one of P2, .* Received: 'P6'"),
    ],
)
def test_invalid_options_raise_a_recipe_error(name, options, message):
    with pytest.raises(RecipeError, match=message) as error:
        build_model(name, NAMES, 32, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stem", "side", "shapes"),
    [
        ("imagenet", 224, [(56, 64), (28, 128), (14, 256), (7, 512)]),
        ("half", 48, [(24, 64), (12, 128), (6, 256), (3, 512)]),
        ("small", 48, [(48, 64), (24, 128), (12, 256), (6, 512)]),
    ],
)
def test_stages_of_the_stems(stem, side, shapes):
    model = make_backbone("resnet18", side, stem=stem, stages=("P2", "P3", "P4", "P5"))
    assert model.output_shape == [(None, size, size, width) for size, width in shapes]


def test_a_model_is_taken_as_it_is():
    own = tiny_backbone()
    taken = make_backbone(own, 32, stages=("P5", "P5"), name="mine")
    assert taken.name == "mine"
    expected = own.predict(pictures(), verbose=0)
    for output in taken.predict(pictures(), verbose=0):
        np.testing.assert_array_equal(output, expected)
    for options in ({"weights": "imagenet"}, {"stem": "small"}, {"stages": ("P4",)}):
        with pytest.raises(ValueError, match="is used as it is, up to its output P5. Received:"):
            make_backbone(own, 32, **options)
