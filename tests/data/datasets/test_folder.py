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
    with pytest.raises(DataError, match="faces was not found. Expected in it: {train,val,test}"):
        folder.load(tmp_path, path="faces")
    with pytest.raises(RecipeError, match="data.path must name the folder"):
        folder.load(tmp_path)
