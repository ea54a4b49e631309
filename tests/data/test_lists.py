import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kerasfer.data import load_dataset
from kerasfer.data.lists import CLASS_NAMES, LISTS, load_list, match, name_of, select
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import DataError, RecipeError

HASHES = [f"{number:056x}" for number in range(4)]
LINES = {
    # as published: the picture of the dataset's first, second and third line
    ("rafdb", "occlusion"): [
        "test_0003_aligned 3 4",
        "test_0006_aligned 4 3",
        "test_0008_aligned 0 4",
    ],
    ("rafdb", "pose30"): [
        "3/test_0003_aligned.jpg",
        "4/test_0006_aligned.jpg",
        "0/test_0008_aligned.jpg",
    ],
    ("ferplus", "occlusion"): [
        "3_fer0000003.png 8 0",
        "4_fer0000006.png 8 2",
        "0_fer0000008.png 8 3",
    ],
    ("ferplus", "pose45"): ["3/fer0000003.jpg", "4/fer0000006.jpg", "0/fer0000008.jpg"],
    ("affectnet", "occlusion"): [f"val/{label}/{HASHES[i]}/" for i, label in enumerate((3, 4, 0))],
    ("affectnet", "pose30"): [f"{label}/{HASHES[i]}.jpg" for i, label in enumerate((3, 4, 0))],
    ("affectnet", "pose45"): [f"{label}/{HASHES[i]}/8.jpg" for i, label in enumerate((3, 4, 0))],
}
IDS = {
    "rafdb": ["train_00003.jpg", "test_0008.jpg", "test_0003.jpg", "test_0004.jpg"],
    "ferplus": ["fer0000001.png", "fer0000008.png:91", "fer0000003.png", "fer0000004.png"],
    "affectnet": ["7/ff.jpg", f"12/{HASHES[2]}.JPG", f"689/{HASHES[0]}.png", "7/fe.jpg"],
}


