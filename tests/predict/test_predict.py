"""Predictions with a detector and a model with known results."""

import csv
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from kerasfer.cli import main
from kerasfer.data.pictures import resize
from kerasfer.errors import DataError, RunError
from kerasfer.faces import Face
from kerasfer.predict import FacePrediction, Predictor, annotate, draw, to_record
from kerasfer.predict.runtimes import Runtime

NAMES = ("red", "green", "blue")
COLORS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


@pytest.fixture
def batches():
    return []


@pytest.fixture
def runtime(batches):
    """Tells the color of a face, and notes how many it was asked about at once."""

    def predict(images):
        batches.append(len(images))
        colors = images.mean(axis=(1, 2))
        return colors / colors.sum(axis=1, keepdims=True)

    return Runtime("onnx", "model.onnx", NAMES, 16, predict)


def scene(*colors):
    """A gray picture with a square of 40 pixels for each color, side by side."""
    picture = np.full((80, 20 + 60 * max(1, len(colors)), 3), 100, "uint8")
    for i, color in enumerate(colors):
        picture[20:60, 20 + 60 * i : 60 + 60 * i] = COLORS[color]
    return picture


def detect(picture):
    """Finds the squares of `scene`, a little inside of their edges."""
    starts = range(20, picture.shape[1] - 39, 60)
    return [Face((x + 4, 24, 32, 32)) for x in starts if len(set(picture[40, x + 5].tolist())) > 1]


def test_every_face_gets_its_own_answer(runtime):
    predictor = Predictor(runtime, faces=detect)
    found = predictor([scene("red", "blue"), scene(), scene("green"), scene("blue", "red", "red")])
    labels = [[face.label for face in faces] for faces in found]
    assert labels == [["red", "blue"], [], ["green"], ["blue", "red", "red"]]
    assert found[0][1].face.box == (84, 24, 32, 32)
    assert found[0][1].probability == pytest.approx(200 / 240, abs=1e-3)
    assert found[0][1].probabilities.argmax() == 2
    assert found[0][1].crop.shape == (16, 16, 3)


def test_faces_of_several_pictures_share_batches(runtime, batches):
    predictor = Predictor(runtime, faces=detect, batch_size=4)
    found = predictor([scene("red"), scene("green", "green"), scene("blue", "red", "blue")] * 2)
    assert sum(map(len, found)) == 12
    assert max(batches) == 4
    assert len(batches) == 4  # 4 + 2 each time
    assert [face.label for face in found[5]] == ["blue", "red", "blue"]


def test_ready_crops_are_taken_whole(runtime):
    picture = np.random.default_rng(0).integers(0, 256, (48, 40, 3), "uint8")
    ((found,),) = Predictor(runtime, faces="none")([picture])
    assert found.face is None
    np.testing.assert_array_equal(found.crop, resize(picture, 16))


def test_margin_shows_more(runtime):
    tight = Predictor(runtime, faces=detect)([scene("red")])[0][0]
    wide = Predictor(runtime, faces=detect, margin=1.0)([scene("red")])[0][0]
    assert wide.probability < tight.probability


def test_classify_accepts_crops_of_any_size(runtime):
    crops = [np.full((side, side, 3), COLORS["green"], "uint8") for side in (16, 50)]
    assert Predictor(runtime, faces="none").classify(crops).argmax(axis=1).tolist() == [1, 1]
    assert Predictor(runtime, faces="none").classify([]).shape == (0, 3)


def test_threads_do_not_mix_answers(runtime):
    predictor = Predictor(runtime, faces=detect, batch_size=2)
    barrier = threading.Barrier(4)

    def work(color):
        barrier.wait()
        found = predictor([scene(color, color)] * 20)
        return {face.label for faces in found for face in faces}

    with ThreadPoolExecutor(4) as pool:
        colors = ["red", "green", "blue", "red"]
        assert list(pool.map(work, colors)) == [{color} for color in colors]


