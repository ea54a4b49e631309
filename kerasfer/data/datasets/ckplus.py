"""CK+: 327 labeled sequences from neutral to the peak of an expression, 118 persons.

Lucey et al., CVPR Workshops 2010. The classes have the order of the release's codes, from 1: anger,
contempt, disgust, fear, happy, sadness, surprise. With `neutral=True`, neutral (code 0) precedes
them. The label of a sequence applies to its last three frames, and the first frame can serve as
neutral.

Two releases are supported, and the first one found is loaded:

    ckplus/cohn-kanade-images/S005/001/S005_001_00000011.png
    ckplus/Emotion/S005/001/S005_001_00000011_emotion.txt      "   3.0000000e+00"

    ckplus/CK+48/<class>/S010_004_00000017.png                 (also CK+48/ or ckplus/<class>/)

The default protocol is `subjects`. Frames of one sequence are nearly identical, so the accuracy of
a random split over frames is not meaningful (see `kerasfer.data.protocols`).
"""

import re
import shutil
from pathlib import Path

import numpy as np

from kerasfer.data.layout import FolderLayout
from kerasfer.data.listing import list_class_folders, list_pictures
from kerasfer.data.samples import Samples, one_hot, source_of
from kerasfer.data.text_files import read_text
from kerasfer.errors import DataError

CLASS_NAMES = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
PEAK_FRAMES = 3
FRAME_NAME = re.compile(r"(S\d+)_(\d+)_(\d+)$")
OFFICIAL = ("cohn-kanade-images", "Emotion")
SOURCE = "https://www.jeffcohn.net/Resources/"


def load(data_dir, *, neutral=False):
    """Loads CK+ from `data_dir`/ckplus: the official release, or CK+48.

    Args:
        data_dir: The folder that holds the datasets.
        neutral: Whether to add the first frame of each labeled sequence as the class neutral. Only
            the official release has first frames.

    Returns:
        `Samples` with subjects, such as `"S005"`, and pictures as paths. Sequences without a label
        are left out.

    Raises:
        DataError: If no release is found or it is incomplete. The message names the file.
    """
    folder = Path(data_dir) / "ckplus"
    official = all((folder / part).is_dir() for part in OFFICIAL)
    if official:
        frames = _read_official(folder, neutral)
    else:
        classes = _find_class_folders(folder)
        if neutral:
            raise DataError(
                f"data.neutral needs the first frames of the sequences, which {folder} does not "
                f"have. Expected {folder}/{{cohn-kanade-images,Emotion}}/; or set it to false."
            )
        frames = [
            (path, CLASS_NAMES.index(class_name), f"{class_name}/{path.name}")
            for class_name, class_folder in classes.items()
            for path in list_pictures(class_folder)
        ]
    if not frames:
        raise DataError(f"{folder} holds no labeled pictures. Unpack the release again.")
    pictures, targets, ids = zip(*frames, strict=True)
    class_names = ("neutral", *CLASS_NAMES) if neutral else CLASS_NAMES
    return Samples(
        name="ckplus",
        class_names=class_names,
        pictures=list(pictures),
        labels=one_hot(targets, len(class_names)),
        ids=list(ids),
        subjects=np.array([_subject(path) for path in pictures]),
        protocol="subjects",
        source=source_of(folder.resolve(), neutral=neutral),
        layout=CKPlusLayout(data_dir, official),
    )


class CKPlusLayout(FolderLayout):
    """Arranges a prepared copy as the release, where file names contain subject and sequence.

    Args:
        data_dir: The folder that holds the datasets.
        official: Whether this is the official release, whose copy includes the label files and the
            first frames, so that it can be loaded with and without neutral.
    """

    def __init__(self, data_dir, official):
        self.data_dir = Path(data_dir)
        self.official = official
        self.needs_all_pictures = official  # A sequence is labeled by the position of its frames.

    def complete(self, samples):
        return load(self.data_dir, neutral=True) if self.official else samples

    def paths(self, samples):
        return [path.relative_to(self.data_dir).as_posix() for path in samples.pictures]

    def ids(self, samples):
        return samples.ids

    def copy_labels(self, samples, output_dir):
        if not self.official:
            return
        for sequence in {path.parent for path in samples.pictures}:
            labels = self.data_dir / "ckplus" / "Emotion" / Path(*sequence.parts[-2:])
            for path in labels.glob("*_emotion.txt"):
                copy = Path(output_dir) / path.relative_to(self.data_dir)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)

    def how_to_train(self, output_dir):
        return f"--set data.name=ckplus --data-dir {output_dir}"


def _read_official(folder, neutral):
    """Lists (path, target, id) of the labeled frames of the official release."""
    first_code = 0 if neutral else 1
    frames = []
    for label_path in sorted((folder / "Emotion").glob("S*/*/*_emotion.txt")):
        code = _read_code(label_path)
        subject, sequence = label_path.parts[-3:-1]
        sequence_folder = folder / "cohn-kanade-images" / subject / sequence
        paths = list_pictures(sequence_folder) if sequence_folder.is_dir() else []
        if len(paths) < PEAK_FRAMES:
            raise DataError(
                f"{sequence_folder} must hold the frames that {label_path.name} labels, at least "
                f"{PEAK_FRAMES}. Found: {len(paths)}. Unpack the release again."
            )
        labeled = [(path, code) for path in paths[-PEAK_FRAMES:] if code >= first_code]
        if neutral and len(paths) > PEAK_FRAMES:
            labeled.insert(0, (paths[0], 0))
        for path, path_code in labeled:
            frames.append((path, path_code - first_code, f"{subject}/{sequence}/{path.name}"))
    return frames


def _read_code(path):
    text = read_text(path).strip()
    try:
        code = float(text)
    except ValueError:
        code = -1.0
    if code not in range(len(CLASS_NAMES) + 1):
        raise DataError(
            f"{path} must hold a number from 0 (neutral) to {len(CLASS_NAMES)} (surprise). "
            f"Found: {text[:40]!r}. Unpack the release again."
        )
    return int(code)


def _find_class_folders(folder):
    for place in (folder / "CK+48", folder.parent / "CK+48", folder):
        found = list_class_folders(place) if place.is_dir() else {}
        classes = {name.lower(): path for name, path in found.items()}
        if set(classes) == set(CLASS_NAMES):
            return classes
        if set(classes) & set(CLASS_NAMES):
            raise DataError(
                f"{place} must have the class folders {', '.join(CLASS_NAMES)}. "
                f"Found: {', '.join(found)}."
            )
    raise DataError(
        f"CK+ was not found. Expected {folder}/cohn-kanade-images/S005/001/*.png with "
        f"{folder}/Emotion/S005/001/*_emotion.txt, or {folder}/CK+48/<class>/*.png. "
        f"Apply for it at {SOURCE}, or point --data-dir (or $KERASFER_DATA) to the folder that "
        "holds ckplus/."
    )


def _subject(path):
    match = FRAME_NAME.match(path.stem)
    if not match:
        raise DataError(
            f"{path}: the file name must contain subject, sequence and frame, such as "
            "S005_001_00000011.png. Unpack the release again."
        )
    return match.group(1)
