"""Defines the options of each dataset in a recipe.

A field that is `None` leaves the choice to the dataset's `load` function, whose argument has the
same name. The classes are separate from the functions so that recipes are checked without importing
NumPy.
"""

from typing import Literal

from pydantic import Field

from kerasfer.options import Section

Release = Literal[2017, 2021]
LabelRule = Literal["majority", "argmax8", "probability"]


class AffectNet(Section):
    """AffectNet: faces from the web with eight expressions."""

    release: Release | None = Field(
        None, description="Release to read. Default: the one that is found."
    )


class CKPlus(Section):
    """CK+: sequences from a neutral face to the peak of an expression."""

    neutral: bool | None = Field(
        None,
        description="Add the first frame of each sequence as the class neutral. Default: false.",
    )


class FERPlus(Section):
    """FER+: the pictures of FER2013, each labeled by ten annotators."""

    labels: LabelRule | None = Field(
        None, description="How ten votes become a label. Default: argmax8."
    )


class Folder(Section):
    """A folder with one subfolder of pictures per class."""

    path: str | None = Field(
        None,
        description="The folder, with train/, val/ and test/ in it. A relative path is looked up "
        "in the working folder first and in --data-dir second.",
    )


class Parquet(Section):
    """Parquet files with a column of pictures and one of labels, as on the Hugging Face Hub."""

    path: str | None = Field(
        None,
        description="The folder of the files, whose names or folders name the splits, such as "
        "train-00000-of-00002.parquet. A relative path is looked up like that of folder.",
    )
    image_column: str | None = Field(
        None, description="Column of the pictures. Default: the only one that can hold them."
    )
    label_column: str | None = Field(None, description="Column of the labels. Default: label.")
    class_names: tuple[str, ...] | None = Field(
        None,
        min_length=2,
        strict=False,
        description="Names of the classes, in the order of the labels 0, 1, ... Default: those in "
        "the metadata of the files.",
    )


class SFEW(Section):
    """SFEW 2.0: faces from films."""

    with_rafdb: bool | None = Field(
        None,
        description="Add the training pictures of RAF-DB to the training split. Default: false.",
    )


class Synthetic(Section):
    """Faces drawn from a seed; needs no data."""

    num_samples: int | None = Field(
        None, ge=1, le=10_000_000, description="Number of faces to draw."
    )
