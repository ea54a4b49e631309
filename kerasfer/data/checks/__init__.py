"""Checks a dataset for problems that make results wrong: missing, duplicate or shared pictures."""

import csv
import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np

from kerasfer.data.checks.changed import (
    LARGE,
    center_hashes,
    changed_duplicates,
    thumbnail,
)
from kerasfer.data.checks.duplicates import (
    NEAR,
    WORDS,
    different_bits,
    near_duplicates,
    perceptual_hash,
    pixel_digest,
)
from kerasfer.data.checks.official import official_counts
from kerasfer.data.lists import LISTS, load_list, match
from kerasfer.data.protocols import make_folds
from kerasfer.data.samples import SPLITS, WHOLE
from kerasfer.data.scanning import BLOCK, scan
from kerasfer.errors import DataError
from kerasfer.files import replace_file

PAIR = (
    *("kind", "different_bits", "picture", "split", "class"),
    *("other_picture", "other_split", "other_class"),
)
# Pairs of splits that must not share pictures.
ACROSS = (("test", "train"), ("validation", "train"), ("test", "validation"))


def check(samples, data_dir=None, *, distance=NEAR, workers=None, progress=None):
    """Decodes every picture of a dataset and reports the problems found.

    Args:
        samples: `Samples`, the whole dataset.
        data_dir: The folder that holds the datasets, for `lists/`; `None` to skip the lists.
        distance: int >= 0, the number of 256 bits in which the hashes of near duplicates may
            differ.
        workers: int >= 1, threads that decode; `None` for the cores of the machine, at most 8.
        progress: Is called with the number of finished pictures, a few times per second or less.

    Returns:
        A dict that can be written as JSON: `counts`, `official` and `differences`, `unreadable`,
        `sizes`, `exact_duplicates`, `near_duplicates`, `changed_duplicates` (mirrored and slightly
        rotated copies), `subjects`, `lists`. And the pairs of duplicates, a list of dicts.

    Example:

    >>> from kerasfer.data import load_dataset
    >>> findings, pairs = check(load_dataset("synthetic", num_samples=20, size=32))
    >>> findings["num_samples"], findings["exact_duplicates"]["pictures"], pairs
    (20, 0, [])
    """
    splits = np.full(len(samples), WHOLE) if samples.splits is None else np.asarray(samples.splits)
    names = [name for name in (*SPLITS, WHOLE) if (splits == name).any()]
    readable, groups, hashes, centers, sizes, unreadable = _read(samples, workers, progress)
    place = np.array([names.index(splits[index]) for index in readable], dtype=int)
    targets = samples.targets[readable]

    twins, firsts = _identical(groups, place, len(names))
    near = near_duplicates(hashes, distance=distance)
    near = near[groups[near[:, 0]] != groups[near[:, 1]]]
    known = {tuple(pair) for pair in near.tolist()}
    comparable = (
        np.flatnonzero(place != names.index("train"))
        if len(place) > LARGE and (len(names) > 1 and "train" in names)
        else None
    )
    changed = {
        pair: change
        for pair, change in changed_duplicates(centers, comparable, distance=distance).items()
        if pair not in known and groups[pair[0]] != groups[pair[1]]
    }
    altered = np.array(list(changed), dtype=int).reshape(-1, 2)
    conflicting = np.unique(groups[firsts[targets[firsts[:, 0]] != targets[firsts[:, 1]], 0]])
    findings = {
        "dataset": samples.name,
        "source": samples.source,
        "notes": list(samples.notes),
        "num_samples": len(samples),
        "class_names": list(samples.class_names),
        "protocol": samples.protocol,
        **_compare(samples, splits, names),
        "unreadable": {"pictures": len(unreadable), "list": unreadable},
        "sizes": _describe(sizes),
        "exact_duplicates": {
            **_summary(twins, place, names),
            "groups": int((np.bincount(groups, minlength=1) > 1).sum()),
            "groups_with_several_classes": len(conflicting),
            "pictures_with_several_classes": int(np.isin(groups, conflicting).sum()),
        },
        "near_duplicates": {
            "distance": distance,
            **_pair_summary(near, place, names, targets),
        },
        "changed_duplicates": {
            **_pair_summary(altered, place, names, targets),
            "kinds": dict(Counter(changed.values())),
        },
        "subjects": _subjects(samples),
        "lists": _lists(samples, data_dir),
    }
    bits = different_bits(hashes[near[:, 0]], hashes[near[:, 1]]).tolist()
    kinds = [("exact", 0)] * len(firsts) + [("near", number) for number in bits]
    kinds += [(change, "") for change in changed.values()]

    def describe(number):
        index = readable[number]
        return samples.ids[index], str(splits[index]), samples.class_names[targets[number]]

    pairs = [
        dict(zip(PAIR, (*kind, *describe(one), *describe(other)), strict=True))
        for kind, (one, other) in zip(kinds, np.concatenate([firsts, near, altered]), strict=True)
    ]
    return findings, pairs


