"""kerasfer data check, kerasfer data prepare."""

import json
import os
import sys
from pathlib import Path

import click

from kerasfer.cli.shared import Group, data_dir_option, detector_option
from kerasfer.errors import DataError, RecipeError
from kerasfer.recipe import load_data

options_option = click.option(
    "--set",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the dataset, as under data: in a recipe, such as labels=majority or "
    "path=my_faces; may be repeated.",
)


@click.group(cls=Group)
def data():
    """Look through datasets, and prepare their faces."""


@data.command()
@click.argument("name")
@data_dir_option
@options_option
@click.option(
    "--output-dir",
    type=click.Path(),
    default="runs",
    show_default=True,
    help="Where the folder check_NAME is made, with check.json, duplicates.csv and "
    "contact_sheet.png, a few faces of each class.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything found as JSON.")
def check(name, data_dir, options, output_dir, as_json):
    """Look through the dataset NAME, or a folder of pictures, for what makes results wrong.

    Every picture is decoded. Told are: classes and splits against the official numbers, unreadable
    pictures, pictures that stand twice, pixel by pixel or nearly so, in one split or in two, those
    of them with different classes, and persons in training and test at once.

    Findings are no failure: the exit code is 1 only where pictures cannot be read, or the dataset
    cannot be loaded.

    \b
    Examples:
      kerasfer data check fer2013 --data-dir ~/faces
      kerasfer data check ferplus --set labels=majority --json
      kerasfer data check my_faces
    """
    samples, data_dir, _ = _load(name, data_dir, options)
    # Of all commands only this one needs ImageHash and SciPy, and Matplotlib for the sheet.
    from kerasfer.data.checks import check, write_pairs
    from kerasfer.data.checks.contact_sheet import plot_contact_sheet
    from kerasfer.data.checks.text import describe
    from kerasfer.files import write_json

    with _bar(f"Reading {len(samples):,} pictures", len(samples)) as bar:
        findings, pairs = check(samples, data_dir, progress=_updates(bar))
    folder = Path(output_dir) / f"check_{samples.name}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "check.json", findings)
    write_pairs(folder / "duplicates.csv", pairs)
    plot_contact_sheet(samples, folder / "contact_sheet.png")
    if as_json:
        click.echo(json.dumps(findings, indent=2, ensure_ascii=False))
    else:
        click.echo(describe(findings))
        click.echo(f"{'written':<18}{folder}/: contact_sheet.png, duplicates.csv, check.json")
    if number := findings["unreadable"]["pictures"]:
        first = findings["unreadable"]["list"][0]
        raise DataError(
            f"{number:,} of {len(samples):,} pictures cannot be read; check.json lists them. "
            f"The first: {first['reason']}"
        )


@data.command()
@click.argument("name")
@click.option(
    "--output-dir", type=click.Path(), required=True, help="The folder to write, new or empty."
)
@data_dir_option
@options_option
@click.option(
    "--size",
    type=click.IntRange(min=16),
    default=224,
    show_default=True,
    help="Side of the prepared pictures, in pixels.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=-0.9, max=3),
    default=0.2,
    show_default=True,
    help="What is added around a face, as a share of its size.",
)
@click.option(
    "--no-face",
    type=click.Choice(["keep", "skip"]),
    default="keep",
    show_default=True,
    help="Keep the middle of a picture in which no face is found, or skip the picture.",
)
@detector_option()
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Threads."
)
def prepare(name, output_dir, data_dir, options, size, margin, no_face, faces, workers):
    """Cut out and align the faces of the dataset NAME, once.

    MTCNN or another detector (extra kerasfer[faces]) finds the faces, which are rotated until the
    eyes are level. An interrupted command continues if it is repeated, even after kill -9.
    without_face.csv lists the pictures without a face, landmarks.csv the places of eyes, nose and
    mouth.

    Train on the result with data.name=folder and data.path=OUTPUT_DIR. CK+ keeps its own form,
    which tells its persons: train with data.name=ckplus and --data-dir OUTPUT_DIR.

    \b
    Examples:
      kerasfer data prepare ckplus --data-dir ~/faces --output-dir ~/faces_224
      kerasfer data prepare my_pictures --output-dir my_faces --no-face skip
    """
    samples, data_dir, source = _load(name, data_dir, options, prepare=True)
    from kerasfer.faces import make_detector
    from kerasfer.faces.prepare import prepare

    detect = make_detector(faces)
    if faces != "mtcnn":  # Folders of earlier versions do not name their detector, mtcnn.
        source = source | {"detector": faces}
    with _bar(f"Preparing {len(samples):,} pictures", len(samples)) as bar:
        numbers = prepare(
            samples,
            output_dir,
            detect,
            data_dir=data_dir,
            size=size,
            margin=margin,
            no_face=no_face,
            source=source,
            workers=workers,
            progress=_updates(bar),
        )
    click.echo(f"{'prepared':<18}{numbers['prepared']:,} pictures of {size} x {size} pixels")
    if numbers["several_faces"]:
        click.echo(
            f"{'several faces':<18}in {numbers['several_faces']:,} pictures; the large one near "
            "the middle was taken"
        )
    if numbers["without_face"]:
        fate = "their middle was kept" if numbers["kept"] else "they were skipped"
        click.echo(f"{'without a face':<18}{numbers['without_face']:,}; {fate}")
    if numbers["unreadable"]:
        click.echo(f"{'unreadable':<18}{numbers['unreadable']:,}; they were left out")
    click.echo(f"{'written':<18}{output_dir}/: landmarks.csv, without_face.csv, prepared.csv")
    if samples.name == "ckplus":
        click.echo(f"{'train with':<18}--set data.name=ckplus --data-dir {output_dir}")
    else:
        place = os.path.abspath(output_dir)
        click.echo(f"{'train with':<18}--set data.name=folder --set data.path={place}")


def _load(name, data_dir, options, prepare=False):
    """Loads a dataset by name, or a folder of pictures; returns also what it was loaded with."""
    from kerasfer.data import DATASETS, load_dataset

    path = {}
    if name not in DATASETS and Path(name).is_dir():
        name, path = "folder", {"path": str(Path(name).resolve())}
    options = path | _parse(name, options)
    data_dir = Path(data_dir or "data")
    if prepare and name == "ckplus" and (data_dir / "ckplus" / "cohn-kanade-images").is_dir():
        # Also the first frames, so that the prepared tree can be read with and without neutral.
        options = {"neutral": True} | options
    return load_dataset(name, data_dir, **options), data_dir, options


def _parse(name, options):
    """Checks KEY=VALUE as a recipe's `data` section would be; returns the dict of them."""
    keys = [option.partition("=")[0].strip().removeprefix("data.") for option in options]
    for key, option in zip(keys, options, strict=True):
        if "=" not in option or key in ("", "name"):
            raise RecipeError(
                f"--set {option}: expected an option of the dataset, such as path=my_faces."
            )
    section = load_data(name, options)
    return {key: getattr(section, key) for key in keys}


def _bar(label, length):
    """A progress bar on standard error, which is no part of the result."""
    return click.progressbar(length=length, label=label, file=sys.stderr)


def _updates(bar):
    return lambda done: bar.update(done - bar.pos)
