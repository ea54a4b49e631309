import keras
import numpy as np
import pytest

from kerasfer.faces import make_detector, mtcnn, mtcnn_networks
from kerasfer.faces.onnx_sessions import open_session
from kerasfer.faces.suppression import overlap_suppression, suppress_nested

pytest.importorskip("joblib", reason="kerasfer[faces] is not installed")
pytest.importorskip("onnxruntime", reason="kerasfer[faces] is not installed")


def test_boxes_and_landmarks_are_those_of_the_numpy_version(portrait, two):
    """Kerasfer 0.1 computed the networks with NumPy in float32; these are its results."""
    detect = make_detector("mtcnn")
    (face,) = detect(portrait)
    np.testing.assert_allclose(face.box, [42.21, 16.92, 158.06, 197.51], atol=0.5)
    eyes_nose_mouth = [[87.66, 92.35], [155.11, 95.02], [116.02, 130.45]]
    eyes_nose_mouth += [[84.65, 159.67], [154.16, 162.48]]
    np.testing.assert_allclose(face.landmarks, eyes_nose_mouth, atol=0.5)
    assert face.score == pytest.approx(0.9976, abs=1e-3)
    large, small = detect(two)
    np.testing.assert_allclose(large.box, [240.64, 45.52, 159.49, 199.77], atol=0.5)
    np.testing.assert_allclose(small.box, [41.71, 29.16, 78.17, 97.96], atol=0.5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the package needs TensorFlow")
@pytest.mark.parametrize(
    ("number", "name", "build", "size"),
    [
        (0, "pnet", mtcnn_networks.proposal_network, (2, 31, 40, 3)),
        (0, "pnet", mtcnn_networks.proposal_network, (1, 12, 15, 3)),
        (1, "rnet", mtcnn_networks.refinement_network, (3, 24, 24, 3)),
        (2, "onet", mtcnn_networks.output_network, (3, 48, 48, 3)),
    ],
)
def test_networks_agree_with_the_package(number, name, build, size):
    from mtcnn import stages

    pictures = np.random.default_rng(0).integers(0, 256, size, "uint8")
    stage = (stages.StagePNet, stages.StageRNet, stages.StageONet)[number]()
    expected = stage._model((pictures.astype("float32") - 127.5) / 128)
    found = open_session(build(mtcnn._load_weights(name)))(pictures=pictures)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-4)


def test_slopes_above_one_are_computed_exactly():
    """One slope of the published weights is 1.01, so that max(x, slope * x) would be wrong."""
    rng = np.random.default_rng(0)
    slopes = [1.5, -0.5, 0.0, 1.0]
    graph = mtcnn_networks._Graph(
        [rng.normal(size=(1, 1, 3, 4)), rng.normal(size=4), np.reshape(slopes, (1, 1, 4))]
    )
    kernel, bias, _ = (np.asarray(array) for array in list(graph.weights))
    graph.weights = iter([kernel, bias, np.reshape(slopes, (1, 1, 4))])
    run = open_session(graph.serialize([graph.convolve(graph.pictures())], (5, 6)))
    pictures = rng.integers(0, 256, (2, 5, 6, 3), "uint8")
    x = (pictures / 128 - 127.5 / 128) @ kernel[0, 0] + bias
    expected = np.where(x > 0, x, slopes * x)
    probabilities = run(pictures=pictures)[0]
    assert probabilities.shape == (2, 16, 5, 6)  # `serialize` ends with a softmax over columns.
    padded = np.pad(expected.transpose(0, 3, 1, 2), ((0, 0), (0, 12), (0, 0), (0, 0)))
    exponents = np.exp(padded - padded.max(-1, keepdims=True))
    np.testing.assert_allclose(probabilities, exponents / exponents.sum(-1, keepdims=True), 1e-4)


def test_overlapping_boxes_are_suppressed():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [2, 2, 6, 6]])
    scores = np.array([0.8, 0.9, 0.7, 0.6])
    keep = overlap_suppression()
    assert keep(boxes, scores, 0.7).tolist() == [1, 2, 3]  # The first two share 90 of 110.
    assert keep(boxes, scores, 0.9).tolist() == [1, 0, 2, 3]
    assert keep(boxes[:0], scores[:0], 0.7).tolist() == []
    assert suppress_nested(boxes, scores, 0.7).tolist() == [1, 2]
    assert suppress_nested(boxes[:0], scores[:0], 0.7).tolist() == []
