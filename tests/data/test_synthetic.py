import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.linear_model import RidgeClassifier

from kerasfer.data import synthetic
from kerasfer.data.synthetic import anatomy
from kerasfer.data.synthetic.anatomy import Actions, Person
from kerasfer.data.synthetic.canvas import Canvas, View, smooth
from kerasfer.data.synthetic.drawing import BEARDS, GLASSES, HAIR_STYLES, paint_face
from kerasfer.data.synthetic.occluders import OCCLUDERS

PERSON, REST = Person(), Actions()


def ways(expression):
    return [Actions(way) for way in synthetic.EXPRESSIONS[expression]]


def corner_lift(actions):
    """How far the corners of the mouth are above its middle."""
    line = anatomy.mouth(PERSON, actions, actions).upper_edge
    return line[3, 1] - line[[0, -1], 1].mean()


def mouth_opening(actions):
    mouth = anatomy.mouth(PERSON, actions, actions)
    return (mouth.lower_edge - mouth.upper_edge)[3, 1]


def eye_opening(actions):
    eye = anatomy.eye(PERSON, actions)
    return (eye.lower - eye.upper)[2, 1]


# Drawing


def test_the_same_seed_draws_the_same_face():
    first, second = (synthetic.draw_face(np.random.default_rng(7), "happy") for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = synthetic.draw_face(np.random.default_rng(8), "happy")
    assert np.abs(first.astype(int) - other).mean() > 5


@pytest.mark.parametrize("size", [24, 48, 101])
def test_a_face_is_an_rgb_picture_with_contrast(size):
    face = synthetic.draw_face(np.random.default_rng(0), "fear", size)
    assert face.shape == (size, size, 3) and face.dtype == np.uint8
    assert face.std() > 15


def test_the_expression_changes_nothing_but_the_face():
    happy, sad = (synthetic.draw_face(np.random.default_rng(1), e, 96) for e in ("happy", "sad"))
    assert np.abs(happy.astype(int) - sad).max() > 40
    np.testing.assert_array_equal(happy[:8], sad[:8])


def test_intensity_moves_the_face_away_from_neutral():
    neutral = synthetic.draw_face(np.random.default_rng(2), "neutral").astype(int)
    distances = [
        np.abs(synthetic.draw_face(np.random.default_rng(2), "happy", intensity=i) - neutral).mean()
        for i in (0.0, 0.4, 1.0)
    ]
    assert distances[0] == 0 and distances[0] < distances[1] < distances[2]


def test_blur_removes_details():
    sharp, blurred = (
        synthetic.draw_face(np.random.default_rng(3), "fear", 64, blur=b) for b in (0, 4)
    )
    detail = [np.abs(np.diff(face.astype(int), axis=0)).mean() for face in (sharp, blurred)]
    assert detail[1] < 0.7 * detail[0]


@pytest.mark.parametrize("style", HAIR_STYLES)
@pytest.mark.parametrize("beard", BEARDS)
@pytest.mark.parametrize("glasses", GLASSES)
def test_every_look_can_be_drawn(style, beard, glasses):
    person = Person(hair_style=style, beard=beard, glasses=glasses)
    canvas = Canvas(32, View(), person.head_width, (128, 128, 128))
    paint_face(canvas, person, REST, REST)
    assert np.asarray(canvas.finish()).std() > 15


def test_unknown_names_are_refused_with_the_choices():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="'angry', .*'neutral'.* Received: 'bored'"):
        synthetic.draw_face(rng, "bored")
    with pytest.raises(ValueError, match="'sunglasses', 'mask', 'hand'.* Received: 'hat'"):
        synthetic.draw_face(rng, "happy", occlusion="hat")


# Action units


def test_smooth_passes_through_its_control_points():
    points = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_allclose(smooth(points)[::5], points, atol=1e-12)
    np.testing.assert_allclose(smooth(points, closed=True)[::5], points, atol=1e-12)


