import numpy as np
import pytest

from kerasfer.video.tracking import Smoother, Tracker, overlaps


def face(x, y=50.0, side=40.0):
    return (x, y, side, side)


def persons_over_time(tracker, frames, fps=10.0):
    """Updates a tracker with a list of lists of boxes; returns the persons of each frame."""
    return [tracker.update(number / fps, boxes) for number, boxes in enumerate(frames)]


# overlaps


def test_overlaps_of_boxes_by_hand():
    boxes = [(0, 0, 2, 2), (10, 10, 4, 1)]
    others = [(0, 0, 2, 2), (1, 1, 2, 2), (2, 0, 2, 2), (10, 10, 2, 1)]
    np.testing.assert_allclose(overlaps(boxes, others), [[1, 1 / 7, 0, 0], [0, 0, 0, 0.5]])


def test_overlap_with_an_empty_box_does_not_divide_by_zero():
    np.testing.assert_array_equal(overlaps([(1, 1, 0, 0)], [(1, 1, 0, 0)]), [[0]])


# Tracker


def test_faces_keep_their_numbers_whatever_the_order_of_the_boxes():
    frames = [[face(0), face(100), face(200)]] + [
        [face(200 + i), face(2 * i), face(100 - i)] for i in range(1, 8)
    ]
    assert persons_over_time(Tracker(), frames) == [[1, 2, 3]] + [[3, 1, 2]] * 7


@pytest.mark.parametrize("fps", [5.0, 30.0])
def test_two_faces_that_cross_keep_their_numbers(fps):
    steps = np.arange(0, 4, 1 / fps)
    frames = [[face(100 * t), face(300 - 100 * t, y=58)] for t in steps]
    persons = persons_over_time(Tracker(), frames, fps)
    assert persons == [[1, 2]] * len(steps)
    # Without velocities the two would be exchanged: in the middle each is where the other was.
    middle = len(steps) * 3 // 8
    assert overlaps([frames[middle][0]], [frames[middle][1]])[0, 0] > 0.2


def test_a_face_hidden_while_it_crosses_another_is_found_behind_it():
    frames = []
    for step in range(31):
        moving, still = face(10 * step), face(150, y=54)
        hidden = 13 <= step <= 17
        frames.append([still] if hidden else [moving, still])
    persons = persons_over_time(Tracker(), frames)
    assert persons[:13] == [[1, 2]] * 13
    assert persons[13:18] == [[2]] * 5
    assert persons[18:] == [[1, 2]] * 13


def test_a_missed_detection_does_not_make_another_person():
    frames = [[face(10 + 3 * i)] if i % 4 else [] for i in range(1, 20)]
    assert [p for p in persons_over_time(Tracker(), frames) if p] == [[1]] * 15


def test_a_person_keeps_the_number_only_after_a_short_absence():
    here, away = [[face(20), face(200)]], [[face(20)]]
    soon = persons_over_time(Tracker(remember=2.0), here * 5 + away * 15 + here * 3)
    late = persons_over_time(Tracker(remember=2.0), here * 5 + away * 25 + here * 3)
    assert soon[-3:] == [[1, 2]] * 3
    assert late[-3:] == [[1, None], [1, 3], [1, 3]]  # its number needs a second box


def test_a_hidden_person_who_stood_still_is_found_again():
    # Moving, then hidden, then back at the last place: the prediction has moved on by then.
    frames = [[face(10.0 * i)] for i in range(10)] + [[]] * 8 + [[face(90)]]
    assert persons_over_time(Tracker(), frames)[-1] == [1]


def test_new_faces_get_new_numbers_and_numbers_are_not_reused():
    frames = [[face(0)]] * 3 + [[]] * 30 + [[face(0)]] * 3
    persons = persons_over_time(Tracker(), frames)
    assert persons[:3] == [[1]] * 3
    assert persons[-3:] == [[None], [2], [2]]


def test_a_false_positive_in_one_frame_gets_no_number():
    frames = [[face(0)]] * 3 + [[face(0), face(200)]] + [[face(0)]] * 2
    frames += [[face(0), face(200)]] * 2
    persons = persons_over_time(Tracker(), frames)
    assert persons[3] == [1, None]
    assert persons[-2:] == [[1, None], [1, 2]]


def test_confirm_1_counts_every_box():
    assert persons_over_time(Tracker(confirm=1), [[], [face(0)], [face(300)]]) == [[], [1], [2]]


