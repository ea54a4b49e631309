"""FER+: the faces of FER2013, labeled again by ten persons each (Barsoum et al., ICMI 2016).

The classes have the order of the release: 0 neutral, 1 happiness, 2 surprise, 3 sadness, 4 anger,
5 disgust, 6 fear, 7 contempt; the columns unknown and NF (no face) follow.

    ferplus/fer2013new.csv   Usage,Image name,neutral,...,contempt,unknown,NF
    fer2013/fer2013.csv      the pictures; it may also be in ferplus/

The two files are joined by row order, because the numbers in `Image name` have gaps.
"""

from pathlib import Path

import numpy as np

from kerasfer.data.datasets import fer2013
from kerasfer.data.samples import Samples, one_hot, source_of
from kerasfer.data.text_files import read_rows
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
MOST_VOTES = 1000  # Of a class; the release has ten per picture.
SOURCE = "https://github.com/microsoft/FERPlus"


def load(data_dir, *, labels="argmax8"):
    """Loads FER+ from `data_dir`/ferplus, and its pictures from the CSV file of FER2013.

    Args:
        data_dir: The folder that holds the datasets.
        labels: How ten votes become a label. `"argmax8"`: the expression with the most votes of
            the eight, as in the SPD-Attention paper; of tied ones the first in the order of the
            classes. `"majority"`: the rule of the authors. Single votes are dropped, and the
            winner must be an expression and have more than half of the remaining votes, including
            those for unknown and NF. `"probability"`: soft labels, the share of the votes of each
            expression, for the same pictures as argmax8.

    Returns:
        `Samples` with the official splits. Pictures without a label under the rule are left out.

    Raises:
        RecipeError: If the rule is unknown.
        DataError: If a file is missing or damaged, or the two do not belong together.
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
    pictures, _, picture_usages, notes = fer2013.read_csv(pictures_path)
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
        source=source_of(path.resolve(), labels=labels),
        notes=tuple(notes),
    )


def _find_pictures(data_dir):
    for folder in ("fer2013", "ferplus"):
        if path := fer2013.find_csv(data_dir / folder):
            return path
    raise DataError(
        "FER+ has labels only and takes its pictures from FER2013. Expected "
        f"{data_dir / 'fer2013' / 'fer2013.csv'} or {data_dir / 'ferplus' / 'fer2013.csv'}. Get it "
        f"from {fer2013.SOURCE}."
    )


def _read_votes(path):
    """Reads fer2013new.csv: usages and names, lists of n, and votes, float64 `(n, 10)`."""
    usages, names, votes, taken = [], [], [], {path.name}
    remedy = "The file is damaged: get the release again."
    rows = read_rows(path, ("Usage", "Image name", *VOTE_COLUMNS), remedy)
    for line, (usage, name, *numbers) in rows:
        try:
            votes.append([int(number) for number in numbers])
        except ValueError:
            raise DataError(
                f"{path}, line {line}: expected {len(VOTE_COLUMNS)} whole numbers of votes. "
                f"{remedy}"
            ) from None
        if usage not in fer2013.USAGES or min(votes[-1]) < 0 or max(votes[-1]) > MOST_VOTES:
            raise DataError(
                f"{path}, line {line}: expected one of {', '.join(fer2013.USAGES)} and votes from "
                f"0 to {MOST_VOTES}, got {usage[:40]!a} and {votes[-1]}. {remedy}"
            )
        usages.append(usage)
        # Pictures without a face have no name, and a few names occur twice.
        name = name or path.name
        names.append(f"{name}:{line}" if name in taken else name)
        taken.add(name)
    return usages, names, np.array(votes, dtype="float64").reshape(-1, len(VOTE_COLUMNS))


# Each rule maps votes (n, 10) to labels (n, 8). A row of zeros means no label.


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
