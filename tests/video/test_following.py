import numpy as np
import pytest
from drawn_video import BLUE, GREEN, RED, color_predictor, find_squares, frame_of

from kerasfer.faces import Face
from kerasfer.video.following import Follower


def test_persons_keep_their_numbers_and_their_probabilities():
    follow = Follower(color_predictor(), smoothing=0)
    for step in range(6):
        frame = frame_of((4 * step, 10, 30, BLUE), (120 - 4 * step, 10, 30, RED))
        sightings = follow(step / 10, frame)
    red, blue = sightings  # the detector tells red first
    assert (red.person, blue.person) == (1, 2)
    assert red.face.box == (100, 10, 30, 30)
    assert red.raw.argmax() == 0 and blue.raw.argmax() == 2
    np.testing.assert_array_equal(red.raw, red.smooth)
    assert (follow.num_searched, follow.num_faces) == (6, 12)
    assert follow.searching > 0 and follow.classifying > 0


def test_probabilities_are_smoothed_over_time():
    follow = Follower(color_predictor(), smoothing=0.5)
    for step in range(10):
        red, _, _ = follow(step / 10, frame_of((50, 10, 30, RED)))[0].raw
    sighting = follow(1.0, frame_of((50, 10, 30, GREEN)))[0]
    assert sighting.person == 1  # by place: nothing here knows faces
    kept = np.exp(-0.1 / 0.5)
    np.testing.assert_allclose(sighting.smooth[0], kept * red + (1 - kept) * sighting.raw[0], 1e-5)


def test_boxes_move_and_are_classified_between_detections():
    calls = []

    def detect(picture):
        calls.append(picture)
        return find_squares(picture)

    follow = Follower(color_predictor(detect), detect_every=5)
    boxes = []
    for step in range(15):
        sightings = follow(step / 10, frame_of((5 * step, 20, 40, RED)))
        assert sightings[0].raw.argmax() == 0
        boxes.append(sightings[0].face.box[0])
    assert len(calls) == follow.num_searched == 3
    # Its speed is known from the second detection on.
    np.testing.assert_allclose(boxes[5:], 5 * np.arange(5, 15), atol=1)
    assert follow.num_faces == 15


def test_landmarks_move_with_the_box():
    marks = np.arange(10.0).reshape(5, 2)
    places = iter([0.0, 10.0])

    def detect(picture):
        x = next(places)
        return [Face((x, 0.0, 40.0, 40.0), 1.0, marks + [x, 0])]

    follow = Follower(color_predictor(detect), detect_every=2)
    frame = frame_of()
    for step in range(4):
        (sighting,) = follow(step / 10, frame)
    assert sighting.face.box == pytest.approx((15.0, 0, 40, 40))
    np.testing.assert_allclose(sighting.face.landmarks, marks + [15, 0])


def test_a_face_that_left_the_frame_is_not_classified():
    follow = Follower(color_predictor(), detect_every=10)
    x = [160 - 36, 160 - 18]
    assert follow(0.0, frame_of((x[0], 10, 36, RED)))
    for step in range(1, 10):
        follow(step / 10, frame_of((x[0], 10, 36, RED)))
    follow(1.0, frame_of((x[1], 10, 36, RED)))
    for step in range(11, 20):
        assert all(s.face.box[0] < 160 for s in follow(step / 10, frame_of()))
    assert follow(2.0, frame_of()) == []


def test_a_false_positive_is_not_shown():
    follow = Follower(color_predictor())
    assert follow(0.0, frame_of()) == []
    assert follow(0.1, frame_of((10, 10, 30, RED))) == []
    assert follow(0.2, frame_of()) == []


def test_without_a_detector_the_frame_is_one_face():
    follow = Follower(color_predictor("none"), smoothing=0)
    (sighting,) = follow(0.0, np.full((50, 70, 3), GREEN, "uint8"))
    assert sighting.person == 1
    assert sighting.face.box == (0, 0, 70, 50)
    assert sighting.smooth.argmax() == 1
    assert follow.num_searched == 0
