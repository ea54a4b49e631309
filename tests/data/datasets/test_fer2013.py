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
