import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kerasfer.data import load_dataset
from kerasfer.data.checks import check, write_pairs
from kerasfer.data.checks.official import OFFICIAL, official_counts
from kerasfer.data.checks.text import describe
from kerasfer.data.picture_files import PictureFiles
from kerasfer.data.samples import Samples, one_hot


@pytest.fixture(scope="module")
def drawn():
    return load_dataset("synthetic", num_samples=70, size=48)


def place_of(samples, split):
    return np.flatnonzero(samples.splits == split)


def test_a_sound_dataset_has_no_findings(drawn):
    findings, pairs = check(drawn)
    json.dumps(findings, allow_nan=False)
    assert findings["counts"]["train"] == dict.fromkeys(drawn.class_names, 7)
    assert list(findings["counts"]) == ["train", "validation", "test"]
    assert findings["official"] is None and findings["differences"] == []
    assert findings["unreadable"]["pictures"] == 0
    assert findings["exact_duplicates"]["pictures"] == 0
    assert findings["near_duplicates"]["pictures"] == 0
    assert findings["subjects"] == {"subjects": 70, "in_train_and_test": {"official": 0}}
    assert findings["lists"] == {} and pairs == []
    assert findings["sizes"]["most_common"] == {"size": [48, 48], "pictures": 70}
    text = describe(findings)
    assert text.startswith("synthetic: 70 pictures of 48 x 48 pixels\n")
    assert "0 angry" in text and "no official numbers are known" in text


def test_duplicates_are_reported_by_split_and_class(drawn):
    """Three copies of a training face in test, one with another class; one nearly so."""
    train, validation, test = (place_of(drawn, name) for name in ("train", "validation", "test"))
    pictures = drawn.pictures.copy()
    pictures[test[[0, 1]]] = pictures[train[0]]
    pictures[validation[0]] = pictures[train[0]]
    pictures[test[2]] = np.clip(pictures[train[1]].astype(int) + 3, 0, 255).astype("uint8")
    findings, pairs = check(replace(drawn, pictures=pictures))
    exact, near = findings["exact_duplicates"], findings["near_duplicates"]
    assert exact["pictures"] == 4
    assert exact["within"] == {"train": 0, "validation": 0, "test": 2}
    assert [(one["split"], one["other"], one["pictures"]) for one in exact["across"]] == [
        ("test", "train", 2),
        ("validation", "train", 1),
        ("test", "validation", 2),
    ]
    assert (exact["groups"], exact["groups_with_several_classes"]) == (1, 1)
    assert exact["pictures_with_several_classes"] == 4
    assert (near["pictures"], near["pairs"]) == (2, 1)
    assert near["across"][0] == {"split": "test", "other": "train", "pictures": 1}
    same = drawn.targets[train[1]] == drawn.targets[test[2]]
    assert near["pairs_with_two_classes"] == (not same)

    assert [pair["kind"] for pair in pairs] == ["exact"] * 3 + ["near"]
    assert {pair["picture"] for pair in pairs[:3]} == {drawn.ids[train[0]]}
    assert pairs[3]["picture"] == drawn.ids[train[1]]
    assert pairs[3]["other_picture"] == drawn.ids[test[2]]
    assert (pairs[3]["split"], pairs[3]["other_split"]) == ("train", "test")
    text = describe(findings)
    assert (
        "4 pictures have an identical picture: 2 of test in train, 1 of validation in train, 2 of "
        "test in validation, 2 within test; 4 have one with another class, in 1 of 1 groups" in text
    )


def test_a_dataset_without_splits_is_looked_through_as_a_whole(drawn):
    pictures = drawn.pictures.copy()
    pictures[3] = pictures[4]
    findings, pairs = check(replace(drawn, pictures=pictures, splits=None, subjects=None))
    assert list(findings["counts"]) == ["whole"]
    assert findings["exact_duplicates"]["within"] == {"whole": 2}
    assert findings["exact_duplicates"]["across"] == []
    assert findings["subjects"] is None
    assert len(pairs) == 1


def test_unreadable_pictures_are_listed_and_the_others_checked(tmp_path, drawn):
    names = [f"{number}.png" for number in range(70)]
    for name, picture in zip(names, drawn.pictures, strict=True):
        Image.fromarray(picture).save(tmp_path / name)
    for number in (0, 33):
        (tmp_path / names[number]).write_bytes(b"\x89PNG")
    (tmp_path / names[50]).write_bytes((tmp_path / names[49]).read_bytes())
    findings, pairs = check(replace(drawn, pictures=PictureFiles(tmp_path, names)))
    unreadable = findings["unreadable"]
    assert unreadable["pictures"] == 2
    assert [one["id"] for one in unreadable["list"]] == [drawn.ids[0], drawn.ids[33]]
    assert "0.png cannot be read" in unreadable["list"][0]["reason"]
    assert [(pair["picture"], pair["other_picture"]) for pair in pairs] == [
        (drawn.ids[49], drawn.ids[50])
    ]
    assert f"2: {drawn.ids[0]}, {drawn.ids[33]}" in describe(findings)


def test_a_dataset_without_readable_pictures_is_reported(tmp_path, drawn):
    files = PictureFiles(tmp_path, [f"{number}.png" for number in range(70)])
    findings, pairs = check(replace(drawn, pictures=files))
    assert findings["unreadable"]["pictures"] == 70
    assert findings["sizes"] is None and pairs == []
    assert describe(findings).startswith("synthetic: 70 pictures\n")


