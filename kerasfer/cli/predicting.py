"""The command `kerasfer predict`."""

import csv
import io
import json
import os

import click

from kerasfer.cli.arguments import faces_option, margin_option, separate_model
from kerasfer.cli.picture_results import cut_front, finish
from kerasfer.cli.scaling import address_option, parquet_option, score, workers_option
from kerasfer.cli.shared import Command, backend_option, prepare_keras
from kerasfer.errors import DataError
from kerasfer.text import percent


@click.command(cls=Command)
@click.argument("pictures", nargs=-1, required=True, metavar="[MODEL] PICTURE...")
@faces_option
@margin_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with one row per face.")
@click.option(
    "--annotate",
    type=click.Path(),
    metavar="DIR",
    help="Also write the pictures with boxes, labels and bars to this folder, as "
    "<name>.annotated.png.",
)
@parquet_option
@workers_option("Processes that classify pictures for --parquet, each with a core.")
@address_option
@backend_option
@click.pass_context
def predict(
    ctx,
    pictures,
    faces,
    margin,
    as_json,
    as_csv,
    annotate,
    parquet,
    workers,
    ray_address,
    backend,
):
    """Detect the faces in each PICTURE and classify their expressions.

    MODEL is a run folder, a .keras file, an exported model, or the name of a pretrained model (see
    kerasfer models). Without it, the default pretrained model is used. A PICTURE is a file, a
    folder or a pattern such as "party/**/*.jpg".

    With --parquet any number of pictures is classified by several processes. A folder is then
    searched with its subfolders, and a file ending in .txt is a list with a path in each line. The
    same command continues where it was interrupted.

    A picture that cannot be read is reported and skipped, and the exit code is 1.

    Open only models from sources that you trust. ONNX and TFLite files contain no code; a .keras
    file or a SavedModel may contain operations that read files.

    \b
    Examples:
      kerasfer predict party.jpg --annotate annotated
      kerasfer predict runs/fer2013_obsr faces/ --detector none --csv > faces.csv
      kerasfer predict model.tflite "album/**/*.jpg" --json | jq .pictures[].faces[].label
      kerasfer predict runs/fer2013_obsr crops/ --detector none --workers 8 --parquet answers
    """
    if as_json and as_csv:
        raise click.UsageError("Choose one of --json and --csv.")
    if parquet:
        if as_json or as_csv or annotate:
            raise click.UsageError("--parquet excludes --json, --csv and --annotate.")
        run, pictures = separate_model(pictures)
        prepare_keras(backend)
        score(ctx, run, pictures, parquet, workers or 1, faces, margin, ray_address)
        return
    if workers or ray_address:
        raise click.UsageError("--workers and --ray-address need --parquet.")
    from kerasfer.predict.outputs import OutputNames, find_pictures

    run, pictures = separate_model(pictures)
    paths = find_pictures(pictures)
    names = OutputNames(paths, annotate, ".annotated.png") if annotate else None
    prepare_keras(backend)
    from kerasfer import predict as predicting

    predictor = predicting.Predictor(run, faces=faces, margin=margin)
    if annotate:
        os.makedirs(annotate, exist_ok=True)
    table = None if as_json or as_csv else _Table(paths)
    records = []
    for path, found in zip(paths, predictor.stream(paths), strict=True):
        if names and isinstance(found, list):
            predicting.annotate(path, found, names.take(path))
        records.append(predicting.to_record(click.format_filename(path), found))
        if table:
            table.print(records[-1])
        elif isinstance(found, DataError):
            click.echo(f"Error: {found}", err=True)
    if as_json:
        names = list(predictor.class_names)
        document = {"run": str(run), "class_names": names, "pictures": records}
        click.echo(json.dumps(document, indent=2))
    if as_csv:
        click.echo(_as_csv(records, predictor.class_names), nl=False)
    finish(ctx, paths, records, f"; annotated in {annotate}" if annotate else "")


class _Table:
    """Prints one line per face as soon as it is classified."""

    def __init__(self, paths):
        names = [click.format_filename(path) for path in paths]
        self.width = min(48, max(len("picture"), *map(len, names)))
        self.line("picture", "face", "label", "probability", "next")

    def line(self, picture, face, label, probability, following):
        text = f"{cut_front(picture, self.width)}  {face:<26}{label:<12}{probability:>11}   "
        click.echo(f"{text}{following}".rstrip())

    def print(self, record):
        name = record["picture"]
        if record["error"]:
            click.echo(f"Error: {record['error']}", err=True)
        elif not record["faces"]:
            self.line(name, "no face found", "", "", "")
        for face in record["faces"]:
            place = "whole picture"
            if face["box"]:
                x, y, width, height = (round(value) for value in face["box"])
                place = f"{width} x {height} at {x}, {y}"
            ranked = sorted(face["probabilities"].items(), key=lambda item: -item[1])
            following = f"{ranked[1][0]} {percent(ranked[1][1])}" if len(ranked) > 1 else ""
            self.line(name, place, face["label"], percent(face["probability"]), following)


def _as_csv(records, class_names):
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    box = ["x", "y", "width", "height"]
    header = ["picture", "face", *box, "score", "label", "probability", *class_names, "error"]
    writer.writerow(header)
    for record in records:
        for number, face in enumerate(record["faces"], start=1):
            place = face["box"] or [""] * 4
            shares = [face["probabilities"][name] for name in class_names]
            score = "" if face["score"] is None else face["score"]
            answer = [face["label"], face["probability"], *shares]
            writer.writerow([record["picture"], number, *place, score, *answer, ""])
        if not record["faces"]:
            blank = [""] * (len(header) - 2)
            writer.writerow([record["picture"], *blank, record["error"] or ""])
    return file.getvalue()
