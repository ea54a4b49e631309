import os

import numpy as np
import pytest

from kerasfer.data.datasets import folder
from kerasfer.data.protocols import make_folds
from kerasfer.errors import DataError, RecipeError


def faces(part, num, classes=("happy", "sad")):
    prefix = f"faces/{part}/" if part else "faces/"
    return [f"{prefix}{name}/{i}.jpg" for name in classes for i in range(num)]


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_parts_become_splits(tree, validation):
    root = tree(*faces("train", 3), *faces(validation, 2), *faces("test", 1))
    samples = folder.load(root, path="faces")
    assert samples.class_names == ("happy", "sad")
    assert [(samples.splits == split).sum() for split in ("train", "validation", "test")] == [
        6,
        4,
        2,
    ]
    assert samples.ids[0] == "train/happy/0.jpg"
    assert samples.subjects is None


def test_a_path_may_be_absolute(tree, tmp_path):
    root = tree(*faces("train", 3), *faces("test", 1))
    assert len(folder.load("elsewhere", path=str(root / "faces"))) == 8


@pytest.mark.parametrize("part", ["train", ""])
def test_without_test_a_fixed_fifth_is_held_out(tree, part):
    samples = folder.load(tree(*faces(part, 10)), path="faces")
    held_out = samples.splits == "test"
    assert held_out.sum() == 4
    np.testing.assert_array_equal(np.bincount(samples.targets[held_out]), [2, 2])
    tests = {tuple(make_folds(samples, seed=seed)[0].test.ids) for seed in (0, 1, 2)}
    assert len(tests) == 1


def test_hidden_folders_and_files_are_passed_over(tree):
    root = tree(*faces("train", 5), *faces("test", 1), "faces/train/.ipynb_checkpoints/0.jpg")
    assert folder.load(root, path="faces").class_names == ("happy", "sad")


def test_parts_must_have_the_same_classes(tree):
    root = tree(*faces("train", 3), *faces("test", 1, ("joy", "sad")))
    with pytest.raises(DataError, match="test/joy is not a class of .*train, which has happy, sad"):
        folder.load(root, path="faces")


def test_an_empty_class_is_named(tree):
    root = tree(*faces("train", 3))
    (root / "faces/train/fear").mkdir()
    with pytest.raises(DataError, match="fear holds no pictures"):
        folder.load(root, path="faces")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["faces/readme.png"], "at least two class folders. Found: none"),
        (["faces/train/happy/0.png"], "at least two class folders. Found: happy"),
        ([*faces("test", 1)], "must have train/ next to test"),
        ([*faces("train", 1), *faces("val", 1), *faces("validation", 1)], "both val/ and valid"),
    ],
)
def test_an_incomplete_tree_is_refused(tree, files, message):
    with pytest.raises(DataError, match=message):
        folder.load(tree(*files), path="faces")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="faces was not found. .* Expected in it: {train,val,test}"):
        folder.load(tmp_path, path="faces")
    with pytest.raises(RecipeError, match="data.path must name the folder"):
        folder.load(tmp_path)


# Common layouts


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("Train", "Valid", "Test"), ("training", "val", "testing"), ("train_set", "dev", "test_set")],
)
def test_splits_are_known_by_their_usual_names(tree, train, validation, test):
    root = tree(*faces(train, 3), *faces(validation, 2), *faces(test, 1))
    samples = folder.load(root, path="faces")
    assert samples.class_names == ("happy", "sad")
    assert [(samples.splits == split).sum() for split in ("train", "validation", "test")] == [
        *(6, 4, 2),
    ]
    assert samples.drawn_splits == ()


def test_everything_is_used_or_reported(tree):
    root = tree(
        *faces("train", 4),
        *faces("test", 1),
        *("faces/train/happy/2020/a.jpg", "faces/train/happy/2020/May/b.jpg"),
        *("faces/train/@eaDir/a.jpg", "faces/train/happy/@eaDir/thumb.jpg"),
        "faces/train/loose.jpg",
        "faces/extra/happy/0.jpg",
    )
    (root / "faces/train/sad/notes.txt").touch()
    (root / "faces/train/sad/more.txt").touch()
    (root / "faces/train/sad/phone.HEIC").touch()
    samples = folder.load(root, path="faces")
    assert len(samples) == 12 and "train/happy/2020/May/b.jpg" in samples.ids
    assert samples.notes == (
        "used 12 pictures: train 10, validation 0, test 2",
        "ignored extra/ next to train/",
        "ignored 1 pictures in train/ outside of class folders",
        "skipped 3 files that are not supported pictures: 2 .txt, 1 .heic (convert HEIC to JPEG)",
    )


def test_a_drawn_test_split_is_reported_and_has_every_class(tree):
    root = tree(*faces("", 30), "faces/fear/0.jpg", "faces/fear/1.jpg", "faces/disgust/0.jpg")
    samples = folder.load(root, path="faces")
    assert samples.drawn_splits == ("test",)
    tested = samples.targets[samples.splits == "test"]
    assert {samples.class_names[target] for target in tested} == {"happy", "sad", "fear"}
    assert "test has no picture of: disgust" in samples.notes
    assert any(f"no test folder: drew {len(tested)} of train" in note for note in samples.notes)


def test_a_split_may_lack_a_class_and_differ_in_case(tree):
    root = tree(*faces("train", 3, ("fear", "happy", "sad")), *faces("test", 1, ("Happy", "SAD")))
    samples = folder.load(root, path="faces")
    tested = samples.splits == "test"
    assert [samples.class_names[target] for target in samples.targets[tested]] == ["happy", "sad"]
    assert samples.notes[1:] == ("test has no picture of: fear",)


def test_an_enclosing_folder_is_passed(tree):
    root = tree(*(f"faces/{path}" for path in faces("train", 3) + faces("test", 1)))
    samples = folder.load(root, path="faces")
    assert len(samples) == 8 and samples.ids[0] == "faces/train/happy/0.jpg"


def test_symbolic_links_may_form_a_circle(tree):
    root = tree(*faces("", 3))
    (root / "faces/happy/again").symlink_to(root / "faces/happy")
    assert len(folder.load(root, path="faces")) == 6


def test_two_folders_are_two_datasets(tree, tmp_path):
    tree(*faces("", 5), root=tmp_path / "a")
    tree(*faces("", 5), root=tmp_path / "b")
    one, other = (folder.load(tmp_path / name, path="faces") for name in "ab")
    assert one.source != other.source
    again = folder.load(tmp_path, path=str(tmp_path / "a/faces"))
    assert one.take([0, 1]).source == again.source


def test_names_that_are_not_utf8_have_ids_that_are(tree):
    root = tree(*faces("", 5))
    first = root / "faces/happy/0.jpg"
    os.rename(first, os.fsencode(first.parent) + b"/caf\xe9.jpg")
    os.rename(root / "faces/sad", os.fsencode(root) + b"/faces/tr\xefste")
    samples = folder.load(root, path="faces")
    assert "happy/caf\\xe9.jpg" in samples.ids and samples.class_names == ("happy", "tr\\xefste")
    "".join([*samples.ids, *samples.class_names]).encode("utf-8")
    assert samples.picture(list(samples.ids).index("happy/caf\\xe9.jpg")).shape == (48, 48, 3)
