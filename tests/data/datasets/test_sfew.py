import numpy as np
import pytest
from test_rafdb import official as rafdb_tree

from kerasfer.data.datasets import sfew
from kerasfer.errors import DataError

FOLDERS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


def official(tmp_path, tree, ending="", folders=FOLDERS):
    tree(
        *(
            f"sfew/Train_Aligned_Faces{ending}/{name}/film_{i}.png"
            for name in folders
            for i in (0, 1)
        ),
        *(f"sfew/Val_Aligned_Faces{ending}/{name}/film.PNG" for name in folders),
    )
    (tmp_path / f"sfew/Train_Aligned_Faces{ending}/Thumbs.db").touch()
    return tmp_path


@pytest.mark.parametrize("ending", ["", "_new", "_new/Train_Aligned_Faces_new"])
def test_validation_pictures_are_the_test_split(tmp_path, tree, ending):
    if "/" in ending:  # unpacked into a folder of the archive's name
        tree(*(f"sfew/Val_Aligned_Faces_new/{name}/film.PNG" for name in FOLDERS))
        names = [f"{name}/film_{i}.png" for name in FOLDERS for i in (0, 1)]
        tree(*(f"sfew/Train_Aligned_Faces{ending}/{name}" for name in names))
    else:
        official(tmp_path, tree, ending)
    samples = sfew.load(tmp_path)
    assert samples.class_names == (
        *("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
    )
    assert (samples.splits == "train").sum() == 14
    np.testing.assert_array_equal(samples.targets[samples.splits == "test"], range(7))
    assert samples.ids[-1].endswith("Surprise/film.PNG")
    assert samples.picture(0).shape == (48, 48, 3)


def test_rafdb_joins_the_training_split_by_name(tmp_path, tree):
    rafdb_tree(tmp_path, tree)
    samples = sfew.load(official(tmp_path, tree), with_rafdb=True)
    joined = [index for index, name in enumerate(samples.ids) if name.startswith("rafdb/")]
    assert [samples.ids[index] for index in joined] == [
        *("rafdb/train_00001.jpg", "rafdb/train_00002.jpg", "rafdb/train_00003.jpg"),
    ]
    names = [samples.class_names[samples.targets[index]] for index in joined]
    assert names == ["sad", "surprise", "neutral"]
    assert set(samples.splits[joined]) == {"train"}
    assert samples.pictures[joined[0]].name == "train_00001_aligned.jpg"


def test_every_class_of_rafdb_has_a_name_here():
    from kerasfer.data.datasets import rafdb

    names = {sfew.RAFDB_NAMES.get(name, name) for name in rafdb.CLASS_NAMES}
    assert names == set(sfew.CLASS_NAMES)


def test_incomplete_releases_are_named(tmp_path, tree):
    with pytest.raises(DataError, match="SFEW 2.0 was not found.*_new/<class>.*Apply for it"):
        sfew.load(tmp_path)
    with pytest.raises(DataError, match="Faces must have the class folders .*Found: angry, disg"):
        sfew.load(official(tmp_path, tree, folders=FOLDERS[:-1]))
    official(tmp_path, tree)
    (tmp_path / "sfew/Val_Aligned_Faces/Fear/film.PNG").unlink()
    with pytest.raises(DataError, match="Val_Aligned_Faces.Fear holds no pictures"):
        sfew.load(tmp_path)
    with pytest.raises(DataError, match="RAF-DB was not found"):
        sfew.load(official(tmp_path, tree), with_rafdb=True)
