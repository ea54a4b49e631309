"""Lists of occluded and turned faces among the test pictures of RAF-DB, FER+ and AffectNet.

Wang et al., Region Attention Networks for Pose and Occlusion Robust Facial Expression Recognition,
IEEE TIP 2020. The files are read as published, from `lists/` next to the folders of the datasets:

    lists/RAF_DB_dir/     rafdb_occlusion_list.txt      val_raf_db_list[_45].txt
    lists/FERplus_dir/    jianfei_occlusion_list.txt    pose_30|45_ferplus_list.txt
    lists/AffectNet_dir/  occlusion_affectnet_list.txt  pose_30|45_affectnet_list.txt

A line names a picture and its class, counted from 0 in the order of the dataset. pose30 contains
the faces turned by more than 30 degrees, pose45 those turned by more than 45.
"""

import re
from dataclasses import dataclass

import numpy as np

from kerasfer.data.datasets import ferplus
from kerasfer.data.datasets.affectnet import CLASS_NAMES as AFFECTNET_CLASSES
from kerasfer.data.datasets.rafdb import CLASS_NAMES as RAFDB_CLASSES
from kerasfer.data.loading import data_folder
from kerasfer.data.samples import Samples
from kerasfer.data.text_files import read_text
from kerasfer.errors import DataError, RecipeError

LISTS = {
    # dataset: {list: (file, what a line looks like, an example)}
    "rafdb": {
        "occlusion": (
            "RAF_DB_dir/rafdb_occlusion_list.txt",
            r"(?P<picture>test_\d+)_aligned (?P<label>\d) \d",
            "test_0003_aligned 3 4",
        ),
        "pose30": (
            "RAF_DB_dir/val_raf_db_list.txt",
            r"(?P<label>\d)/(?P<picture>test_\d+)_aligned\.jpg",
            "0/test_0004_aligned.jpg",
        ),
        "pose45": (
            "RAF_DB_dir/val_raf_db_list_45.txt",
            r"(?P<label>\d)/(?P<picture>test_\d+)_aligned\.jpg",
            "0/test_0004_aligned.jpg",
        ),
    },
    "ferplus": {
        "occlusion": (
            "FERplus_dir/jianfei_occlusion_list.txt",
            r"(?P<label>\d)_(?P<picture>fer\d+)\.png \d+ \d+",
            "1_fer0034656.png 8 0",
        ),
        "pose30": (
            "FERplus_dir/pose_30_ferplus_list.txt",
            r"(?P<label>\d)/(?P<picture>fer\d+)\.jpg",
            "0/fer0032226.jpg",
        ),
        "pose45": (
            "FERplus_dir/pose_45_ferplus_list.txt",
            r"(?P<label>\d)/(?P<picture>fer\d+)\.jpg",
            "0/fer0032226.jpg",
        ),
    },
    "affectnet": {
        "occlusion": (
            "AffectNet_dir/occlusion_affectnet_list.txt",
            r"val/(?P<label>\d)/(?P<picture>[0-9a-f]+)/",
            "val/0/<picture>/",
        ),
        "pose30": (
            "AffectNet_dir/pose_30_affectnet_list.txt",
            r"(?P<label>\d)/(?P<picture>[0-9a-f]+)\.jpg",
            "0/<picture>.jpg",
        ),
        "pose45": (
            "AffectNet_dir/pose_45_affectnet_list.txt",
            r"(?P<label>\d)/(?P<picture>[0-9a-f]+)/\d+\.jpg",
            "7/<picture>/8.jpg",
        ),
    },
}
CLASS_NAMES = {
    "rafdb": RAFDB_CLASSES,
    "ferplus": ferplus.CLASS_NAMES,
    "affectnet": AFFECTNET_CLASSES,
}
SOURCE = "https://github.com/kaiwang960112/Challenge-condition-FER-dataset"


@dataclass(frozen=True)
class PictureList:
    """Holds the content of one list.

    Args:
        dataset: The dataset whose test pictures it names.
        name: `"occlusion"`, `"pose30"` or `"pose45"`.
        labels: The class of each picture, such as `{"test_0003": "happiness"}`.
        num_lines: The number of lines in the file.
        num_duplicates: The number of lines that repeat a picture, which are dropped.
        num_conflicts: The number of repeated pictures with another class than the first time.
    """

    dataset: str
    name: str
    labels: dict
    num_lines: int
    num_duplicates: int
    num_conflicts: int


