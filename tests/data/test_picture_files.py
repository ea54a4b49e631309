import numpy as np
import pytest
from PIL import Image

from kerasfer.data.picture_files import FaceInPicture, Names, PictureFiles
from kerasfer.data.pictures import read_picture
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import DataError


def test_names_are_a_sequence_of_strings():
    names = Names(["a.jpg", "longer/名字.jpg", "c.jpg"])
    assert len(names) == 3
    assert names[1] == "longer/名字.jpg"
    assert names[-1] == "c.jpg"
    assert list(names) == ["a.jpg", "longer/名字.jpg", "c.jpg"]
    assert list(names[:2]) == ["a.jpg", "longer/名字.jpg"]
    assert list(names.take(np.array([2, 0]))) == ["c.jpg", "a.jpg"]
    assert "c.jpg" in names
    with pytest.raises(IndexError):
        names[3]


def test_files_are_paths_or_faces_in_them(tmp_path):
    files = PictureFiles(tmp_path, ["a.jpg", "b/c.jpg"])
    assert files[1] == tmp_path / "b/c.jpg"
    assert list(files[1:]) == [tmp_path / "b/c.jpg"]
    boxed = PictureFiles(tmp_path, files.names, [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert boxed[1] == FaceInPicture(tmp_path / "b/c.jpg", (5, 6, 7, 8))
    assert boxed.take(np.array([1]))[0].box == (5, 6, 7, 8)
    with pytest.raises(ValueError, match="`boxes` must have the shape .* Received: .2, 2. for 2"):
        PictureFiles(tmp_path, files.names, [[1, 2], [3, 4]])


def test_samples_keep_them_compact_and_decode_when_asked(tmp_path, tree):
    tree("a.png", "b.png", "c.png")
    files = PictureFiles(tmp_path, ["a.png", "b.png", "c.png"], [[0, 0, 48, 48]] * 3)
    samples = Samples(
        name="drawn",
        class_names=("happy", "sad"),
        pictures=files,
        labels=one_hot([0, 1, 0], 2),
        ids=files.names,
    )
    taken = samples.take([2, 1])
    assert isinstance(taken.pictures, PictureFiles) and isinstance(taken.ids, Names)
    assert list(taken.ids) == ["c.png", "b.png"]
    np.testing.assert_array_equal(taken.picture(0), read_picture(tmp_path / "c.png"))


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((10, 4, 20, 30), slice(4, 34), slice(10, 30)),
        ((-8, -8, 20, 20), slice(0, 12), slice(0, 12)),
        ((30, 20, 99, 99), slice(20, 40), slice(30, 48)),
    ],
)
def test_a_face_is_its_box_within_the_picture(tmp_path, draw, box, rows, columns):
    path = draw(tmp_path / "crowd.png", size=(48, 40), mode="RGB")
    face = read_picture(FaceInPicture(path, box))
    np.testing.assert_array_equal(face, np.asarray(Image.open(path))[rows, columns])


@pytest.mark.parametrize("box", [(48, 0, 10, 10), (0, -20, 10, 20), (5, 5, 0, 10)])
def test_a_box_without_picture_is_named(tmp_path, draw, box):
    path = draw(tmp_path / "crowd.png", size=(48, 40))
    with pytest.raises(DataError, match="crowd.png cannot be read .* must lie in the picture"):
        read_picture(FaceInPicture(path, box))


def test_tiny_boxes_are_ignored(tmp_path, draw):
    path = draw(tmp_path / "crowd.png")
    with pytest.raises(DataError, match="crowd.png is too small to show a face: .* got 4 x 20"):
        read_picture(FaceInPicture(path, (0, 0, 4, 20)))