def write(tmp_path, dataset, name, lines, end="\n"):
    path = tmp_path / "lists" / LISTS[dataset][name][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(end.join(lines), newline="")
    return tmp_path


def make_samples(dataset, targets=(0, 0, 3, 1), ids=None):
    class_names = CLASS_NAMES[dataset]
    return Samples(
        name=dataset,
        class_names=class_names,
        pictures=np.zeros((len(targets), 8, 8), "uint8"),
        labels=one_hot(targets, len(class_names)),
        ids=ids or IDS[dataset],
    )


@pytest.mark.parametrize(("dataset", "name"), LINES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_form_is_read_and_matched(tmp_path, dataset, name, end):
    listed = load_list(dataset, name, write(tmp_path, dataset, name, LINES[dataset, name], end))
    class_names = CLASS_NAMES[dataset]
    assert list(listed.labels.values()) == [class_names[3], class_names[4], class_names[0]]
    assert (listed.num_lines, listed.num_duplicates, listed.num_conflicts) == (3, 0, 0)
    found = match(make_samples(dataset), listed)
    assert list(found.samples.ids) == IDS[dataset][1:3]
    assert (found.num_missing, found.num_disagreeing) == (1, 0)
    assert list(select(make_samples(dataset), listed).ids) == IDS[dataset][1:3]


def test_every_dataset_has_three_lists_with_separate_files():
    files = [file for lists in LISTS.values() for file, *_ in lists.values()]
    assert len(set(files)) == 9
    assert all(set(lists) == {"occlusion", "pose30", "pose45"} for lists in LISTS.values())


def test_duplicates_are_dropped_and_conflicts_counted(tmp_path):
    lines = [*LINES["rafdb", "occlusion"], "test_0003_aligned 3 4", "test_0008_aligned 5 4", ""]
    listed = load_list("rafdb", "occlusion", write(tmp_path, "rafdb", "occlusion", lines, "\r\n"))
    assert (listed.num_lines, listed.num_duplicates, listed.num_conflicts) == (5, 2, 1)
    assert listed.labels == {
        "test_0003": "happiness",
        "test_0006": "sadness",
        "test_0008": "surprise",
    }


def test_mismatches_are_reported(tmp_path):
    lines = [*LINES["rafdb", "occlusion"], "test_0004_aligned 6 4", "test_0004_aligned 6 4"]
    listed = load_list("rafdb", "occlusion", write(tmp_path, "rafdb", "occlusion", lines))
    found = match(make_samples("rafdb", targets=(0, 0, 3, 1)), listed)
    assert (found.num_missing, found.num_disagreeing) == (1, 1)
    assert str(found) == (
        "rafdb occlusion: 3 of 4 listed pictures; 1 duplicate line dropped; 1 not among the "
        "samples; the list gives another class to 1 (the label of the "
        "dataset is used)"
    )


def test_samples_keep_their_labels_and_class_order(tmp_path):
    listed = load_list(
        "rafdb", "pose30", write(tmp_path, "rafdb", "pose30", LINES["rafdb", "pose30"])
    )
    samples = make_samples("rafdb", targets=(0, 5, 3, 1))
    order = [6, 5, 4, 3, 2, 1, 0]
    turned = replace(
        samples,
        class_names=tuple(samples.class_names[index] for index in order),
        labels=samples.labels[:, order],
    )
    found = match(turned, listed)
    assert found.samples.class_names == turned.class_names
    assert [turned.class_names[target] for target in found.samples.targets] == [
        "anger",
        "happiness",
    ]
    assert found.num_disagreeing == 1


def test_prepared_pictures_are_found_by_their_names(tmp_path):
    listed = load_list(
        "rafdb", "pose30", write(tmp_path, "rafdb", "pose30", LINES["rafdb", "pose30"])
    )
    ids = ["train/fear/train_00003.jpg", "test/surprise/test_0008.jpg", "test/fear/x.jpg", "y"]
    samples = replace(make_samples("rafdb", ids=ids), name="folder")
    assert list(select(samples, listed).ids) == ["test/surprise/test_0008.jpg"]


def test_names_are_without_folder_suffix_and_number():
    assert name_of("12/ab12.jpg") == "ab12"
    assert name_of("fer0006953.png:17") == "fer0006953"
    assert name_of("test/fear/fer0006953.png_17.jpg") == "fer0006953"


@pytest.mark.parametrize(
    "line", ["test_0003_aligned 7 4", "test_0003 3 4", "3/test_0003_aligned.jpg"]
)
def test_a_line_of_another_form_is_named(tmp_path, line):
    write(tmp_path, "rafdb", "occlusion", [LINES["rafdb", "occlusion"][0], line])
    with pytest.raises(
        DataError, match=f"line 2: .* class from 0 to 6, such as 'test_0003_.*Found: '{line}'"
    ):
        load_list("rafdb", "occlusion", tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(
        DataError, match="pose45 of ferplus was not found.*lists/FERplus_dir/pose_30"
    ):
        load_list("ferplus", "pose45", tmp_path)
    with pytest.raises(DataError, match="pose_45_ferplus_list.txt is empty"):
        load_list("ferplus", "pose45", write(tmp_path, "ferplus", "pose45", ["", ""]))
    with pytest.raises(RecipeError, match="Lists exist for rafdb, ferplus, affectnet. .*'sfew'"):
        load_list("sfew", "pose45", tmp_path)
    with pytest.raises(RecipeError, match="lists of rafdb are occlusion, pose30, pose45. .*'pose'"):
        load_list("rafdb", "pose", tmp_path)


def test_lists_of_other_pictures_are_refused(tmp_path):
    lines = LINES["affectnet", "pose30"]
    listed = load_list("affectnet", "pose30", write(tmp_path, "affectnet", "pose30", lines))
    with pytest.raises(DataError, match="names pictures of affectnet. Received samples of rafdb"):
        match(make_samples("rafdb"), listed)
    ids = [f"val_set/images/{number}.jpg" for number in range(4)]
    with pytest.raises(DataError, match="None of the 3 pictures .* set data.release=2017"):
        select(make_samples("affectnet", ids=ids), listed)
    listed = load_list(
        "rafdb", "pose30", write(tmp_path, "rafdb", "pose30", LINES["rafdb", "pose30"])
    )
    with pytest.raises(DataError, match="None of the 3 .* such as train_00003.jpg. .*test split"):
        select(make_samples("rafdb").take([0]), listed)


# Against the published lists under $KERASFER_DATA; skipped where they are not.

ROOT = Path(os.environ.get("KERASFER_DATA", "no data"))
ROWS = {
    ("rafdb", "occlusion"): (735, 734),
    ("rafdb", "pose30"): (1247, 1247),
    ("rafdb", "pose45"): (558, 558),
    ("ferplus", "occlusion"): (605, 605),
    ("ferplus", "pose30"): (1170, 1170),
    ("ferplus", "pose45"): (633, 633),
    ("affectnet", "occlusion"): (683, 683),
    ("affectnet", "pose30"): (1949, 1944),
    ("affectnet", "pose45"): (985, 983),
}


@pytest.mark.skipif(not (ROOT / "lists").is_dir(), reason="needs lists/ in $KERASFER_DATA")
@pytest.mark.parametrize(("dataset", "name"), ROWS)
def test_published_lists_have_the_published_rows(dataset, name):
    listed = load_list(dataset, name, ROOT)
    assert (listed.num_lines, len(listed.labels)) == ROWS[dataset, name]
    assert listed.num_conflicts == 0


@pytest.mark.skipif(
    not ((ROOT / "lists").is_dir() and (ROOT / "ferplus").is_dir()),
    reason="needs lists/ and FER+ in $KERASFER_DATA",
)
def test_published_lists_name_test_pictures_of_ferplus():
    samples = load_dataset("ferplus", ROOT)
    for name, disagreeing in (("occlusion", 12), ("pose30", 7), ("pose45", 4)):
        found = match(samples, load_list("ferplus", name, ROOT))
        assert found.num_missing == 0
        assert set(found.samples.splits) == {"test"}
        assert found.num_disagreeing == disagreeing
