"""Explanations of small models with maps and shares that can be computed by hand."""

import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_models import tiny, tiny_backbone, tiny_spd

from kerasfer.cli import main
from kerasfer.data.samples import Samples, one_hot
from kerasfer.explain import (
    Explanation,
    attention_of_regions,
    enlarge,
    explain,
    heat_map,
    insertion_deletion,
    position_pairs,
    shares_of_places,
)
from kerasfer.explain.faithfulness import random_maps
from kerasfer.explain.figures import plot_explanation, plot_heat_maps
from kerasfer.explain.gradients import NoFeatureMap, cut, to_numpy
from kerasfer.explain.overlays import overlay, overlay_signed
from kerasfer.faces import Face
from kerasfer.layers import Covariance, Vech
from kerasfer.models import obsr
from kerasfer.models.heads import classify
from kerasfer.predict.runtimes import Runtime

NAMES = ("angry", "happy", "sad")
SIZE = 16


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE, 3)).astype("float32")


@pytest.fixture
def classifier(seed):
    return tiny(NAMES, SIZE)


@pytest.fixture
def covariance(seed):
    pictures = keras.Input((SIZE, SIZE, 3))
    x = tiny_backbone(SIZE)(pictures)
    x = Vech()(Covariance(axis="channel", data_format="channels_last")(x))
    return keras.Model(pictures, classify(x, NAMES))


def logits_of(model, images):
    return to_numpy(keras.Model(model.inputs, model.layers[-1].input)([images], training=False))


def test_behind_average_pooling_the_map_is_the_class_activation_map(classifier, images):
    backbone = classifier.get_layer("backbone")
    maps = to_numpy(backbone(classifier.get_layer("preprocessing")(images), training=False))
    kernel = to_numpy(classifier.get_layer("logits").kernel)
    gradients = cut(classifier).gradients(cut(classifier).maps(images), class_index=1)
    np.testing.assert_allclose(
        gradients[0], np.broadcast_to(kernel[:, 1] / 16, maps.shape), atol=1e-6
    )
    expected = np.maximum([enlarge(each @ kernel[:, 1], SIZE, SIZE) for each in maps], 0)
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-12)
    heat = heat_map(classifier, images, 1)
    np.testing.assert_allclose(heat, expected, atol=1e-4)
    np.testing.assert_allclose(heat_map(classifier, images, 1, method="hires_cam"), heat, atol=1e-4)


def test_default_class_is_the_predicted_one(classifier, images):
    predicted = logits_of(classifier, images).argmax(axis=1)
    heat = heat_map(classifier, images)
    assert heat.shape == (3, SIZE, SIZE) and heat.dtype == np.float32
    assert heat.min() >= 0 and heat.max() <= 1
    np.testing.assert_allclose(heat, heat_map(classifier, images, predicted), atol=1e-5)
    for i, target in enumerate((2, 0, 1)):
        alone = heat_map(classifier, images[i : i + 1], target)
        np.testing.assert_allclose(heat_map(classifier, images, (2, 0, 1))[i], alone[0], atol=1e-5)
    with pytest.raises(ValueError, match="`method` must be one of grad_cam, hires_cam"):
        heat_map(classifier, images, method="lime")


def test_covariance_pooling_needs_a_gradient_for_each_place(covariance, images):
    parts = cut(covariance)
    maps = parts.maps(images)
    (gradients,) = parts.gradients(maps, 0)
    assert np.abs(gradients).max() > 1e-4
    assert np.abs(gradients.mean(axis=(1, 2))).max() < 1e-3 * np.abs(gradients).max()
    seen = (gradients * to_numpy(maps[0])).sum(axis=-1)
    expected = np.maximum([enlarge(each, SIZE, SIZE) for each in seen], 0)
    expected /= expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(heat_map(covariance, images, 0), expected, atol=1e-4)


def test_gradients_are_those_of_the_logits(covariance, images):
    """Of a quadratic function, which a covariance is, central differences are exact."""
    parts = cut(covariance)
    (map_,) = parts.maps(images)
    (gradient,) = parts.gradients([map_], (2, 0, 1))
    step = 0.1 / np.abs(gradient).max()
    above, below = (
        to_numpy(parts.back([map_ + sign * step * gradient], training=False)) for sign in (1, -1)
    )
    moved = (above - below)[np.arange(3), (2, 0, 1)]
    np.testing.assert_allclose(moved, 2 * step * (gradient**2).sum(axis=(1, 2, 3)), rtol=1e-2)


def test_both_extractors_are_seen(seed, images):
    model = obsr(NAMES, SIZE, tiny_backbone(SIZE))
    assert [tuple(each.shape) for each in cut(model).maps(images)] == [(3, 4, 4, 8)] * 2
    assert heat_map(model, images).max() == pytest.approx(1)


def test_where_a_nested_model_pools_to_one_place_the_map_before_is_taken(seed, images):
    inner = tiny_backbone(SIZE)
    pooled = keras.layers.MaxPooling2D(4)(inner.output)
    pictures = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Flatten()(keras.Model(inner.input, pooled)(pictures))
    model = keras.Model(pictures, classify(x, NAMES))
    assert cut(model).front.outputs[0].shape[1:] == (4, 4, 8)
    before = to_numpy(model.predict_on_batch(images))
    assert heat_map(model, images).shape == images.shape[:3]
    np.testing.assert_array_equal(to_numpy(model.predict_on_batch(images)), before)