def test_shared_persons_are_counted(drawn):
    shared = drawn.subjects.copy()
    shared[place_of(drawn, "test")[0]] = shared[place_of(drawn, "train")[0]]
    findings, _ = check(replace(drawn, subjects=shared))
    assert findings["subjects"] == {"subjects": 69, "in_train_and_test": {"official": 1}}
    persons = np.array([f"S{number % 14}" for number in range(70)])
    findings, _ = check(replace(drawn, subjects=persons, splits=None, protocol="subjects"))
    assert findings["subjects"]["subjects"] == 14
    assert findings["subjects"]["in_train_and_test"]["subjects"] == 0
    assert findings["subjects"]["in_train_and_test"]["frames"] > 5
    assert "with the protocol frames" in describe(findings)


def counted(name, counts):
    """A dataset whose splits have these many pictures of each class."""
    class_names = [f"class {number}" for number in range(len(next(iter(counts.values()))))]
    targets = np.concatenate([np.repeat(range(len(class_names)), one) for one in counts.values()])
    splits = np.repeat(list(counts), [sum(one) for one in counts.values()])
    rng = np.random.default_rng(0)
    return Samples(
        name=name,
        class_names=tuple(class_names),
        pictures=rng.integers(0, 256, (len(targets), 8, 8), dtype="uint8"),
        labels=one_hot(targets, len(class_names)),
        ids=[str(number) for number in range(len(targets))],
        splits=splits,
    )


def test_counts_are_held_against_the_official_ones():
    official = OFFICIAL["sfew"]["sfew"]
    findings, _ = check(counted("sfew", official))
    assert findings["official"]["release"] == "sfew" and findings["differences"] == []
    assert "all numbers equal those of sfew" in describe(findings)
    findings, _ = check(counted("sfew", {"train": (177, *official["train"][1:])}))
    assert findings["differences"][0] == {
        **{"split": "train", "class": "class 0", "found": 177, "official": 178},
    }
    assert len(findings["differences"]) == 8  # the test split is missing
    text = describe(findings)
    assert "177 (-1)" in text
    assert "differs from sfew, in brackets: train 957 of 958, test 0 of 436" in text


def test_classes_in_another_order_are_noticed():
    official = OFFICIAL["sfew"]["sfew"]
    counts = dict(official, test=tuple(reversed(official["test"])))
    findings, _ = check(counted("sfew", counts))
    assert findings["splits_in_another_class_order"] == ["test"]
    assert "THE CLASSES OF test SEEM TO BE IN ANOTHER ORDER" in describe(findings)


def test_official_numbers_are_those_of_the_releases():
    totals = {
        way: [sum(counts) for counts in splits.values()]
        for ways in OFFICIAL.values()
        for way, splits in ways.items()
    }
    assert totals == {
        "affectnet": [287651, 4000],
        "ckplus": [981],
        "ckplus with neutral": [1308],
        "fer2013": [28709, 3589, 3589],
        "ferplus argmax8": [28559, 3579, 3573],
        "ferplus majority": [25060, 3199, 3153],
        "rafdb": [12271, 3068],
        "sfew": [958, 436],
        "sfew with RAF-DB": [13229, 436],
    }
    assert official_counts("folder", {"train": [1, 2]}) == (None, None)
    assert official_counts("ckplus", {"whole": [1] * 8})[0] == "ckplus with neutral"
    assert official_counts("ferplus", {"train": [8740] * 8})[0].startswith("ferplus")


def test_lists_are_held_against_the_dataset(tmp_path):
    samples = counted("rafdb", {"train": (2, 2, 2, 2, 2, 2, 2), "test": (1,) * 7})
    names = [f"{split}_{number:04}.jpg" for number, split in enumerate(samples.splits)]
    samples = replace(samples, ids=names)
    folder = tmp_path / "lists" / "RAF_DB_dir"
    folder.mkdir(parents=True)
    (folder / "rafdb_occlusion_list.txt").write_text("test_0014_aligned 0 4\r\n")
    (folder / "val_raf_db_list.txt").write_text("3/test_9999_aligned.jpg\n")
    findings, _ = check(samples, tmp_path)
    assert set(findings["lists"]) == {"occlusion", "pose30"}
    assert findings["lists"]["occlusion"]["pictures"] == 1
    assert "None of the 1 pictures" in findings["lists"]["pose30"]["problem"]
    assert "list occlusion    1 of 1 listed pictures" in describe(findings)


def test_pairs_are_written_as_a_table(tmp_path, drawn):
    pictures = drawn.pictures.copy()
    pictures[3] = pictures[4]
    _, pairs = check(replace(drawn, pictures=pictures))
    write_pairs(tmp_path / "pairs.csv", pairs)
    with open(tmp_path / "pairs.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["kind"] == "exact" and row["different_bits"] == "0"
    assert (row["picture"], row["other_picture"]) == (drawn.ids[3], drawn.ids[4])
    assert (row["class"], row["other_class"]) == ("happy", "sad")


def test_mirrored_and_rotated_copies_are_found(drawn):
    """A test picture is the mirror image of a training picture, another one is rotated."""
    train, test = place_of(drawn, "train"), place_of(drawn, "test")
    pictures = drawn.pictures.copy()
    pictures[test[0]] = pictures[train[0]][:, ::-1]
    rotated = Image.fromarray(pictures[train[1]]).rotate(5, Image.Resampling.BILINEAR)
    pictures[test[1]] = np.asarray(rotated)
    findings, pairs = check(replace(drawn, pictures=pictures))
    assert findings["changed_duplicates"]["across"][0] == {
        **{"split": "test", "other": "train", "pictures": 2},
    }
    found = {(pair["picture"], pair["other_picture"]): pair["kind"] for pair in pairs}
    assert found[drawn.ids[train[0]], drawn.ids[test[0]]] == "mirrored"
    assert found[drawn.ids[train[1]], drawn.ids[test[1]]].startswith("rotated by about")
    assert len(pairs) == 2
    assert "changed copies    4 pictures have a mirrored or slightly rotated copy" in describe(
        findings
    )
