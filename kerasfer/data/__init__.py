"""Labeled pictures: datasets, splits, augmentation and batches."""

from kerasfer.data.loading import DATASETS, load_dataset

__all__ = ["DATASETS", "load_dataset"]