@dataclass(frozen=True, eq=False)
class Match:
    """Holds the samples that a list names, and counts the differences between the two.

    Args:
        samples: The samples found, in their own order and with their own labels.
        listed: The `PictureList`.
        num_missing: The number of listed pictures that are not among the samples.
        num_disagreeing: The number of found pictures to which the list gives another class.
    """

    samples: Samples
    listed: PictureList
    num_missing: int
    num_disagreeing: int

    def __str__(self):
        listed = self.listed
        found = f"{len(self.samples):,} of {len(listed.labels):,} listed pictures"
        parts = [f"{listed.dataset} {listed.name}: {found}"]
        if listed.num_duplicates:
            parts.append(
                f"{_count(listed.num_duplicates, 'duplicate line')} dropped"
                + (f", {listed.num_conflicts} with another class" * bool(listed.num_conflicts))
            )
        if self.num_missing:
            parts.append(f"{self.num_missing:,} not among the samples")
        if self.num_disagreeing:
            parts.append(
                f"the list gives another class to {self.num_disagreeing:,} "
                "(the label of the dataset is used)"
            )
        return "; ".join(parts)


def load_list(dataset, name, data_dir=None):
    """Loads a list from `data_dir`/lists.

    Args:
        dataset: A key of `LISTS`.
        name: `"occlusion"`, `"pose30"` or `"pose45"`.
        data_dir: As for `kerasfer.data.loading.data_folder`.

    Returns:
        `PictureList`.

    Raises:
        RecipeError: If there is no such list.
        DataError: If the file is missing, or a line does not have the form of this list.
    """
    if dataset not in LISTS:
        raise RecipeError(f"Lists exist for {', '.join(LISTS)}. Received: {dataset!r}.")
    if name not in LISTS[dataset]:
        raise RecipeError(
            f"The lists of {dataset} are {', '.join(LISTS[dataset])}. Received: {name!r}."
        )
    file_name, pattern, example = LISTS[dataset][name]
    path = data_folder(data_dir) / "lists" / file_name
    if not path.is_file():
        tree = ", ".join(f"lists/{other}" for other, *_ in LISTS[dataset].values())
        raise DataError(
            f"The list {name} of {dataset} was not found. Expected {path}; the tree is {tree}. "
            f"Get it from {SOURCE}, or point --data-dir (or $KERASFER_DATA) to the folder that "
            "holds lists/."
        )
    class_names = CLASS_NAMES[dataset]
    labels, num_lines, num_duplicates, num_conflicts = {}, 0, 0, 0
    text = read_text(path, "Get the list again.")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(pattern, line.strip())
        if not match or int(match["label"]) >= len(class_names):
            raise DataError(
                f"{path}, line {number}: expected a picture and a class from 0 to "
                f"{len(class_names) - 1}, such as {example!r}. "
                f"Found: {line.strip()[:60]!a}. Get the list again."
            )
        num_lines += 1
        label = class_names[int(match["label"])]
        if labels.setdefault(match["picture"], label) != label:
            num_conflicts += 1
        num_duplicates = num_lines - len(labels)
    if not labels:
        raise DataError(f"{path} is empty. Get the list again.")
    return PictureList(dataset, name, labels, num_lines, num_duplicates, num_conflicts)


def match(samples, listed):
    """Finds the samples that a list names, by the names of the pictures.

    A picture is identified by the file name in its id, without the suffix: `"test_0003.jpg"`,
    `"fer0034656.png"`, `"737/<picture>.jpg"`.

    Args:
        samples: `Samples` of the dataset of the list, or a part of them, such as the test split.
        listed: A `PictureList`.

    Returns:
        `Match`.

    Raises:
        DataError: If the samples are from another dataset, or none of them is listed.
    """
    if samples.name not in (listed.dataset, "folder"):  # Prepared pictures keep their names.
        raise DataError(
            f"The list {listed.name} of {listed.dataset} names pictures of {listed.dataset}. "
            f"Received samples of {samples.name}."
        )
    names = [name_of(sample_id) for sample_id in samples.ids]
    found = np.array([index for index, name in enumerate(names) if name in listed.labels], int)
    if len(found) == 0:
        raise DataError(
            f"None of the {len(listed.labels):,} pictures in the list {listed.name} of "
            f"{listed.dataset} is among the {len(samples):,} samples, such as {samples.ids[0]}. "
            + (
                "The lists name pictures of the release of 2017: set data.release=2017."
                if listed.dataset == "affectnet"
                else "The lists name test pictures, so use the test split."
            )
        )
    targets = samples.targets
    return Match(
        samples=samples.take(found),
        listed=listed,
        num_missing=len(listed.labels) - len({names[index] for index in found}),
        num_disagreeing=sum(
            samples.class_names[targets[index]] != listed.labels[names[index]] for index in found
        ),
    )


def select(samples, listed):
    """Selects the samples that a list names, in their own order and with their own labels.

    The arguments and errors are those of `match`, which also counts the differences.
    """
    return match(samples, listed).samples


def name_of(sample_id):
    """Returns the name that lists use for a sample: `"737/ab12.jpg"` becomes `"ab12"`."""
    return sample_id.rsplit("/", 1)[-1].split(".")[0]


def _count(number, noun):
    return f"{number:,} {noun}{'s' * (number != 1)}"
