import pytest

from kerasfer.data.datasets import ckplus
from kerasfer.errors import DataError


def official(tmp_path, tree):
    """Three labeled sequences of two persons, one unlabeled, and a stray file of a Mac."""
    root = tmp_path / "ckplus"
    for sequence, num_frames, code in [
        ("S005/001", 5, 3),
        ("S005/002", 4, 1),
        ("S010/001", 3, 7),
        ("S010/002", 6, None),
    ]:
        name = sequence.replace("/", "_")
        tree(
            *(f"{sequence}/{name}_{frame:08}.png" for frame in range(1, num_frames + 1)),
            root=root / "cohn-kanade-images",
        )
        label_folder = root / "Emotion" / sequence
        label_folder.mkdir(parents=True)
        if code is not None:
            path = label_folder / f"{name}_{num_frames:08}_emotion.txt"
            path.write_text(f"   {code:.7e}\n")
    (root / "cohn-kanade-images" / "S005" / ".DS_Store").touch()
    (root / "Emotion" / "S010" / ".DS_Store").touch()
    return tmp_path


def test_the_last_three_frames_carry_the_label(tmp_path, tree):
    samples = ckplus.load(official(tmp_path, tree))
    assert samples.class_names[0] == "anger"
    assert samples.class_names[6] == "surprise"
    assert [samples.class_names[target] for target in samples.targets] == (
        ["disgust"] * 3 + ["anger"] * 3 + ["surprise"] * 3
    )
    assert samples.ids[0] == "S005/001/S005_001_00000003.png"
    assert list(samples.subjects) == ["S005"] * 6 + ["S010"] * 3
    assert samples.protocol == "subjects"
    assert samples.splits is None


def test_neutral_adds_first_frames_that_are_no_peak(tmp_path, tree):
    samples = ckplus.load(official(tmp_path, tree), neutral=True)
    assert len(samples.class_names) == 8
    names = [samples.class_names[target] for target in samples.targets]
    assert names == ["neutral", *["disgust"] * 3, "neutral", *["anger"] * 3, *["surprise"] * 3]
    assert samples.ids[0] == "S005/001/S005_001_00000001.png"


@pytest.mark.parametrize("text", ["", "happy", "9.0", "2.5"])
def test_an_invalid_label_is_named(tmp_path, tree, text):
    official(tmp_path, tree)
    path = next(tmp_path.glob("ckplus/Emotion/S005/001/*.txt"))
    path.write_text(text)
    with pytest.raises(DataError, match=f"{path.name} must hold a number .* Found: '{text}'"):
        ckplus.load(tmp_path)


def test_missing_frames_are_named(tmp_path, tree):
    official(tmp_path, tree)
    for path in (tmp_path / "ckplus/cohn-kanade-images/S005/002").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="002 must hold the frames .* Found: 0"):
        ckplus.load(tmp_path)


def derived(tree, place, classes=ckplus.CLASS_NAMES):
    return tree(*(f"{place}/{name}/S{i:03}_004_00000017.PNG" for i, name in enumerate(classes)))


@pytest.mark.parametrize("place", ["ckplus/CK+48", "CK+48", "ckplus"])
def test_the_derived_folder_is_read(tree, place):
    samples = ckplus.load(derived(tree, place))
    assert list(samples.targets) == [0, 1, 2, 3, 4, 5, 6]
    assert list(samples.subjects) == [f"S{i:03}" for i in range(7)]
    assert samples.ids[0] == "anger/S000_004_00000017.PNG"


def test_the_derived_folder_has_no_neutral(tree):
    with pytest.raises(DataError, match="data.neutral needs the first frames"):
        ckplus.load(derived(tree, "CK+48"), neutral=True)


def test_the_derived_folder_must_be_whole(tree):
    with pytest.raises(DataError, match="must have the class folders .*Found: anger, contempt"):
        ckplus.load(derived(tree, "CK+48", ckplus.CLASS_NAMES[:-1]))


def test_a_name_without_subject_is_refused(tree):
    tree("CK+48/happy/face.png")
    with pytest.raises(DataError, match="face.png: the file name must contain subject"):
        ckplus.load(derived(tree, "CK+48"))


def test_missing_data_shows_what_is_expected(tmp_path):
    with pytest.raises(DataError, match="CK\\+ was not found.*cohn-kanade-images.*Apply for it"):
        ckplus.load(tmp_path)
