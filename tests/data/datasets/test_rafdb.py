import numpy as np
import pytest
from PIL import Image

from kerasfer.data.datasets import rafdb
from kerasfer.data.protocols import make_folds
from kerasfer.errors import DataError

LINES = [
    "train_00001.jpg 5",
    "train_00002.jpg 1",
    "train_00003.jpg 7",
    "test_0001.jpg 4",
    "test_0002.jpg 6",
]


def official(tmp_path, tree, lines=LINES, end="\n"):
    """The tree of the basic set: a label file, and aligned pictures of 100 x 100."""
    root = tmp_path / "rafdb"
    names = [line.split()[0].replace(".", "_aligned.") for line in LINES]
    tree(*(f"Image/aligned/{name}" for name in names), root=root)
    path = root / "EmoLabel" / "list_patition_label.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(end.join(lines) + end, newline="")
    return tmp_path


@pytest.mark.parametrize("end", ["\n", "\r\n", " \r\n"])
def test_codes_count_from_one(tmp_path, tree, end):
    samples = rafdb.load(official(tmp_path, tree, end=end))
    assert [samples.class_names[target] for target in samples.targets] == [
        *("sadness", "surprise", "neutral", "happiness", "anger"),
    ]
    assert list(samples.ids) == [line.split()[0] for line in LINES]
    assert list(samples.splits) == ["train", "train", "train", "test", "test"]
    expected = np.asarray(Image.open(tmp_path / "rafdb/Image/aligned/test_0001_aligned.jpg"))
    np.testing.assert_array_equal(samples.picture(3)[..., 0], expected)


def test_validation_is_drawn_from_training(tmp_path, tree):
    (fold,) = make_folds(rafdb.load(official(tmp_path, tree)), validation_fraction=0.4)
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (2, 1, 2)


def test_upper_case_suffixes_and_pictures_without_label(tmp_path, tree):
    official(tmp_path, tree)
    folder = tmp_path / "rafdb/Image/aligned"
    (folder / "train_00002_aligned.jpg").rename(folder / "train_00002_aligned.JPG")
    tree("train_00009_aligned.jpg", root=folder)
    samples = rafdb.load(tmp_path)
    assert len(samples) == 5
    assert samples.pictures[1].name == "train_00002_aligned.JPG"
    assert samples.picture(1).shape == (48, 48, 3)


def test_a_repeated_line_counts_once(tmp_path, tree):
    assert len(rafdb.load(official(tmp_path, tree, lines=[*LINES, "", LINES[0]]))) == 5
    with pytest.raises(DataError, match="line 6: train_00001.jpg has another class"):
        rafdb.load(official(tmp_path, tree, lines=[*LINES, "train_00001.jpg 4"]))


@pytest.mark.parametrize(
    "line", ["train_00001.jpg 8", "train_00001.jpg 0", "train_00001.jpg", "x 1"]
)
def test_damage_is_named(tmp_path, tree, line):
    with pytest.raises(
        DataError, match=f"line 6: expected a picture and a code .* Found: '{line}'"
    ):
        rafdb.load(official(tmp_path, tree, lines=[*LINES, line]))


def test_an_empty_label_file_is_named(tmp_path, tree):
    with pytest.raises(DataError, match="list_patition_label.txt is empty"):
        rafdb.load(official(tmp_path, tree, lines=[]))


def test_missing_pictures_are_counted(tmp_path, tree):
    official(tmp_path, tree)
    (tmp_path / "rafdb/Image/aligned/test_0002_aligned.jpg").unlink()
    with pytest.raises(DataError, match="lacks 1 of the 5 pictures .* test_0002_aligned.jpg"):
        rafdb.load(tmp_path)


def test_missing_data_shows_what_is_expected(tmp_path):
    with pytest.raises(
        DataError, match="RAF-DB was not found.*list_patition_label.txt and .*Apply for it at http"
    ):
        rafdb.load(tmp_path)