def check_folder(samples, output_dir):
    """Chooses a folder for the check of a dataset that no other dataset uses.

    Args:
        samples: `Samples`.
        output_dir: The folder that contains it.

    Returns:
        `output_dir`/check_NAME, with the name of the dataset or, for a folder of the user, the name
        of the folder. If that holds the check of another source, a number is appended.
    """
    place = samples.source.partition(", ")[0]
    own = samples.name in ("folder", "parquet")
    name = os.path.basename(place) if own else samples.name
    name = re.sub(r"[^\w.-]", "_", name) or samples.name
    folder, number = Path(output_dir) / f"check_{name}", 1
    while _source_of_check(folder) not in (None, samples.source):
        number += 1
        folder = Path(output_dir) / f"check_{name}_{number}"
    return folder


def _source_of_check(folder):
    """Returns the source of the check in a folder, or `None` if it does not say."""
    try:
        return dict(json.loads((folder / "check.json").read_text(encoding="utf-8")))["source"]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_pairs(path, pairs):
    """Writes the pairs that `check` returns as a CSV file."""
    with (
        replace_file(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, PAIR, lineterminator="\n")
        writer.writeheader()
        writer.writerows(pairs)


def _read(samples, workers, progress):
    """Decodes every picture.

    Returns:
        Of the readable ones, their indices, a number that identical pictures share, their hashes
        and the hashes of their centers; a `Counter` of the sizes; and a list of the unreadable
        ones.
    """
    readable, groups, hashes, thumbnails = [], [], [], []
    centers = [center_hashes([])]
    sizes, unreadable, known = Counter(), [], {}
    for index, seen in enumerate(scan(samples, _look, workers=workers, progress=progress)):
        if isinstance(seen, DataError):
            unreadable.append({"id": samples.ids[index], "reason": str(seen)})
            continue
        digest, bits, small, size = seen
        readable.append(index)
        groups.append(known.setdefault(digest, len(known)))
        hashes.append(bits)
        thumbnails.append(small)
        if len(thumbnails) == BLOCK:
            centers.append(center_hashes(thumbnails))
            thumbnails.clear()
        sizes[size] += 1
    centers = np.concatenate([*centers, center_hashes(thumbnails)])
    hashes = np.array(hashes, dtype="uint64").reshape(-1, WORDS)
    readable, groups = np.array(readable, dtype=int), np.array(groups, dtype=int)
    return readable, groups, hashes, centers, sizes, unreadable


def _look(picture):
    height, width = picture.shape[:2]
    return pixel_digest(picture), perceptual_hash(picture), thumbnail(picture), (width, height)


def _compare(samples, splits, names):
    """Counts the classes of each split and compares them with the official release."""
    num_classes = len(samples.class_names)
    counts = {
        name: np.bincount(samples.targets[splits == name], minlength=num_classes).tolist()
        for name in names
    }
    way, official = official_counts(samples.name, counts)
    nothing = [0] * num_classes
    differences, reordered = [], []
    for split in official or ():
        found, expected = counts.get(split, nothing), list(official[split])
        differences += [
            {"split": split, "class": name, "found": one, "official": other}
            for name, one, other in zip(samples.class_names, found, expected, strict=True)
            if one != other
        ]
        if found != expected and sorted(found) == sorted(expected):
            reordered.append(split)
    return {
        "counts": {
            split: dict(zip(samples.class_names, found, strict=True))
            for split, found in counts.items()
        },
        "official": official
        and {
            "release": way,
            "counts": {
                split: dict(zip(samples.class_names, expected, strict=True))
                for split, expected in official.items()
            },
        },
        "differences": differences,
        # The counts are correct but belong to other classes, as if folder names had been sorted.
        "splits_in_another_class_order": reordered,
    }


def _describe(sizes):
    if not sizes:
        return None
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    (common, number), *_ = sizes.most_common(1)
    return {
        "smallest": list(by_area[0]),
        "largest": list(by_area[-1]),
        "most_common": {"size": list(common), "pictures": number},
    }


def _identical(group_of, place, num_splits):
    """Finds the splits of identical pictures, bool `(n, splits)`, and pairs of first and later."""
    members = np.zeros((group_of.max(initial=-1) + 1, num_splits), dtype=int)
    np.add.at(members, (group_of, place), 1)
    twins = members[group_of]
    twins[np.arange(len(place)), place] -= 1  # A picture is not a duplicate of itself.
    _, first = np.unique(group_of, return_index=True)
    later = np.setdiff1d(np.arange(len(group_of)), first)
    return twins > 0, np.stack([first[group_of[later]], later], axis=1)


def _pair_summary(pairs, place, names, targets):
    """Counts the pictures with a partner in each split, and the pairs with two classes."""
    partners = np.zeros((len(place), len(names)), dtype=bool)
    for one, other in (pairs.T, pairs.T[::-1]):
        partners[one, place[other]] = True
    return {
        **_summary(partners, place, names),
        "pairs": len(pairs),
        "pairs_with_two_classes": int((targets[pairs[:, 0]] != targets[pairs[:, 1]]).sum()),
    }


def _summary(partners, place, names):
    """Counts the pictures with a partner in each split."""
    return {
        "pictures": int(partners.any(axis=1).sum()),
        "within": {
            name: int(partners[place == number, number].sum()) for number, name in enumerate(names)
        },
        "across": [
            {
                "split": split,
                "other": other,
                "pictures": int(partners[place == names.index(split), names.index(other)].sum()),
            }
            for split, other in ACROSS
            if split in names and other in names
        ],
    }


def _subjects(samples):
    """Counts the persons, and those in both training and test of each protocol."""
    if samples.subjects is None:
        return None
    protocols = {samples.protocol, "frames"} if samples.splits is None else {"official"}
    shared = {}
    for protocol in sorted(protocols):
        try:
            folds = make_folds(samples, protocol)
        except DataError:  # Too few pictures for the protocol.
            continue
        shared[protocol] = sum(
            len(set(fold.train.subjects) & set(fold.test.subjects)) for fold in folds
        )
    return {"subjects": len(set(samples.subjects)), "in_train_and_test": shared}


def _lists(samples, data_dir):
    """Compares the labels of the dataset with those of its lists, if they are present."""
    found = {}
    for name, (file_name, *_) in LISTS.get(samples.name, {}).items():
        if data_dir is None or not (Path(data_dir) / "lists" / file_name).is_file():
            continue
        listed = load_list(samples.name, name, data_dir)
        try:
            fit = match(samples, listed)
        except DataError as error:
            found[name] = {"problem": str(error)}
            continue
        found[name] = {
            "pictures": len(fit.samples),
            "missing": fit.num_missing,
            "other_class": fit.num_disagreeing,
            "duplicate_lines": listed.num_duplicates,
            "summary": str(fit).partition(": ")[2],
        }
    return found
