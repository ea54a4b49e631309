import numpy as np
import pytest
from PIL import Image

from kerasfer.data import samples as samples_module
from kerasfer.data.datasets import affectnet
from kerasfer.data.picture_files import PictureFiles
from kerasfer.data.protocols import make_folds
from kerasfer.data.samples import limit
from kerasfer.errors import DataError, RecipeError

HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,"
    "valence,arousal"
)
LANDMARKS = ";".join(f"{number}.5;{number}.25" for number in range(68))
TRAINING = [
    # folder/picture, box, expression
    ("689/aa01.jpg", (10, 20, 30, 30), 1),
    ("689/aa02.JPG", (0, 0, 64, 64), 9),  # uncertain
    ("12/aa03.png", (-5, -5, 40, 40), 7),
    ("12/aa04.jpg", (0, 0, 64, 64), 10),  # no face
]
VALIDATION = [("12/bb01.jpg", (30, 30, 50, 50), 0), ("12/bb02.jpg", (1, 2, 40, 50), 8)]


def write_list(folder, name, rows, end="\n", header=HEADER):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [header] if header else []
    for picture, box, expression in rows:
        box = ",".join(map(str, box))
        lines.append(f"{picture},{box},{LANDMARKS},{expression},-0.17,0.2")
    (folder / name).write_text(end.join(lines) + end, newline="")


def release_2017(tmp_path, draw, end="\n", training=TRAINING, validation=VALIDATION):
    root = tmp_path / "affectnet"
    for seed, (picture, *_) in enumerate([*TRAINING, *VALIDATION]):
        path = root / "Manually_Annotated_Images" / picture
        draw(path, size=(64, 72), mode="RGB", seed=seed)
    write_list(root / "Manually_Annotated_file_lists", "training.csv", training, end)
    write_list(root / "Manually_Annotated_file_lists", "validation.csv", validation, end)
    return tmp_path


def release_2021(tmp_path, tree, codes=(0, 7, "3", 8, "1"), test_codes=("6", 2)):
    """Labels as numbers and as text, which both occur, and files that belong to other tasks."""
    root = tmp_path / "affectnet"
    for part, part_codes in (("train_set", codes), ("val_set", test_codes)):
        tree(*(f"{part}/images/{number}.jpg" for number in range(len(part_codes))), root=root)
        labels = root / part / "annotations"
        labels.mkdir(exist_ok=True)
        for number, code in enumerate(part_codes):
            np.save(labels / f"{number}_exp.npy", np.array(code))
            np.save(labels / f"{number}_val.npy", np.array("-0.5"))
            np.save(labels / f"{number}_lnd.npy", np.zeros(136))
    return tmp_path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_2017_skips_pictures_without_an_expression(tmp_path, draw, end):
    samples = affectnet.load(release_2017(tmp_path, draw, end))
    assert sorted(zip(samples.ids, samples.splits, strict=True)) == [
        ("12/aa03.png", "train"),
        ("12/bb01.jpg", "test"),
        ("689/aa01.jpg", "train"),
    ]
    classes = {
        name: samples.class_names[target]
        for name, target in zip(samples.ids, samples.targets, strict=True)
    }
    assert classes == {"12/aa03.png": "contempt", "12/bb01.jpg": "neutral", "689/aa01.jpg": "happy"}


def test_2017_cuts_faces_out_when_they_are_needed(tmp_path, draw):
    samples = affectnet.load(release_2017(tmp_path, draw))
    index = list(samples.ids).index("12/aa03.png")
    assert samples.pictures[index].box == (-5, -5, 40, 40)
    whole = np.asarray(Image.open(tmp_path / "affectnet/Manually_Annotated_Images/12/aa03.png"))
    np.testing.assert_array_equal(samples.picture(index), whole[:35, :35])
    test = samples.take(samples.splits == "test")
    assert test.picture(0).shape == (42, 34, 3)  # cut off at the picture's edge


def test_2017_a_picture_listed_twice_counts_once_and_preferably_as_test(tmp_path, draw):
    again = [*TRAINING, TRAINING[0], ("12/bb01.jpg", (0, 0, 9, 9), 3)]
    samples = affectnet.load(release_2017(tmp_path, draw, training=again))
    assert len(samples) == 3
    index = list(samples.ids).index("12/bb01.jpg")
    assert samples.splits[index] == "test"
    assert samples.targets[index] == 0


