import tarfile

import numpy as np
import pytest

from kerasfer.data.datasets import fer2013
from kerasfer.errors import DataError

ROWS = [(3, "Training"), (0, "Training"), (6, "PublicTest"), (1, "PrivateTest")]
PIXELS = [np.random.default_rng(number).integers(0, 256, 2304) for number in range(len(ROWS))]


def write_csv(tmp_path, name="fer2013.csv", end="\n", change=None):
    """Writes the four rows as the release `name` has them; `change` edits the lines."""
    lines = ["emotion,pixels,Usage"]
    for (emotion, usage), pixels in zip(ROWS, PIXELS, strict=True):
        lines.append(f"{emotion},{' '.join(map(str, pixels))},{usage}")
    if name == "icml_face_data.csv":
        lines = ["emotion, Usage, pixels"]
        for (emotion, usage), pixels in zip(ROWS, PIXELS, strict=True):
            lines.append(f"{emotion},{usage},{' '.join(map(str, pixels))}")
    if change:
        change(lines)
    path = tmp_path / "fer2013" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(end.join(lines) + end, newline="")
    return path


@pytest.mark.parametrize("name", ["fer2013.csv", "icml_face_data.csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_both_csv_releases_are_read(tmp_path, name, end):
    write_csv(tmp_path, name, end)
    samples = fer2013.load(tmp_path)
    assert samples.name == "fer2013"
    assert samples.pictures.dtype == np.uint8
    np.testing.assert_array_equal(samples.pictures, np.reshape(PIXELS, (4, 48, 48)))
    assert [samples.class_names[target] for target in samples.targets] == [
        "happy",
        "angry",
        "neutral",
        "disgust",
    ]
    assert list(samples.splits) == ["train", "train", "validation", "test"]
    assert samples.ids[0] == f"{name}:2"
    assert samples.protocol == "official"


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = write_csv(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(fer2013.load(tmp_path)) == 4


def edit(line, old, new):
    def change(lines):
        lines[line] = lines[line].replace(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit(2, ",Training", " 7,Training"), "line 3: expected 2304 pixels, got 2305"),
        (edit(2, f"0,{PIXELS[1][0]} ", "0,256 "), "line 3: pixels must be 0 to 255, got 0 to 256"),
        (edit(2, f"0,{PIXELS[1][0]} ", "0,x "), "line 3: "),
        (edit(3, "6,", "7,"), "line 4: the emotion must be 0 to 6, got '7'"),
        (edit(3, "6,", "happy,"), "line 4: the emotion must be 0 to 6, got 'happy'"),
        (edit(1, "Training", "Test"), "line 2: Usage must be one of .* got 'Test'"),
        (edit(4, ",PrivateTest", ""), "line 5: Usage must be one of .*, got ''"),
        (edit(0, "emotion", "label"), "must have the columns emotion, pixels. Missing: emotion"),
        (lambda lines: lines.__delitem__(slice(1, None)), "has a header but no rows"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, change, message):
    write_csv(tmp_path, change=change)
    with pytest.raises(DataError, match=f"fer2013.csv.*{message}"):
        fer2013.load(tmp_path)


FOLDERS = [
    f"fer2013/{part}/{name}/{file}"
    for part, files in {
        "train": ["Training_1.jpg", "Training_2.JPG"],
        "test": ["PublicTest_3.jpg", "PrivateTest_4.jpg"],
    }.items()
    for name in ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    for file in files
]


def test_the_folder_release_is_read(tmp_path, tree):
    tree(*FOLDERS)
    samples = fer2013.load(tmp_path)
    assert len(samples) == 28
    for path, target, split in zip(samples.pictures, samples.targets, samples.splits, strict=True):
        assert path.parent.name == samples.class_names[target]
        expected = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
        assert split == expected[path.name.split("_")[0]]
    assert samples.ids[0] == "train/angry/Training_1.jpg"


def test_the_folder_release_must_be_whole(tmp_path, tree):
    tree(*(path for path in FOLDERS if "test/fear" not in path))
    with pytest.raises(
        DataError, match="test must have the class folders .*Found: angry, disgust,"
    ):
        fer2013.load(tmp_path)


def test_a_picture_without_usage_is_named(tmp_path, tree):
    tree(*FOLDERS, "fer2013/test/fear/im12.jpg")
    with pytest.raises(DataError, match="im12.jpg: the file name must begin with PublicTest_"):
        fer2013.load(tmp_path)


def test_missing_data_shows_what_is_expected(tmp_path):
    with pytest.raises(DataError, match="icml_face_data.csv.*kaggle.com.*--data-dir"):
        fer2013.load(tmp_path)


# Copies that differ from the release


@pytest.mark.parametrize("value", ["65543", "-1", "4294967303", "18446744073709551623", "7.5"])
def test_a_pixel_never_wraps_around(tmp_path, value):
    write_csv(tmp_path, change=edit(2, f"0,{PIXELS[1][0]} ", f"0,{value} "))
    with pytest.raises(
        DataError, match="fer2013.csv, line 3: (pixels must be|expected 2304|string or file)"
    ):
        fer2013.load(tmp_path)


def test_a_csv_without_usage_follows_the_order_of_the_release(tmp_path, monkeypatch):
    def without_usage(lines):
        lines[:] = [line.rpartition(",")[0] for line in lines]

    write_csv(tmp_path, change=without_usage)
    with pytest.raises(DataError, match="no column Usage, .* and 4 rows instead of 35,887"):
        fer2013.load(tmp_path)
    numbers = {"Training": 2, "PublicTest": 1, "PrivateTest": 1}
    monkeypatch.setattr(fer2013, "NUM_ROWS", numbers)
    samples = fer2013.load(tmp_path)
    assert list(samples.splits) == ["train", "train", "validation", "test"]
    assert "the splits follow from the order of rows" in samples.notes[0]


def test_a_nested_release_is_found(tmp_path):
    path = write_csv(tmp_path)
    (tmp_path / "fer2013" / "fer2013").mkdir()
    path.rename(tmp_path / "fer2013" / "fer2013" / "fer2013.csv")
    assert len(fer2013.load(tmp_path)) == 4


@pytest.mark.parametrize("held_out", ["test", "validation"])
@pytest.mark.parametrize("place", ["", "fer2013/", "images/"])
def test_copies_with_other_file_names_are_read(tmp_path, tree, place, held_out):
    names = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
    paths = [f"fer2013/{place}train/{name}/im{i}.png" for name in names for i in range(3)]
    tree(*paths, *(f"fer2013/{place}{held_out}/{name}/im1.png" for name in names))
    samples = fer2013.load(tmp_path)
    assert [(samples.splits == split).sum() for split in ("train", "validation", "test")] == [
        *(21, 0, 7),
    ]
    index = next(i for i, path in enumerate(samples.pictures) if path.parent.name == "fearful")
    assert samples.class_names[samples.targets[index]] == "fear"
    assert "not comparable with published results" in samples.notes[0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read(tmp_path, encoding):
    path = write_csv(tmp_path)
    path.write_text(path.read_text(), encoding=encoding)
    assert len(fer2013.load(tmp_path)) == 4


def test_damaged_files_are_named_in_one_line(tmp_path):
    path = write_csv(tmp_path)
    whole = path.read_text()
    with tarfile.open(tmp_path / "archive.tar", "w") as archive:
        archive.add(path)
    for content, message in (
        ((tmp_path / "archive.tar").read_bytes(), "fer2013.csv is a tar archive, not a text file"),
        (b"PK\x03\x04" + bytes(99), "fer2013.csv is a ZIP archive, not a text file. Unpack it"),
        (bytes(2000), "fer2013.csv is binary, not a text file"),
        (whole.replace("\n0,", '\n"0,', 1).encode(), "line 3: a quotation mark opens a field"),
        (b"", "fer2013.csv must have the columns emotion, pixels. .*Found: nothing"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as raised:
            fer2013.load(tmp_path)
        assert "\n" not in str(raised.value)
