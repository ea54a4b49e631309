import importlib.machinery

import keras
import numpy as np
import pytest
from PIL import Image

from kerasfer.data.synthetic import draw_face
from kerasfer.errors import RunError
from kerasfer.faces import Face, crop_face, make_detector, mtcnn


@pytest.fixture(scope="module")
def detect():
    pytest.importorskip("joblib", reason="kerasfer[faces] is not installed")
    return make_detector()


@pytest.fixture(scope="module")
def portrait():
    return draw_face(np.random.default_rng(5), "happy", 240)


def test_drawn_face_is_found_with_its_landmarks(detect, portrait):
    (face,) = detect(portrait)
    x, y, width, height = face.box
    assert 0.35 * 240 < x + width / 2 < 0.65 * 240
    assert 0.4 * 240 < y + height / 2 < 0.65 * 240
    assert 0.4 * 240 < width < height < 0.95 * 240
    assert face.score > 0.9
    left_eye, right_eye, nose, mouth_left, mouth_right = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert mouth_left[0] < mouth_right[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(mouth_left[1], mouth_right[1])


@pytest.fixture(scope="module")
def two(portrait):
    scene = np.full((300, 500, 3), 120, "uint8")
    scene[20:140, 20:140] = np.asarray(Image.fromarray(portrait).resize((120, 120)))
    scene[30:270, 200:440] = portrait
    return scene


def test_faces_come_largest_first(detect, two):
    large, small = detect(two)
    assert 200 < large.box[0] < 440
    assert small.box[0] < 140
    assert large.box[2] > small.box[2]


@pytest.mark.parametrize("size", [(8, 8), (240, 320)])
def test_nothing_is_found_where_no_face_is(detect, size):
    assert detect(np.random.default_rng(0).integers(0, 256, (*size, 3), "uint8")) == []
    assert detect(np.full((*size, 3), 127, "uint8")) == []


def test_large_pictures_are_searched_small_and_told_in_their_own_pixels(portrait):
    pytest.importorskip("joblib", reason="kerasfer[faces] is not installed")
    (expected,) = make_detector()(portrait)
    enlarged = np.asarray(Image.fromarray(portrait).resize((1920, 1920)))
    (face,) = make_detector(max_side=240)(enlarged)
    np.testing.assert_allclose(face.box, expected.scaled(8).box, atol=8 * 6)
    np.testing.assert_allclose(face.landmarks, expected.scaled(8).landmarks, atol=8 * 6)


def test_faces_smaller_than_wanted_are_passed_over(detect, two):
    (large,) = make_detector(min_face=140)(two)
    assert 200 < large.box[0] < 440


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the package needs TensorFlow")
def test_networks_agree_with_the_package(detect):
    from mtcnn.stages import StageONet, StagePNet, StageRNet

    rng = np.random.default_rng(0)
    weights = mtcnn.MTCNN().weights
    for stage, network, own, size in (
        (StagePNet, mtcnn._proposal_network, weights[0], (2, 31, 40, 3)),
        (StageRNet, mtcnn._refinement_network, weights[1], (3, 24, 24, 3)),
        (StageONet, mtcnn._output_network, weights[2], (3, 48, 48, 3)),
    ):
        x = rng.uniform(-1, 1, size).astype("float32")
        *expected, scores = stage()._model(x)
        *found, score = network(x, own)
        np.testing.assert_allclose(score, scores.numpy()[..., 1], atol=1e-5)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-4)


def test_overlapping_boxes_are_suppressed():
    scored = np.array(
        [[0, 0, 10, 10, 0.8], [1, 0, 11, 10, 0.9], [30, 0, 40, 10, 0.7], [2, 2, 6, 6, 0.6]]
    )
    kept = mtcnn._suppress(scored, 0.7)  # the first two share 90 of 110
    assert kept[:, 4].tolist() == [0.9, 0.7, 0.6]
    assert mtcnn._suppress(scored, 0.7, of_smaller=True)[:, 4].tolist() == [0.9, 0.7]


def test_missing_package_and_missing_weights_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(mtcnn, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r'pip install "kerasfer\[faces\]"'):
        make_detector()
    spec = importlib.machinery.ModuleSpec("mtcnn", None)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(mtcnn, "find_spec", lambda name: spec)
    with pytest.raises(RunError, match="Expected the weights of mtcnn 1.0 at"):
        make_detector()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="must be one of mtcnn. Received: 'haar'"):
        make_detector("haar")
    with pytest.raises(ValueError, match="at least 12 pixels"):
        make_detector(min_face=5)
    with pytest.raises(ValueError, match="`margin` must be larger than -1"):
        crop_face(np.zeros((20, 20, 3), "uint8"), Face((0, 0, 9, 9)), margin=-1)


def test_crop_is_the_box():
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), "uint8")
    crop = crop_face(picture, Face((10, 20, 30, 30)))
    assert np.abs(crop.astype(int) - picture[20:50, 10:40]).max() <= 1


def test_crop_is_square_around_the_longer_side_and_its_margin():
    picture = np.zeros((100, 100, 3), "uint8")
    picture[30:70, 40:60] = 255  # 20 wide, 40 high
    face = Face((40, 30, 20, 40))
    assert crop_face(picture, face, 40).mean() == pytest.approx(255 / 2, rel=0.02)
    assert crop_face(picture, face, 40, margin=0.5).mean() == pytest.approx(255 * 800 / 3600, 0.05)
    assert crop_face(picture, face).shape == (40, 40, 3)


@pytest.mark.parametrize("align", [True, False])
def test_eyes_become_level(align):
    picture = np.zeros((200, 200, 3), "uint8")
    eyes = np.array([[80, 90], [120, 110]])
    for number, (x, y) in enumerate(eyes):
        picture[y - 3 : y + 3, x - 3 : x + 3, number] = 255
    landmarks = np.concatenate([eyes, np.zeros((3, 2))])
    crop = crop_face(picture, Face((50, 50, 100, 100), 1.0, landmarks), 100, align=align)
    places = [
        np.average(np.indices((100, 100)).reshape(2, -1), axis=1, weights=crop[..., i].ravel())
        for i in range(2)
    ]
    half = np.hypot(20, 10) if align else 20
    drop = 0 if align else 10
    np.testing.assert_allclose(places[0], [49.5 - drop, 49.5 - half], atol=0.7)
    np.testing.assert_allclose(places[1], [49.5 + drop, 49.5 + half], atol=0.7)


def test_outside_the_picture_its_edge_is_repeated():
    picture = np.full((40, 40, 3), (10, 90, 200), "uint8")
    landmarks = np.array([[0, 5], [9, 0], [0, 0], [0, 0], [0, 0]], float)
    crop = crop_face(picture, Face((-15, -10, 30, 30), 1.0, landmarks), 24, margin=0.4)
    assert (crop == picture[0, 0]).all()