def test_a_fast_face_is_followed_between_rare_detections():
    # 44 px in each half second, more than the face is wide.
    frames = [[face(44.0 * i)] for i in range(8)]
    assert persons_over_time(Tracker(), frames, fps=2.0) == [[1]] * 8


def test_a_face_moves_between_detections():
    tracker = Tracker()
    for step in range(5):
        tracker.update(step / 5, [face(20.0 * step), face(300, side=30)])
    guess = tracker.predict(0.9)
    np.testing.assert_allclose(guess[1], face(90.0), atol=0.5)
    np.testing.assert_allclose(guess[2], face(300, side=30))
    tracker.update(1.0, [face(300, side=30)])
    assert set(tracker.predict(1.1)) == {2}  # the other was not found again


def test_the_velocity_of_a_hidden_face_decays():
    tracker = Tracker(remember=60)
    for step in range(5):
        tracker.update(step / 5, [face(20.0 * step)])
    assert tracker.predict(60.0)[1][0] < 80 + 100  # 100 px a second, for less than a second


def test_no_faces_at_all():
    tracker = Tracker()
    assert persons_over_time(tracker, [[], [], []]) == [[], [], []]
    assert tracker.predict(1.0) == {}


def test_twenty_faces_at_once():
    grid = [face(60 * (i % 5), 60 * (i // 5)) for i in range(20)]
    frames = [[(x + 4 * step, y, w, h) for x, y, w, h in grid] for step in range(6)]
    assert persons_over_time(Tracker(), frames) == [list(range(1, 21))] * 6


def test_memory_does_not_grow_with_the_number_of_persons_seen():
    tracker, smoother = Tracker(), Smoother()
    for number in range(500):
        for step in range(2):
            time = 10.0 * number + step / 10
            (person,) = tracker.update(time, [face(10)])
            if person:
                smoother.update(person, time, np.ones(1))
    assert person == 500
    assert len(tracker._tracks) == 1
    assert len(smoother._states) <= 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_overlap": 0}, r"`min_overlap` must be in \(0, 1\]. Received: 0."),
        ({"remember": -1}, "`buffer` and `remember` must not be negative. Received: 0.3, -1."),
        ({"confirm": 0}, "`confirm` must be at least 1. Received: 0."),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tracker(**arguments)


# Smoother


def test_a_step_is_followed_with_the_time_constant():
    smoother = Smoother(0.5)
    smoother.update(1, 0.0, np.array([1.0, 0.0]))
    for step in range(1, 11):
        smooth = smoother.update(1, step / 10, np.array([0.0, 1.0]))
    np.testing.assert_allclose(smooth, [np.exp(-2), 1 - np.exp(-2)])


@pytest.mark.parametrize("fps", [5, 25, 100])
def test_the_same_signal_is_smoothed_alike_at_every_frame_rate(fps):
    smoother = Smoother(0.5)
    for frame in range(2 * fps + 1):
        time = frame / fps
        happy = float(time > 1.0)
        smooth = smoother.update(1, time, np.array([happy, 1 - happy]))
    np.testing.assert_allclose(smooth[0], 1 - np.exp(-2), atol=1e-9)


def test_uneven_steps_end_where_even_ones_do():
    even, uneven = Smoother(0.3), Smoother(0.3)
    for smoother, times in ((even, np.linspace(0, 1, 31)), (uneven, [0, 0.01, 0.5, 0.52, 1.0])):
        smoother.update(1, 0.0, np.array([1.0, 0.0]))
        for time in times[1:]:
            smooth = smoother.update(1, time, np.array([0.0, 1.0]))
        np.testing.assert_allclose(smooth[0], np.exp(-1 / 0.3))


def test_persons_are_smoothed_separately_and_remain_probabilities():
    smoother, rng = Smoother(0.2), np.random.default_rng(0)
    for step in range(20):
        for person in (1, 2):
            raw = rng.dirichlet(np.ones(7)) if person == 1 else np.eye(7)[3]
            smooth = smoother.update(person, step / 25, raw)
            assert smooth.sum() == pytest.approx(1) and smooth.min() >= 0
    np.testing.assert_allclose(smooth, np.eye(7)[3])


def test_zero_seconds_do_not_smooth():
    smoother = Smoother(0)
    smoother.update(1, 0.0, np.array([1.0, 0.0]))
    np.testing.assert_array_equal(smoother.update(1, 0.1, np.array([0.2, 0.8])), [0.2, 0.8])
    with pytest.raises(ValueError, match="`seconds` must not be negative. Received: -1."):
        Smoother(-1)