def test_a_face_at_rest_is_symmetric():
    for curve in anatomy.mouth(PERSON, REST, REST):
        np.testing.assert_allclose(curve[::-1] * (-1, 1), curve, atol=1e-12)


def test_a_smile_on_one_side_lifts_one_corner():
    line = anatomy.mouth(PERSON, Actions({12: 1.0}), REST).upper_edge
    assert line[0, 1] < line[-1, 1] - 0.1


def test_happy_lifts_the_corners_of_the_mouth_and_sad_lowers_them():
    for happy in ways("happy"):
        assert corner_lift(happy) > corner_lift(REST) + 0.08
        assert eye_opening(happy) < eye_opening(REST)
    for sad in ways("sad"):
        assert corner_lift(sad) < corner_lift(REST) - 0.08


def test_sad_brows_slant_up_to_the_middle_and_angry_ones_down():
    def slant(actions):
        curve = anatomy.brow(PERSON, actions)
        return curve[-1, 1] - curve[0, 1]

    assert all(slant(sad) > slant(REST) + 0.1 for sad in ways("sad"))
    assert all(slant(angry) < slant(REST) - 0.1 for angry in ways("angry"))


def test_surprise_drops_the_jaw_and_raises_the_whole_brow():
    for surprise in ways("surprise"):
        raised = anatomy.brow(PERSON, REST)[:, 1] - anatomy.brow(PERSON, surprise)[:, 1]
        assert raised.min() > 0.1
        assert mouth_opening(surprise) > 0.2
        assert eye_opening(surprise) > eye_opening(REST)
        assert anatomy.head(PERSON, surprise)[:, 1].max() > 1.05


def test_fear_widens_eyes_and_mouth_and_draws_the_raised_brows_together():
    for fear in ways("fear"):
        rest, brow = anatomy.brow(PERSON, REST), anatomy.brow(PERSON, fear)
        assert brow[0, 0] < rest[0, 0] and (brow[:, 1] < rest[:, 1]).all()
        assert eye_opening(fear) > eye_opening(REST) + 0.05
        width = np.ptp(anatomy.mouth(PERSON, fear, fear).upper_edge[:, 0])
        assert width > 1.15 * np.ptp(anatomy.mouth(PERSON, REST, REST).upper_edge[:, 0])
        assert mouth_opening(fear) < min(map(mouth_opening, ways("surprise")))


def test_disgust_lifts_and_wrinkles_the_nose():
    for disgust in ways("disgust"):
        assert anatomy.nose(PERSON, disgust)[:, 1].max() < anatomy.nose(PERSON, REST)[:, 1].max()
        assert sum(depth for _, depth in anatomy.wrinkles(PERSON, disgust)) > 3
    assert sum(depth for _, depth in anatomy.wrinkles(PERSON, REST)) == 0


def test_every_way_to_show_an_expression_uses_known_action_units():
    for expression in synthetic.EXPRESSIONS:
        for way in ways(expression):
            assert set(way) <= set(anatomy.ACTION_UNITS)
            assert all(0 < strength <= 1 for strength in way.values())


def test_random_actions_follow_the_table():
    for seed in range(20):
        left, right = synthetic.random_actions(np.random.default_rng(seed), "happy", 1.0)
        for actions in (left, right):
            assert actions[12] > 0.6 and actions[6] > 0.5 and actions[4] < 0.1
            assert min(actions.values()) >= 0 and max(actions.values()) <= 1
        assert left[26] == right[26]


# Occluders


def painted(actions, occlusion, view):
    canvas = Canvas(64, view, PERSON.head_width, (128, 128, 128))
    paint_face(canvas, PERSON, actions, actions)
    if occlusion:
        OCCLUDERS[occlusion](canvas, PERSON)
    return canvas, np.asarray(canvas.image).astype(int)


def shows(actions, upper, lower, occlusion, view):
    """Whether the pixels between two curves differ from those of the face at rest."""
    canvas, rest = painted(REST, occlusion, view)
    _, moved = painted(actions, occlusion, view)
    outline = canvas.place(np.concatenate([smooth(upper), smooth(lower)[::-1]]))
    region = Image.new("1", canvas.image.size)
    ImageDraw.Draw(region).polygon(outline.ravel().tolist(), fill=1)
    return bool((rest != moved)[np.asarray(region)].any())