def test_models_without_a_feature_map_are_refused(seed):
    pictures = keras.Input((SIZE, SIZE, 3))
    linear = keras.Model(pictures, classify(keras.layers.Flatten()(pictures), NAMES))
    with pytest.raises(NoFeatureMap, match="has no spatial feature map to explain"):
        cut(linear)
    marks = keras.Input((2,))
    flat = keras.layers.Flatten()(tiny_backbone(SIZE)(pictures))
    both = keras.layers.Concatenate()([flat, marks])
    with pytest.raises(NoFeatureMap, match="has inputs other than pictures"):
        cut(keras.Model([pictures, marks], classify(both, NAMES)))


def test_regions_have_attention_and_a_place(seed, images):
    model = tiny_spd(NAMES, SIZE)
    scores, boxes = attention_of_regions(model, images)
    assert scores.shape == (3, 3)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    side = 0.75**0.5
    expected = [[0, 0, 1, 1], [0, 0, side, side], [1 - side, 0, side, side]]
    np.testing.assert_allclose(boxes, expected, atol=1e-4)
    heat = heat_map(model, images)
    assert heat.shape == (3, SIZE, SIZE)
    assert heat.max() == pytest.approx(1)
    with pytest.raises(ValueError, match="must have exactly one BilinearPool layer"):
        position_pairs(model, images)


@pytest.mark.parametrize("shared", [False, True])
def test_shares_of_places_sum_to_the_logit(seed, images, shared):
    model = obsr(NAMES, SIZE, tiny_backbone(SIZE), shared=shared, dropout=0.5)
    logits = logits_of(model, images)
    bias = np.array([0.5, -1.0, 2.0], "float32")
    model.get_layer("logits").bias.assign(bias)
    for target in range(3):
        pairs = position_pairs(model, images, target)
        assert pairs.shape == (3, 4, 4, 4, 4)
        shares = np.stack([shares_of_places(each) for each in pairs])
        np.testing.assert_allclose(shares.sum(axis=(1, 2)), logits[:, target], atol=1e-4)
        assert shares[0, 1, 2] == pairs[0, 1, 2, 1, 2]
    targets = logits_of(model, images).argmax(axis=1)
    np.testing.assert_allclose(
        position_pairs(model, images), position_pairs(model, images, targets), atol=1e-5
    )


class Corner:
    """Sees class 1 as far as the upper left quarter is white."""

    def predict_on_batch(self, images):
        share = np.asarray(images)[:, :8, :8].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - share, share], axis=1)


def test_good_map_beats_random_and_bad_ones():
    image = np.zeros((SIZE, SIZE, 3), "float32")
    image[:8, :8] = 255
    good = np.zeros((SIZE, SIZE))
    good[:8, :8] = 1
    best = insertion_deletion(Corner(), image, good, steps=4)
    worst = insertion_deletion(Corner(), image, -good, steps=4)
    random = [insertion_deletion(Corner(), image, m, 1) for m in random_maps((4, 4), SIZE, 8)]
    # After a quarter of the pixels all of the white has come, or gone to the mean, 1 / 4.
    np.testing.assert_allclose(best.insertion_curve[1:], 1, atol=1e-3)
    np.testing.assert_allclose(best.deletion_curve, [1, 0.25, 0.25, 0.25, 0.25], atol=1e-3)
    assert best.deletion == pytest.approx(0.25 + 0.75 / 8, abs=1e-3)
    np.testing.assert_allclose(worst.deletion_curve, [1, 1, 1, 1, 0.25], atol=1e-3)
    assert worst.insertion < np.mean([m.insertion for m in random]) < best.insertion
    assert worst.deletion > np.mean([m.deletion for m in random]) > best.deletion


def test_scores_name_wrong_arguments():
    image = np.zeros((SIZE, SIZE, 3), "float32")
    with pytest.raises(
        ValueError, match=r"height and width of the picture. Received: heat.shape=\(4, 4\)"
    ):
        insertion_deletion(Corner(), image, np.zeros((4, 4)))
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        insertion_deletion(Corner(), image, np.zeros((SIZE, SIZE)), steps=0)


def test_random_maps_are_coarse_and_fixed():
    maps = random_maps((2, 3), 12, 4, seed=1)
    assert maps.shape == (4, 12, 12)
    np.testing.assert_array_equal(maps, random_maps((2, 3), 12, 4, seed=1))
    assert np.abs(np.diff(maps, axis=1)).max() < 0.25


