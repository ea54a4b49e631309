"""The networks other than ResNets: their structure, and the loading of published weights."""

import h5py
import keras
import numpy as np
import pytest

from kerasfer.errors import RecipeError, RunError
from kerasfer.models import MODELS, build_model, make_backbone
from kerasfer.models.networks import NETWORKS

pytestmark = pytest.mark.usefixtures("seed", "offline")

APPLICATIONS = {
    "densenet121": ("DenseNet121", keras.applications.densenet),
    "mobilenet_v3_small": ("MobileNetV3Small", keras.applications.mobilenet_v3),
    "vgg16": ("VGG16", keras.applications.vgg16),
}


def pictures(count=2, side=32):
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype("float32")


@pytest.mark.parametrize(
    ("name", "side", "parameters", "shape"),
    [
        # As published: by keras.applications, torchvision (AlexNet), FaceNet's Keras users and the
        # authors of EfficientNet; its cut form lacks 1,280,768 parameters of its end, and the form
        # with a stride of 16 lacks 2,696,096.
        ("alexnet", 224, 2_469_696, (6, 6, 256)),
        ("densenet121", 64, 7_037_504, (2, 2, 1024)),
        ("efficientnet_lite0", 64, 3_413_024, (2, 2, 1280)),
        ("efficientnet_lite0_cut", 64, 2_132_256, (2, 2, 1152)),
        ("efficientnet_lite0_stride16", 64, 716_928, (4, 4, 112)),
        ("inception_resnet_v1", 160, 22_578_384, (3, 3, 1792)),
        ("mobilenet_v3_large", 64, 2_996_352, (2, 2, 960)),
        ("mobilenet_v3_small", 64, 939_120, (2, 2, 576)),
        ("vgg16", 48, 14_714_688, (1, 1, 512)),
        ("vgg19", 48, 20_024_384, (1, 1, 512)),
    ],
)
def test_structure(name, side, parameters, shape):
    model = make_backbone(name, side, name="backbone")
    assert model.name == "backbone"
    assert model.count_params() == parameters
    assert model.input_shape == (None, side, side, 3)
    assert model.output_shape == (None, *shape)


