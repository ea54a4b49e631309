"""Defines the files of a prepared copy of a dataset, so that it can be loaded again."""

import os
import re

from kerasfer.data.listing import SUFFIXES
from kerasfer.text import printable

PARTS = {"train": "train", "validation": "val", "test": "test"}


class FolderLayout:
    """Arranges a prepared copy in class folders, which the dataset `folder` loads.

    This suits every dataset whose subjects are unknown. A dataset that needs something else
    derives from this class and passes its layout to `Samples`, as CK+ does.

    Attributes:
        needs_all_pictures: Whether the copy is incomplete when pictures without a face are skipped.
    """

    needs_all_pictures = False

    def complete(self, samples):
        """Returns the samples that a copy must hold, which may be more than those loaded."""
        return samples

    def paths(self, samples):
        """Lists the path of each prepared picture, relative to the folder of the copy."""
        taken, paths = set(), []
        for index in range(len(samples)):
            part = () if samples.splits is None else (PARTS[str(samples.splits[index])],)
            class_name = samples.class_names[samples.targets[index]]
            folder = "/".join((*part, class_name))
            stem = _stem(samples.ids[index])
            path, copy = f"{folder}/{stem}.jpg", 1
            while path.lower() in taken:  # a.jpg and a.png, or a disk that ignores case.
                copy += 1
                path = f"{folder}/{stem}_{copy}.jpg"
            taken.add(path.lower())
            paths.append(path)
        return paths

    def ids(self, samples):
        """Lists the id that each prepared picture has when the copy is loaded."""
        return self.paths(samples)

    def copy_labels(self, samples, output_dir):
        """Copies the other files that are needed to load the copy."""

    def how_to_train(self, output_dir):
        """Returns the options of `kerasfer train` that load the copy."""
        return f"--set data.name=folder --set data.path={os.path.abspath(output_dir)}"


def _stem(sample_id):
    """`"a/b/fer0034656.png"` becomes `"fer0034656"`, `"fer2013.csv:17"` `"fer2013.csv_17"`."""
    name = printable(sample_id).rsplit("/", 1)[-1]
    stem, suffix = os.path.splitext(name)
    name = stem if suffix.lower() in SUFFIXES else name
    return re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "picture"