def test_overlays():
    picture = np.full((6, 6, 3), (200, 100, 50), "uint8")
    cold = overlay(picture, np.zeros((6, 6)))
    assert (cold == cold[0, 0, 0]).all()  # gray, and nothing else
    heat = np.zeros((6, 6))
    heat[2, 3] = 1
    assert (overlay(picture, heat) != cold).any(axis=-1).sum() == 1
    signed = overlay_signed(picture, heat - np.roll(heat, 1, axis=0)).astype(int)
    assert signed[2, 3, 0] > signed[2, 3, 2]  # orange
    assert signed[3, 3, 2] > signed[3, 3, 0]  # blue
    assert (overlay_signed(picture, np.zeros((6, 6))) == cold).all()


@pytest.mark.parametrize("build", [tiny, tiny_spd, None])
def test_explanations_are_drawn(seed, images, tmp_path, build):
    model = build(NAMES, SIZE) if build else obsr(NAMES, SIZE, tiny_backbone(SIZE))
    (one,) = explain(model, images[:1].astype("uint8"), class_index=2, steps=2)
    assert isinstance(one, Explanation)
    assert (one.label, one.class_index) == ("sad", 2)
    assert one.probability == pytest.approx(float(one.probabilities[2]))
    assert (one.regions is None) == (build is not tiny_spd)
    assert (one.pairs is None) == (build is not None)
    assert len(one.score.insertion_curve) == len(one.random_score.deletion_curve) == 3
    plot_explanation(one, tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as image:
        image.verify()


def test_heat_maps_of_a_run(classifier, seed, tmp_path):
    pictures = np.random.default_rng(1).integers(0, 256, (9, 20, 20), "uint8")
    samples = Samples("drawn", NAMES, pictures, one_hot(np.arange(9) % 3, 3), list("abcdefghi"))
    probabilities = one_hot(np.zeros(9, int), 3)
    assert plot_heat_maps(classifier, samples, probabilities, tmp_path / "heat_maps.png")
    with Image.open(tmp_path / "heat_maps.png") as image:
        assert image.width > 1000
    flat = keras.Input((SIZE, SIZE, 3))
    linear = keras.Model(flat, classify(keras.layers.Flatten()(flat), NAMES))
    assert not plot_heat_maps(linear, samples, probabilities, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


@pytest.fixture
def command(seed, monkeypatch, tmp_path):
    """Runs `kerasfer explain` on ready crops, one of them no picture."""
    model = tiny_spd(NAMES, SIZE)
    runtime = Runtime("keras", "model.keras", NAMES, SIZE, model.predict_on_batch, model)
    monkeypatch.setattr("kerasfer.explain.pictures.load_runtime", lambda run: runtime)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), "uint8")).save(tmp_path / name)
    backend = keras.backend.backend()

    def run(*arguments):
        out = str(tmp_path / "out")
        fixed = ["--faces", "none", "--steps", "2", "--output-dir", out, "--backend", backend]
        return CliRunner().invoke(
            main, ["explain", "model.keras", str(tmp_path), *fixed, *arguments]
        )

    return run


def test_command_draws_a_figure_a_face_and_sums_up(command, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    result = command()
    assert result.exit_code == 1
    header, first, _, mean = result.stdout.splitlines()
    assert header.split()[:3] == ["picture", "class", "probability"]
    assert first.endswith("a.explained.png")
    assert mean.startswith("mean")
    assert "bad.png cannot be read as a picture" in result.stderr
    assert "2 faces in 2 pictures, 1 picture could not be read" in result.stderr
    assert len(list((tmp_path / "out").glob("*.explained.png"))) == 2


def test_command_prints_json(command, tmp_path):
    result = command("--json", "--class", "sad")
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)["pictures"]
    (face,) = first["faces"]
    assert face["class"] == "sad"
    assert 0 <= face["insertion"] <= 1 and 0 <= face["random_deletion"] <= 1
    assert len(face["regions"]) == 3
    assert face["figure"] == str(tmp_path / "out" / "a.explained.png")
    assert second["error"] is None


def test_command_refuses_exports_and_unknown_classes(command, monkeypatch):
    result = command("--class", "joy")
    assert result.exit_code == 1
    assert "The class must be one of angry, happy, sad. Received: --class joy." in result.stderr
    exported = Runtime("onnx", "model.onnx", NAMES, SIZE, lambda images: images)
    monkeypatch.setattr("kerasfer.explain.pictures.load_runtime", lambda run: exported)
    result = command()
    assert result.exit_code == 1
    assert "is an exported model, which has no gradients. Explain the run " in result.stderr
    assert result.stdout == ""


def test_no_figure_overwrites_another(command, monkeypatch, tmp_path):
    """a.png has two faces, and another picture is called a.face2.png."""
    (tmp_path / "a.png").rename(tmp_path / "a.face2.png")
    (tmp_path / "b.png").rename(tmp_path / "a.png")
    two = [Face((0, 0, 9, 9)), Face((9, 9, 9, 9))]
    monkeypatch.setattr("kerasfer.predict.make_detector", lambda name: lambda _: two)
    result = command("--json", "--faces", "mtcnn")
    assert result.exit_code == 0, result.output
    faces = [face for each in json.loads(result.stdout)["pictures"] for face in each["faces"]]
    figures = {face["figure"] for face in faces}
    assert len(faces) == 4
    assert figures == {str(path) for path in (tmp_path / "out").iterdir()}
    assert len(figures) == 4
