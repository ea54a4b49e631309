import numpy as np
import pytest

from kerasfer.data.datasets import ferplus
from kerasfer.errors import DataError, RecipeError

HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)
ROWS = [
    "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0",  # 4 of 9 left: no majority
    "Training,fer0000001.png,1,8,1,0,0,0,0,0,0,0",  # happiness
    "Training,fer0000002.png,0,2,0,0,0,0,0,0,8,0",  # unknown wins; of the eight, happiness
    "PublicTest,,0,0,0,0,0,0,0,0,0,10",  # no face
    "PublicTest,fer0000004.png,5,5,0,0,0,0,0,0,0,0",  # tie
    "PrivateTest,fer0000001.png,0,0,0,0,0,1,0,9,0,0",  # contempt; the name occurs twice
]


def write(tmp_path, rows=ROWS, header=HEADER, folder="fer2013", usages=None):
    """Writes FER+ and the pictures it belongs to: picture i is all i."""
    (tmp_path / "ferplus").mkdir(exist_ok=True)
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / "ferplus" / "fer2013new.csv").write_text("\r\n".join([header, *rows]), newline="")
    lines = ["emotion,pixels,Usage"]
    for number, usage in enumerate(usages or [row.split(",")[0] for row in ROWS]):
        lines.append(f"0,{' '.join([str(number)] * 2304)},{usage}")
    (tmp_path / folder / "fer2013.csv").write_text("\n".join(lines))
    return tmp_path


def summary(samples):
    return [
        (int(picture[0, 0]), samples.class_names[target], str(split))
        for picture, target, split in zip(
            samples.pictures, samples.targets, samples.splits, strict=True
        )
    ]


def test_argmax8_selects_the_expression_with_most_votes(tmp_path):
    samples = ferplus.load(write(tmp_path))
    assert summary(samples) == [
        (0, "neutral", "train"),
        (1, "happiness", "train"),
        (2, "happiness", "train"),
        (4, "neutral", "validation"),
        (5, "contempt", "test"),
    ]
    assert list(samples.ids)[1] == "fer0000001.png"
    assert list(samples.ids)[-1] == "fer0000001.png:7"


def test_majority_follows_the_authors(tmp_path):
    samples = ferplus.load(write(tmp_path), labels="majority")
    assert summary(samples) == [(1, "happiness", "train"), (5, "contempt", "test")]


def test_probability_keeps_the_shares_of_the_votes(tmp_path):
    samples = ferplus.load(write(tmp_path), labels="probability")
    assert len(samples) == 5
    np.testing.assert_allclose(samples.labels[0], [0.4, 0, 0, 0.1, 0.3, 0.2, 0, 0])
    np.testing.assert_allclose(samples.labels.sum(axis=1), 1, rtol=1e-6)


def test_pictures_may_lie_in_the_same_folder(tmp_path):
    assert len(ferplus.load(write(tmp_path, folder="ferplus"))) == 5


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(DataError, match="same rows in the same order. Found 5 and 6 rows. Unpack"):
        ferplus.load(write(tmp_path, rows=ROWS[:-1]))
    usages = ["Training"] * len(ROWS)
    with pytest.raises(DataError, match="Found 6 and 6 rows, with different usages"):
        ferplus.load(write(tmp_path, usages=usages))


def test_damage_is_named(tmp_path):
    with pytest.raises(DataError, match="line 3: expected 10 whole numbers of votes"):
        ferplus.load(write(tmp_path, rows=[ROWS[0], ROWS[1].replace("8", "x"), *ROWS[2:]]))
    with pytest.raises(DataError, match="Missing: NF"):
        ferplus.load(write(tmp_path, header=HEADER.removesuffix(",NF")))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match="FER\\+ was not found.*fer2013new.csv.*github.com"):
        ferplus.load(tmp_path)
    (write(tmp_path) / "fer2013" / "fer2013.csv").unlink()
    with pytest.raises(DataError, match="takes its pictures from FER2013"):
        ferplus.load(tmp_path)


def test_an_unknown_rule_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="argmax8, majority, probability. Received: 'major'"):
        ferplus.load(tmp_path, labels="major")