def test_each_is_a_model_too():
    assert set(NETWORKS) <= set(MODELS)


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "inception_resnet_v1"])
def test_the_large_ones_give_probabilities(name):
    side = min(NETWORKS[name].smallest.values())
    model = build_model(name, ("a", "b", "c"), side, dropout=0.5)
    assert model.layers[-1].class_names == ("a", "b", "c")
    probabilities = keras.ops.convert_to_numpy(model(pictures(side=side)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def varied(model):
    """Gives a model random weights that a permutation or a wrong scale would betray."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        # Zeros and ones, as biases and norms begin, would look right anywhere.
        layer.set_weights(
            [
                w if w.ndim > 1 else rng.uniform(0.5, 1.5, w.shape).astype("float32")
                for w in layer.get_weights()
            ]
        )
    return model


def write_as_published(model, path):
    """Writes the form in which Keras has published weights since its first version."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value


@pytest.mark.parametrize(
    ("name", "ending"),
    [("vgg16", ".weights.h5"), ("mobilenet_v3_small", ".h5"), ("densenet121", ".h5")],
)
def test_features_with_a_file_of_weights_equal_those_of_keras(name, ending, tmp_path):
    function, module = APPLICATIONS[name]
    published = getattr(keras.applications, function)(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    varied(published)
    path = tmp_path / f"{name}{ending}"
    if ending == ".h5":
        write_as_published(published, path)
    else:
        published.save_weights(path)
    x = pictures()
    expected = keras.ops.convert_to_numpy(published(module.preprocess_input(x.copy())))
    model = build_model(name, ("a", "b"), 32, weights=str(path), frozen=True)
    assert not model.get_layer("backbone").trainable_weights
    scaled = model.get_layer("preprocessing")(x)
    maps = keras.ops.convert_to_numpy(model.get_layer("backbone")(scaled))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(maps, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["alexnet", "inception_resnet_v1"])
def test_a_network_loads_its_own_weights(name, tmp_path):
    side = NETWORKS[name].smallest["imagenet"]
    first = varied(make_backbone(name, side))
    first.save_weights(tmp_path / "own.weights.h5")
    again = make_backbone(name, side, weights=str(tmp_path / "own.weights.h5"))
    for new, old in zip(again.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_alexnet_has_a_small_stem():
    model = make_backbone("alexnet", 48, stem="small")
    assert model.output_shape == (None, 11, 11, 256)
    assert model.layers[1].kernel.shape == (3, 3, 3, 64)
    assert build_model("alexnet", ("a", "b"), 48, stem="small").output_shape == (None, 2)


@pytest.mark.parametrize("name", ["obsr", "spd_attention"])
def test_the_papers_models_take_them(name):
    options = {"obsr": {"shared": True}, "spd_attention": {"crops": 1}}[name]
    model = build_model(name, ("a", "b"), 64, backbone="vgg16", **options)
    # Each with its own scale: VGG's leaves the pixels' deviation alone.
    assert model.get_layer("preprocessing").scale == [1.0, 1.0, 1.0]
    assert model(pictures(side=64)).shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "side", "options", "message"),
    [
        ("vgg16", 31, {}, "vgg16 needs pictures of at least 32 px.*Received: image_size=31.$"),
        ("alexnet", 48, {}, "at least 63 px: .* Or take `stem` small. Received: image_size=48"),
        ("inception_resnet_v1", 48, {}, "at least 75 px: raise data.image_size, pictures are enl"),
        ("vgg19", 48, {"stem": "small"}, "vgg19 does not take model.stem; it takes weights, "),
        (
            "classifier",
            48,
            {"backbone": "vgg19", "stem": "small"},
            "`stem` of vgg19 must be imagenet. Received: 'small'",
        ),
        (
            "spd_attention",
            48,
            {"backbone": "densenet121", "feature_stage": "P4"},
            "EfficientNet-Lite have the stages P2, .*; of densenet121 take P5, .* Received: P4, P5",
        ),
    ],
)
def test_invalid_options_raise_a_recipe_error(name, side, options, message):
    with pytest.raises(RecipeError, match=message) as error:
        build_model(name, ("a", "b"), side, **options)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("error::UserWarning")
def test_files_that_do_not_fit_are_run_errors(tmp_path):
    path = tmp_path / "other.weights.h5"
    make_backbone("alexnet", 63).save_weights(path)
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:1000])
    (tmp_path / "model.safetensors").write_bytes(b"")
    for weights, message in (
        (path, "The weights of vgg16 without its classifier could not be loaded from .*other.w"),
        (tmp_path / "cut.h5", "could not be loaded from .*cut.h5: "),
        (
            tmp_path / "model.safetensors",
            r"null, imagenet or a file .* \(.h5, .* Received: .*ors\.$",
        ),
        ("./nowhere.h5", r"Received: ./nowhere.h5, which is no file\.$"),
    ):
        with pytest.raises(RunError, match=message) as error:
            make_backbone("vgg16", 32, weights=str(weights))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["alexnet", "inception_resnet_v1"])
def test_without_published_weights_the_error_says_so(name):
    with pytest.raises(RunError, match=f"Keras has no ImageNet weights of {name}: set model.wei"):
        make_backbone(name, 224, weights="imagenet")


@pytest.mark.parametrize("name", ["vgg16", "mobilenet_v3_small"])
@pytest.mark.filterwarnings("error::UserWarning")
def test_without_a_network_the_error_says_what_to_do(name, monkeypatch, tmp_path):
    # Where Keras would find what was downloaded before.
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    message = f"weights of {name} could not be downloaded: URL fetch .* Without a network, set mod"
    with pytest.raises(RunError, match=message) as error:
        build_model(name, ("a", "b"), 48, weights="imagenet")
    assert "\n" not in str(error.value)