@pytest.mark.parametrize("yaw", [-0.24, 0.0, 0.24])
@pytest.mark.parametrize("pitch", [-0.15, 0.15])
@pytest.mark.parametrize(
    ("occlusion", "eyes_show", "mouth_shows"),
    [(None, True, True), ("sunglasses", False, True), ("mask", True, False), ("hand", True, False)],
)
def test_an_occluder_hides_the_eyes_or_the_mouth(occlusion, eyes_show, mouth_shows, yaw, pitch):
    view = View(yaw=yaw, pitch=pitch, roll=0.1)
    wide, smile = Actions({5: 1.0}), Actions({12: 0.8, 25: 0.5})
    eye, mouth = anatomy.eye(PERSON, wide), anatomy.mouth(PERSON, smile, smile)
    assert shows(wide, eye.upper, eye.lower, occlusion, view) == eyes_show
    assert shows(smile, mouth.upper_lip, mouth.lower_lip, occlusion, view) == mouth_shows


# The dataset


@pytest.fixture(scope="module")
def samples():
    return synthetic.load(num_samples=140, size=32)


def test_load_is_balanced_in_every_split(samples):
    assert samples.pictures.shape == (140, 32, 32, 3) and samples.pictures.dtype == np.uint8
    assert samples.class_names == (
        "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral",
    )  # fmt: skip
    assert samples.protocol == "official" and samples.name == "synthetic"
    for split, size in (("train", 98), ("validation", 14), ("test", 28)):
        counts = np.bincount(samples.targets[samples.splits == split], minlength=7)
        np.testing.assert_array_equal(counts, size // 7)


def test_every_face_is_another_one(samples):
    assert len({picture.tobytes() for picture in samples.pictures}) == len(samples)
    assert len(set(samples.subjects)) == len(samples)


def test_a_larger_dataset_begins_with_the_smaller_one(samples):
    fewer = synthetic.load(num_samples=23, size=32)
    np.testing.assert_array_equal(fewer.pictures, samples.pictures[:23])
    np.testing.assert_array_equal(fewer.labels, samples.labels[:23])
    assert list(fewer.ids) == list(samples.ids[:23])
    assert set(fewer.splits) == {"train", "validation", "test"}


def test_another_seed_draws_other_faces(samples):
    other = synthetic.load(num_samples=7, size=32, seed=1)
    assert (other.pictures != samples.pictures[:7]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("option", [{"blur": 3.0}, {"occlusion": "mask"}])
def test_studies_alter_the_test_faces_only(samples, option):
    altered = synthetic.load(num_samples=70, size=32, **option)
    same = (altered.pictures == samples.pictures[:70]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, samples.splits[:70] != "test")


def test_load_rejects_invalid_arguments():
    with pytest.raises(ValueError, match="`num_samples` must be at least 1. Received: 0"):
        synthetic.load(num_samples=0)
    with pytest.raises(ValueError, match="`altered_splits` must be among .* Received: .'tests'"):
        synthetic.load(num_samples=7, altered_splits=("tests",))


def test_pixels_alone_do_not_separate_the_classes():
    """A linear classifier finds something, but far less than the 90 % and more of the models."""
    samples = synthetic.load(num_samples=1400, size=48)
    gray = [np.asarray(Image.fromarray(picture).convert("L")) for picture in samples.pictures]
    pixels = np.reshape(gray, (len(gray), -1)) / 255
    test = samples.splits == "test"
    pixels = (pixels - pixels[~test].mean(axis=0)) / pixels[~test].std(axis=0)
    linear = RidgeClassifier(alpha=1000).fit(pixels[~test], samples.targets[~test])
    accuracy = linear.score(pixels[test], samples.targets[test])
    assert 0.25 < accuracy < 0.6
