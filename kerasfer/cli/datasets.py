"""kerasfer data check, kerasfer data prepare."""

import json
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
    help="Option of the dataset, as under data: in a recipe, such as labels=majority or "
    "path=my_faces. May be repeated.",
)


@click.group(cls=Group)
def data():
    """Check datasets, and prepare their faces."""


@data.command()
@click.argument("name")
@data_dir_option
@options_option
@click.option(
    "--output-dir",
    type=click.Path(),
    default="runs",
    show_default=True,
    help="Folder for check_NAME, which holds check.json, duplicates.csv and contact_sheet.png with "
    "a few faces of each class.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything found as JSON.")
def check(name, data_dir, options, output_dir, as_json):
    """Check the dataset NAME, or a folder of pictures, for problems that make results wrong.

    Every picture is decoded. The report compares the classes and splits with the official numbers.
    It lists unreadable pictures; duplicates with identical or similar pixels, also mirrored and
    slightly rotated ones, within a split and between splits, and whether their classes differ; and
    persons in both training and test.

    The exit code is 1 only if pictures cannot be read or the dataset cannot be loaded.

    \b
    Examples:
      kerasfer data check fer2013 --data-dir ~/faces
      kerasfer data check ferplus --set labels=majority --json
      kerasfer data check my_faces
    """
    samples = _load(name, data_dir, options)
    # Only this command needs ImageHash, SciPy and Matplotlib.
    from kerasfer.data.checks import check, check_folder, write_pairs
    from kerasfer.data.checks.contact_sheet import plot_contact_sheet
    from kerasfer.data.checks.text import describe
    from kerasfer.data.loading import data_folder
    from kerasfer.files import write_json

    with _bar(f"Reading {len(samples):,} pictures", len(samples)) as bar:
        findings, pairs = check(samples, data_folder(data_dir), progress=_updates(bar))
    folder = check_folder(samples, output_dir)
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
    "--output-dir", type=click.Path(), required=True, help="Folder to write, new or empty."
)
@data_dir_option
@options_option
@click.option(
    "--size",
    type=click.IntRange(min=16),
    default=224,
    show_default=True,
    help="Side of the prepared pictures in pixels.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=-0.9, max=3),
    default=0.2,
    show_default=True,
    help="Added around a face, as a share of its size.",
)
@click.option(
    "--no-face",
    type=click.Choice(["keep", "skip"]),
    default="keep",
    show_default=True,
    help="Keep the center of a picture in which no face is found, or skip the picture.",
)
@detector_option()
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Threads."
)
def prepare(name, output_dir, data_dir, options, size, margin, no_face, faces, workers):
    """Crop and align the faces of the dataset NAME once, for faster and better training.

    MTCNN, or YuNet with the extra kerasfer[faces], detects the faces, which are rotated until the
    eyes are level. If the command is interrupted, even by kill -9, run it again to continue.
    without_face.csv lists the pictures without a face, and landmarks.csv has the positions of eyes,
    nose and mouth.

    Train on the result with data.name=folder and data.path=OUTPUT_DIR. A prepared CK+ keeps the
    form of the release, which identifies the persons: use data.name=ckplus and --data-dir
    OUTPUT_DIR.

    \b
    Examples:
      kerasfer data prepare ckplus --data-dir ~/faces --output-dir ~/faces_224
      kerasfer data prepare my_pictures --output-dir my_faces --no-face skip
    """
    samples = _load(name, data_dir, options)
    samples = samples.layout.complete(samples)
    from kerasfer.faces import make_detector
    from kerasfer.faces.prepare import Crop, prepare

    detect, crop = make_detector(faces), Crop(size, margin, no_face, faces)
    with _bar(f"Preparing {len(samples):,} pictures", len(samples)) as bar:
        numbers = prepare(
            samples, output_dir, detect, crop, workers=workers, progress=_updates(bar)
        )
    for note in samples.notes:
        click.echo(f"{'note':<18}{note}")
    click.echo(f"{'prepared':<18}{numbers['prepared']:,} pictures of {size} x {size} pixels")
    if numbers["several_faces"]:
        click.echo(
            f"{'several faces':<18}in {numbers['several_faces']:,} pictures; the large one near "
            "the center was used"
        )
    if numbers["without_face"]:
        fate = "their center was kept" if numbers["kept"] else "they were skipped"
        click.echo(f"{'without a face':<18}{numbers['without_face']:,}; {fate}")
    if numbers["unreadable"]:
        click.echo(f"{'unreadable':<18}{numbers['unreadable']:,}; they were left out")
    click.echo(f"{'written':<18}{output_dir}/: landmarks.csv, without_face.csv, prepared.csv")
    click.echo(f"{'train with':<18}{samples.layout.how_to_train(output_dir)}")


def _load(name, data_dir, options):
    """Loads a dataset by name, or a folder of pictures or of Parquet files."""
    from kerasfer.data import DATASETS, load_dataset
    from kerasfer.data.loading import dataset_in

    path = {}
    if name not in DATASETS and Path(name).is_dir():
        name, path = dataset_in(name), {"path": str(Path(name).resolve())}
    return load_dataset(name, data_dir, **path | _parse(name, options))


def _parse(name, options):
    """Validates KEY=VALUE like the section `data` of a recipe, and returns them as a dict."""
    keys = [option.partition("=")[0].strip().removeprefix("data.") for option in options]
    for key, option in zip(keys, options, strict=True):
        if "=" not in option or key in ("", "name"):
            raise RecipeError(
                f"--set {option}: expected an option of the dataset, such as path=my_faces."
            )
    section = load_data(name, options)
    return {key: getattr(section, key) for key in keys}


def _bar(label, length):
    """Makes a progress bar on standard error, so that standard output holds only the result."""
    return click.progressbar(length=length, label=label, file=sys.stderr)


def _updates(bar):
    return lambda done: bar.update(done - bar.pos)
