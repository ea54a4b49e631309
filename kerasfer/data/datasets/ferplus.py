"""FER+: the faces of FER2013, judged again by ten persons each (Barsoum et al., ICMI 2016).

Classes in the order of the release: 0 neutral, 1 happiness, 2 surprise, 3 sadness, 4 anger,
5 disgust, 6 fear, 7 contempt; the columns unknown and NF (no face) follow.

    ferplus/fer2013new.csv   Usage,Image name,neutral,...,contempt,unknown,NF
    fer2013/fer2013.csv      the pictures; it may also lie in ferplus/

The two files are joined by row order: the numbers in `Image name` have gaps.
"""

import csv
from pathlib import Path

import numpy as np

from kerasfer.data.datasets import fer2013
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import DataError, RecipeError

CLASS_NAMES = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
VOTE_COLUMNS = (*CLASS_NAMES, "unknown", "NF")
SOURCE = "https://github.com/microsoft/FERPlus"


def load(data_dir, *, labels="argmax8"):
    """Reads FER+ from `data_dir`/ferplus, and its pictures from FER2013's CSV file.

    Args:
        data_dir: the folder that holds the datasets.
        labels: how ten votes become a label. `"argmax8"`: the most voted of the eight
            expressions, as the SPD-Attention paper's "most votes"; of tied ones the first in
            the class order. `"majority"`: the authors' rule: single votes are dropped, and the
            winner must have more than half of the votes left, those for unknown and NF
            included, and be an expression. `"probability"`: soft labels, each expression's
            share of the votes, for the same pictures as argmax8.

    Returns:
        `Samples` with the official splits. Pictures that the rule gives no label are left out.

    Raises:
        RecipeError: no such rule.
        DataError: a file is missing or damaged, or the two do not belong together.
    """
    if labels not in LABEL_RULES:
        raise RecipeError(
            f"data.labels must be one of {', '.join(LABEL_RULES)}. Received: {labels!r}."
        )
    path = Path(data_dir) / "ferplus" / "fer2013new.csv"
    if not path.is_file():
        raise DataError(
            f"FER+ was not found. Expected {path}. Get it from {SOURCE}, or point --data-dir "
            "(or $KERASFER_DATA) to the folder that holds ferplus/."
        )
    pictures_path = _find_pictures(Path(data_dir))
    usages, names, votes = _read_votes(path)
    pictures, _, picture_usages = fer2013.read_csv(pictures_path)
    if usages != picture_usages:
        raise DataError(
            f"{path} and {pictures_path} must have the same rows in the same order. Found "
            f"{len(usages)} and {len(picture_usages)} rows"
            f"{', with different usages' if len(usages) == len(picture_usages) else ''}. "
            "Unpack both releases again."
        )
    shares = LABEL_RULES[labels](votes)
    kept = np.flatnonzero(shares.sum(axis=1))
    return Samples(
        name="ferplus",
        class_names=CLASS_NAMES,
        pictures=pictures[kept],
        labels=shares[kept].astype("float32"),
        ids=[names[index] for index in kept],
        splits=np.array([fer2013.USAGES[usages[index]] for index in kept]),
    )


def _find_pictures(data_dir):
    candidates = [
        data_dir / folder / name for folder in ("fer2013", "ferplus") for name in fer2013.CSV_NAMES
    ]
    for path in candidates:
        if path.is_file():
            return path
    raise DataError(
        f"FER+ has labels only and takes its pictures from FER2013. Expected {candidates[0]} or "
        f"{candidates[2]}. Get it from {fer2013.SOURCE}."
    )


def _read_votes(path):
    """Reads fer2013new.csv: usages and names, lists of n, and votes, float64 `(n, 10)`."""
    usages, names, votes, taken = [], [], [], {path.name}
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        missing = {"Usage", "Image name", *VOTE_COLUMNS} - {
            name.strip() for name in rows.fieldnames or ()
        }
        if missing:
            raise DataError(f"{path} lacks the columns {', '.join(sorted(missing))}.")
        rows.fieldnames = [name.strip() for name in rows.fieldnames]
        for row in rows:
            try:
                votes.append([int(row[name]) for name in VOTE_COLUMNS])
            except (TypeError, ValueError):
                raise DataError(
                    f"{path}, line {rows.line_num}: expected {len(VOTE_COLUMNS)} whole numbers of "
                    "votes. The file is damaged: get the release again."
                ) from None
            usages.append(row["Usage"].strip())
            # Pictures without a face have no name, and a few names occur twice.
            name = row["Image name"].strip() or path.name
            names.append(f"{name}:{rows.line_num}" if name in taken else name)
            taken.add(name)
    return usages, names, np.array(votes, dtype="float64").reshape(-1, len(VOTE_COLUMNS))


# Each rule: votes (n, 10) -> labels (n, 8), where a row of zeros means "no label".


def _argmax8(votes):
    expressions = votes[:, : len(CLASS_NAMES)]
    labels = one_hot(expressions.argmax(axis=1), len(CLASS_NAMES))
    return labels * expressions.any(axis=1, keepdims=True)


def _majority(votes):
    votes = np.where(votes > 1, votes, 0)
    labels = one_hot(votes.argmax(axis=1), len(VOTE_COLUMNS))
    won = votes.max(axis=1) > votes.sum(axis=1) / 2
    return (labels * won[:, None])[:, : len(CLASS_NAMES)]


def _probability(votes):
    expressions = votes[:, : len(CLASS_NAMES)]
    return expressions / np.maximum(expressions.sum(axis=1, keepdims=True), 1)


LABEL_RULES = {"argmax8": _argmax8, "majority": _majority, "probability": _probability}