def test_2017_reads_spaces_backslashes_and_decimals(tmp_path, draw):
    release_2017(tmp_path, draw)
    lists = tmp_path / "affectnet/Manually_Annotated_file_lists"
    row = [("689\\aa01.jpg", ("10.0", " 20", "30", "30"), "1")]
    write_list(lists, "training.csv", row, header=HEADER.replace(",face_x", ", face_x"))
    samples = affectnet.load(tmp_path)
    index = list(samples.ids).index("689/aa01.jpg")
    assert samples.pictures[index].box == (10, 20, 30, 30)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("689/aa01.jpg", (1, 2, 3, 4), 11), "line 2: expression must be 0 to 10, got 11"),
        (("689/aa01.jpg", (1, 2, 3, 4), -1), "line 2: expression must be 0 to 10, got -1"),
        (("689/aa01.jpg", (1, 2, "x", 4), 1), "line 2: face_x, .* must be numbers, got '1, 2, x"),
        (("689/aa01.jpg", (1, 2, "inf", 4), 1), "line 2: face_x, .* must be numbers"),
        (("", (1, 2, 3, 4), 1), "line 2: the picture's path is missing"),
        (("689/zz.jpg", (1, 2, 3, 4), 1), "line 2: expected the picture .*zz.jpg, which does not"),
    ],
)
def test_2017_damage_is_named(tmp_path, draw, row, message):
    with pytest.raises(DataError, match=message):
        affectnet.load(release_2017(tmp_path, draw, training=[row]))


def test_2017_missing_parts_are_named(tmp_path, draw):
    release_2017(tmp_path, draw)
    lists = tmp_path / "affectnet/Manually_Annotated_file_lists"
    write_list(lists, "training.csv", TRAINING, header=None)
    with pytest.raises(
        DataError, match="training.csv must have the columns subDirectory_filePath, fac"
    ):
        affectnet.load(tmp_path)
    (lists / "training.csv").unlink()
    with pytest.raises(DataError, match="is incomplete: expected .*training.csv"):
        affectnet.load(tmp_path)


def test_a_box_outside_the_picture_is_named_when_it_is_read(tmp_path, draw):
    row = [("689/aa01.jpg", (64, 0, 20, 20), 1)]
    samples = affectnet.load(release_2017(tmp_path, draw, training=row))
    with pytest.raises(
        DataError, match=r"aa01.jpg .* face box \(64, 0, 20, 20\) .* 64 x 72 pixels"
    ):
        samples.picture(list(samples.ids).index("689/aa01.jpg"))


def test_2021_reads_labels_as_numbers_and_as_text(tmp_path, tree):
    samples = affectnet.load(release_2021(tmp_path, tree))
    assert list(samples.ids) == [
        *("val_set/images/0.jpg", "val_set/images/1.jpg", "train_set/images/0.jpg"),
        *("train_set/images/1.jpg", "train_set/images/2.jpg", "train_set/images/4.jpg"),
    ]
    assert list(samples.targets) == [6, 2, 0, 7, 3, 1]
    assert list(samples.splits) == ["test"] * 2 + ["train"] * 4
    assert samples.picture(5).shape == (48, 48, 3)


def test_2021_sorts_ids_as_numbers_and_accepts_upper_case_suffixes(tmp_path, tree):
    release_2021(tmp_path, tree, codes=[1] * 12)
    folder = tmp_path / "affectnet/train_set/images"
    (folder / "3.jpg").rename(folder / "3.JPG")
    (folder / "Thumbs.db").touch()
    ids = [name.rpartition("/")[2] for name in affectnet.load(tmp_path).ids[2:]]
    assert ids == [f"{number}.{'JPG' if number == 3 else 'jpg'}" for number in range(12)]


def test_2021_pictures_without_label_file_are_left_out(tmp_path, tree):
    release_2021(tmp_path, tree)
    (tmp_path / "affectnet/train_set/annotations/1_exp.npy").unlink()
    assert "train_set/images/1.jpg" not in list(affectnet.load(tmp_path).ids)