def test_a_bad_picture_is_named_and_the_stream_continues(runtime, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(scene("blue")).save(good)
    bad.write_text("no picture")
    predictor = Predictor(runtime, faces=detect)
    with pytest.raises(
        DataError, match=r"bad\.png cannot be read .* Replace or remove the file\.$"
    ):
        predictor([good, bad])
    first, second, third = predictor.stream([good, bad, good])
    assert isinstance(second, DataError)
    assert first[0].label == third[0].label == "blue"


def test_arrays_that_are_no_pictures(runtime):
    predictor = Predictor(runtime, faces=detect)
    for array in (np.zeros((20, 20), "uint8"), np.zeros((20, 20, 3)), np.zeros((5, 20, 3), "u1")):
        with pytest.raises(ValueError, match="Pictures must be paths, or uint8 RGB"):
            predictor([array])
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        Predictor(runtime, faces=detect, batch_size=0)


def test_drawing_leaves_the_source_alone_and_marks_the_face():
    picture = np.full((300, 300, 3), 90, "uint8")
    one = FacePrediction(
        Face((100, 60, 120, 140)), "red", np.array([0.7, 0.2, 0.1], "float32"), NAMES
    )
    drawn = draw(picture, [one])
    assert drawn.shape == picture.shape
    assert (picture == 90).all()
    blue = drawn[130, 100].astype(int)  # the frame's left side
    assert blue[2] > blue[0] + 80
    assert (drawn[130, 160] == 90).all()  # the face is not painted over
    assert drawn[202:240, 100:220].mean() > 150  # bars below
    assert (draw(picture, []) == picture).all()


def test_bars_that_would_hide_another_face_are_left_out():
    picture = np.full((400, 300, 3), 90, "uint8")
    shares = np.array([0.7, 0.2, 0.1], "float32")
    upper, lower = (
        FacePrediction(Face((100, y, 100, 120)), "red", shares, NAMES) for y in (40, 190)
    )
    alone, both = draw(picture, [upper]), draw(picture, [upper, lower])
    assert (alone[162:165, 104:196] != 90).any()
    assert (both[162:165, 104:196] == 90).all()
    assert (both[315:330, 104:196] != 90).any()


@pytest.mark.parametrize("box", [(-30, -40, 90, 100), (5, 5, 20, 20), (200, 250, 400, 300)])
def test_boxes_at_the_edge_and_small_ones_are_drawn(box):
    picture = np.zeros((300, 300, 3), "uint8")
    one = FacePrediction(Face(box), "surprise 惊讶 $x$", np.array([1.0, 0.0, 0.0]), NAMES)
    assert draw(picture, [one]).any()


def test_ready_crop_is_enlarged_with_all_bars():
    crop = np.full((48, 48, 3), 90, "uint8")
    drawn = draw(crop, [FacePrediction(None, "red", np.array([0.8, 0.1, 0.1]), NAMES)])
    assert drawn.shape == (320, 640, 3)
    assert (drawn[10:300, 5:315] == 90).all()


def test_annotations_of_huge_pictures_are_shrunk(tmp_path):
    picture = np.zeros((1000, 5120, 3), "uint8")
    one = FacePrediction(Face((2000, 200, 600, 600)), "red", np.array([1.0, 0.0, 0.0]), NAMES)
    annotate(picture, [one], tmp_path / "seen.png")
    with Image.open(tmp_path / "seen.png") as image:
        assert image.size == (2560, 500)
        assert image.getpixel((1001, 250))[2] > 100  # the frame, at half the place


def test_record_has_stable_keys(runtime):
    found = Predictor(runtime, faces=detect)([scene("red")])[0]
    record = to_record("a.png", found)
    assert set(record) == {"picture", "error", "faces"}
    keys = ["box", "score", "landmarks", "label", "probability", "probabilities"]
    assert list(record["faces"][0]) == keys
    assert list(record["faces"][0]["probabilities"]) == list(NAMES)
    json.dumps(record, allow_nan=False)


@pytest.fixture
def command(monkeypatch, runtime, tmp_path):
    """Runs `kerasfer predict` on two good pictures, one without a face and one that is none."""
    monkeypatch.setattr("kerasfer.predict.load_runtime", lambda run: runtime)
    monkeypatch.setattr("kerasfer.predict.make_detector", lambda name: detect)
    for name, colors in {"one": ["red"], "two": ["blue", "green"]}.items():
        Image.fromarray(scene(*colors)).save(tmp_path / f"{name}.png")
    Image.new("RGB", (140, 80), (90, 90, 90)).save(tmp_path / "none.png")

    def run(*arguments, bad=True):
        if bad:
            (tmp_path / "zbad.png").write_text("no picture")
        return CliRunner().invoke(main, ["predict", "model.onnx", str(tmp_path), *arguments])

    return run


def test_table(command):
    result = command(bad=False)
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["picture", "face", "label", "probability", "next"]
    assert rows[1][1:] == ["no", "face", "found"]
    assert rows[2][1:7] == ["32", "x", "32", "at", "24,", "24"]
    assert rows[2][7:10] == ["red", "83.33", "%"]
    assert len(rows) == 5
    assert result.stderr == "3 faces in 2 pictures, no face in 1 picture\n"


def test_crops_without_a_face_suggest_to_detect_none(command, tmp_path):
    """Of four pictures without a face, two are small and nearly square."""
    for name, size in {"a": (48, 48), "b": (100, 110), "c": (640, 480)}.items():
        Image.new("RGB", size, (90, 90, 90)).save(tmp_path / f"{name}.png")
    hint = (
        "2 pictures without a face are small and nearly square. If your pictures are face crops, "
        "use --detector none."
    )
    for option in ("--json", "--csv"):
        result = command(option)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == hint
        assert hint not in result.stdout
    assert "without a face" not in command("--faces", "none", bad=False).output


@pytest.mark.parametrize("option", ["--detector", "--faces"])
@pytest.mark.parametrize("name", ["mtcnn", "yunet"])
def test_detector_is_chosen_by_its_name(command, monkeypatch, option, name):
    asked = []

    def make_detector(name):
        asked.append(name)
        return detect

    monkeypatch.setattr("kerasfer.predict.make_detector", make_detector)
    assert command(option, name, bad=False).exit_code == 0
    assert asked == [name]


def test_unknown_detector_is_refused(command):
    result = command("--detector", "haar")
    assert result.exit_code == 2
    assert "'haar' is not one of 'mtcnn', 'yunet', 'none'" in result.stderr


def test_a_batch_continues_after_a_bad_picture_and_fails_at_the_end(command):
    result = command()
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 5
    error, summary = result.stderr.splitlines()
    assert "zbad.png cannot be read as a picture" in error
    assert summary.endswith("no face in 1 picture, 1 picture could not be read")


def test_json_alone_is_on_stdout(command):
    result = command("--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["class_names"] == list(NAMES)
    none, one, two, bad = document["pictures"]
    assert none["faces"] == [] and none["error"] is None
    assert one["faces"][0]["label"] == "red"
    assert [face["label"] for face in two["faces"]] == ["blue", "green"]
    assert "cannot be read" in bad["error"]


def test_csv_has_a_row_a_face(command):
    result = command("--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["label"] for row in rows] == ["", "red", "blue", "green", ""]
    assert [row["face"] for row in rows] == ["", "1", "1", "2", ""]
    assert rows[3]["x"] == "84.0"
    assert float(rows[3]["green"]) == pytest.approx(200 / 240, abs=1e-3)
    assert "cannot be read" in rows[4]["error"]
    assert command("--csv", "--json").exit_code == 2


def test_annotations_never_overwrite_sources(command, tmp_path):
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    result = command("--annotate", str(tmp_path), bad=False)
    assert result.exit_code == 0
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    written = {path.name for path in tmp_path.glob("*.annotated.png")}
    assert written == {"one.annotated.png", "two.annotated.png", "none.annotated.png"}


def test_pattern_that_matches_nothing(command):
    result = CliRunner().invoke(main, ["predict", "model.onnx", "nowhere/*.png"])
    assert result.exit_code == 1
    assert "The pattern nowhere/*.png matches nothing" in result.stderr


def test_a_single_picture_is_not_a_sequence(runtime):
    predictor = Predictor(runtime, faces=detect)
    for single in ("one.jpg", Image.fromarray(scene("red")), scene("red")):
        with pytest.raises(ValueError, match="must be a sequence of pictures. Received: a single"):
            predictor(single)


def test_pil_pictures_are_accepted_and_none_is_explained(runtime):
    predictor = Predictor(runtime, faces=detect)
    ((face,),) = predictor([Image.fromarray(scene("blue")).convert("RGBA")])
    assert face.label == "blue"
    with pytest.raises(ValueError, match="Received: None, which cv2.imread returns for a file"):
        predictor([None])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[np.nan, 0.5, 0.5]], "returns values that are not probabilities, such as NaN"),
        ([[7.0, 0.5, 0.5]], "returns values that are not probabilities"),
        ([[0.5, 0.5]], r"of the shape \(1, 3\), one for each of its classes. Received: \(1, 2\)"),
    ],
)
def test_a_damaged_model_gives_no_numbers(values, message):
    runtime = Runtime("onnx", "model.onnx", NAMES, 16, lambda images: np.float32(values))
    with pytest.raises(RunError, match=message):
        runtime(np.zeros((1, 16, 16, 3), "float32"))
