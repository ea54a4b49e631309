"""Labeled pictures: datasets, splits, augmentation and batches.

A new dataset is a file with a function `load(data_dir, *, options)` that returns
`kerasfer.data.samples.Samples`, and an entry in `DATASETS`.
"""

from kerasfer.data.options import (
    SFEW,
    AffectNet,
    CKPlus,
    FERPlus,
    Folder,
    Parquet,
    Synthetic,
)
from kerasfer.options import Registered

__all__ = ["DATASETS", "load_dataset"]

DATASETS = {
    "affectnet": Registered("kerasfer.data.datasets.affectnet.load", AffectNet),
    "ckplus": Registered("kerasfer.data.datasets.ckplus.load", CKPlus),
    "fer2013": Registered("kerasfer.data.datasets.fer2013.load"),
    "ferplus": Registered("kerasfer.data.datasets.ferplus.load", FERPlus),
    "folder": Registered("kerasfer.data.datasets.folder.load", Folder),
    "parquet": Registered("kerasfer.data.datasets.parquet.load", Parquet),
    "rafdb": Registered("kerasfer.data.datasets.rafdb.load"),
    "sfew": Registered("kerasfer.data.datasets.sfew.load", SFEW),
    "synthetic": Registered("kerasfer.data.synthetic.load", Synthetic),
}


def __getattr__(name):
    # Recipes are checked against `DATASETS` without importing NumPy.
    if name == "load_dataset":
        from kerasfer.data.loading import load_dataset

        return load_dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