def test_2021_damage_is_named(tmp_path, tree):
    labels = release_2021(tmp_path, tree) / "affectnet/train_set/annotations"
    np.save(labels / "1_exp.npy", np.array("happy"))
    with pytest.raises(DataError, match="1_exp.npy cannot be read as one number"):
        affectnet.load(tmp_path)
    np.save(labels / "1_exp.npy", np.array(np.inf))
    with pytest.raises(DataError, match="1_exp.npy cannot be read as one number"):
        affectnet.load(tmp_path)
    np.save(labels / "1_exp.npy", np.array(11))
    with pytest.raises(DataError, match="1_exp.npy must hold a number from 0 to 10. Found: 11"):
        affectnet.load(tmp_path)
    (labels / "1_exp.npy").write_bytes(b"")
    with pytest.raises(DataError, match="1_exp.npy cannot be read as one number"):
        affectnet.load(tmp_path)
    np.save(labels / "1_exp.npy", np.array(1))
    (tmp_path / "affectnet/train_set/images/1.jpg").unlink()
    with pytest.raises(DataError, match="lacks 1 of the pictures that annotations/ labels, 1.jpg"):
        affectnet.load(tmp_path)


def test_2021_runs_no_code_that_hides_in_a_label(tmp_path, tree):
    labels = release_2021(tmp_path, tree) / "affectnet/train_set/annotations"
    np.save(labels / "1_exp.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="1_exp.npy cannot be read .*allow_pickle=False"):
        affectnet.load(tmp_path)


def test_no_picture_is_decoded_before_a_batch_needs_it(tmp_path, draw, monkeypatch):
    """A stand-in for 287,651 pictures: `tests/benchmarks/memory.py` measures 100,000."""
    from kerasfer.data.batches import Batches, Training  # with Keras

    picture = tmp_path / "affectnet/Manually_Annotated_Images/1/face.jpg"
    draw(picture, size=(64, 72), mode="RGB")
    rows = []
    for number in range(400):
        (picture.parent / f"{number}.jpg").hardlink_to(picture)
        rows.append((f"1/{number}.jpg", (0, 0, 60, 60), number % 8))
    lists = tmp_path / "affectnet/Manually_Annotated_file_lists"
    write_list(lists, "training.csv", rows[80:])
    write_list(lists, "validation.csv", rows[:80])

    decoded, read_picture = [], samples_module.read_picture
    monkeypatch.setattr(
        samples_module,
        "read_picture",
        lambda file, **options: decoded.append(file) or read_picture(file, **options),
    )
    samples = affectnet.load(tmp_path)
    (fold,) = make_folds(samples)
    batches = Batches(limit(fold.train, 200), 48, 16, training=Training(), workers=0)
    assert decoded == []
    assert isinstance(batches.samples.pictures, PictureFiles)
    assert batches[3][0].shape == (16, 48, 48, 3)
    assert len(decoded) == 16
    per_picture = samples.pictures.names._names.itemsize + samples.pictures.boxes[0].nbytes
    assert per_picture < 100  # bytes


def test_the_release_may_be_chosen(tmp_path, draw, tree):
    release_2017(tmp_path, draw)
    with pytest.raises(DataError, match="AffectNet was not found. Expected .*train_set,val_set"):
        affectnet.load(tmp_path, release=2021)
    release_2021(tmp_path, tree)
    assert len(affectnet.load(tmp_path)) == 3
    assert len(affectnet.load(tmp_path, release=2021)) == 6
    with pytest.raises(RecipeError, match="data.release must be one of .*Received: 2019"):
        affectnet.load(tmp_path, release=2019)


def test_missing_data_shows_both_trees(tmp_path):
    with pytest.raises(
        DataError, match="not found. Expected .*file_lists.* or .*val_set.*Apply for it at http"
    ):
        affectnet.load(tmp_path)


def test_only_other_faces_are_no_dataset(tmp_path, tree):
    with pytest.raises(DataError, match="holds no labeled face of the eight expressions"):
        affectnet.load(release_2021(tmp_path, tree, codes=(8, 9), test_codes=(10,)))
