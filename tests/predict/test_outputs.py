import pytest
from PIL import Image

from kerasfer.errors import DataError
from kerasfer.predict.outputs import OutputNames, find_pictures


@pytest.fixture
def album(tmp_path):
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    for name in ("b.png", "a.jpg", "deep/c.png", "deep/deeper/d.PNG", "face[1].png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / ".hidden.png").write_text("none")
    return tmp_path


def names(pictures):
    return [path.name for path in pictures]


def test_files_folders_and_patterns(album):
    assert names(find_pictures([album / "b.png"])) == ["b.png"]
    assert names(find_pictures([album / "notes.txt"])) == ["notes.txt"]  # named: to be tried
    assert names(find_pictures([album])) == ["a.jpg", "b.png", "face[1].png"]
    assert names(find_pictures([f"{album}/*.png"])) == ["b.png", "face[1].png"]
    assert sorted(names(find_pictures([f"{album}/**/*.*"]))) == sorted(
        ["a.jpg", "b.png", "c.png", "d.PNG", "face[1].png"]
    )


def test_each_picture_once_in_the_given_order(album):
    assert names(find_pictures([album / "b.png", album])) == ["b.png", "a.jpg", "face[1].png"]


def test_name_with_brackets_is_a_name(album):
    assert names(find_pictures([album / "face[1].png"])) == ["face[1].png"]


def test_what_is_missing_is_told(album, tmp_path):
    with pytest.raises(DataError, match=r"pattern .*\.gif matches nothing. Expected names"):
        find_pictures([f"{album}/*.gif"])
    with pytest.raises(DataError, match="matches only files that are not pictures"):
        find_pictures([f"{album}/*.txt"])
    with pytest.raises(DataError, match="none.png, which does not exist"):
        find_pictures([album / "b.png", album / "none.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="Expected pictures in .*empty, but none ends in"):
        find_pictures([tmp_path / "empty"])


def test_outputs_have_names_of_their_own(tmp_path):
    pictures = [tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg", tmp_path / "2.png"]
    names_of = OutputNames(pictures, tmp_path / "out", ".seen.png")
    outputs = [names_of.take(picture) for picture in pictures]
    assert names(outputs) == ["1.seen.png", "1_2.seen.png", "2.seen.png"]


def test_no_output_is_a_source(tmp_path):
    pictures = [tmp_path / "1.jpg", tmp_path / "1.seen.png"]
    names_of = OutputNames(pictures, tmp_path, ".seen.png")
    outputs = [names_of.take(picture) for picture in pictures]
    assert names(outputs) == ["1_2.seen.png", "1.seen.seen.png"]
    assert not set(outputs) & set(pictures)


def test_a_second_face_and_a_picture_called_face2_get_different_names(tmp_path):
    pictures = [tmp_path / "a.jpg", tmp_path / "a.face2.jpg"]
    names_of = OutputNames(pictures, tmp_path, ".png")
    taken = [names_of.take(pictures[0]), names_of.take(pictures[0], 2), names_of.take(pictures[1])]
    assert names(taken) == ["a.png", "a.face2.png", "a.face2_2.png"]
