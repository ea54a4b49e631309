"""kerasfer predict, kerasfer explain."""

import csv
import io
import json
import os

import click

from kerasfer.cli.shared import Command, backend_option, detector_option, prepare_keras
from kerasfer.errors import DataError
from kerasfer.text import percent

faces_option = detector_option("if each picture is a ready crop of one face")
margin_option = click.option(
    "--margin",
    type=click.FloatRange(min=-0.5, max=2.0),
    default=0.0,
    show_default=True,
    help="What is added around a found face, as a share of its size; should suit what the model "
    "was trained on.",
)


@click.command(cls=Command)
@click.argument("run", type=click.Path())
@click.argument("pictures", nargs=-1, required=True, type=click.Path(), metavar="PICTURE...")
@faces_option
@margin_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, a row a face.")
@click.option(
    "--annotate",
    type=click.Path(),
    metavar="DIR",
    help="Also write the pictures there, as <name>.annotated.png, with boxes, labels and bars.",
)
@backend_option
@click.pass_context
def predict(ctx, run, pictures, faces, margin, as_json, as_csv, annotate, backend):
    """Find the faces in each PICTURE and tell what they express.

    RUN is a run's folder, a .keras file or what `kerasfer export` wrote. A PICTURE is a file, a
    folder or a pattern such as "party/**/*.jpg".

    A picture that cannot be read is reported and passed over; the exit code is then 1.

    \b
    Examples:
      kerasfer predict runs/quickstart party.jpg --annotate seen
      kerasfer predict runs/fer2013_obsr faces/ --faces none --csv > faces.csv
      kerasfer predict model.tflite "album/**/*.jpg" --json | jq .pictures[].faces[].label
    """
    if as_json and as_csv:
        raise click.UsageError("Choose one of --json and --csv.")
    from kerasfer.predict.outputs import OutputNames, find_pictures

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
    _finish(ctx, paths, records, f"; annotated in {annotate}" if annotate else "")


@click.command(cls=Command)
@click.argument("run", type=click.Path())
@click.argument("pictures", nargs=-1, required=True, type=click.Path(), metavar="PICTURE...")
@faces_option
@margin_option
@click.option(
    "--class", "class_name", metavar="NAME", help="The class to explain.  [default: the predicted]"
)
@click.option(
    "--steps",
    type=click.IntRange(0, 1000),
    default=16,
    show_default=True,
    help="Steps of the insertion and deletion scores; 0 for none.",
)
@click.option(
    "--output-dir",
    type=click.Path(),
    default="explanations",
    show_default=True,
    help="Where the figures are written, as <name>.explained.png.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@backend_option
@click.pass_context
def explain(ctx, run, pictures, faces, margin, class_name, steps, output_dir, as_json, backend):
    """Show what a model looks at in the faces of each PICTURE.

    A figure a face: what the model saw, the heat map (Grad-CAM) of its answer and the classes'
    probabilities; of SPD-Attention also how much each region counts, of OBSR-Net each place's
    share and the pairs of places that go together.

    The heat map is scored: how soon the probability rises when pixels are shown in the map's
    order (insertion, high is good) and falls when they are hidden (deletion, low is good), beside
    the same for random maps.

    RUN is a run's folder or a .keras file: exported models have no gradients.

    \b
    Examples:
      kerasfer explain runs/quickstart faces/ --faces none
      kerasfer explain runs/fer2013_spd party.jpg --class fear --output-dir seen
    """
    from kerasfer.predict.outputs import find_pictures

    paths = find_pictures(pictures)
    prepare_keras(backend)
    from kerasfer.explain.pictures import explain_pictures

    records = []
    options = {"faces": faces, "margin": margin, "class_name": class_name, "steps": steps}
    found = explain_pictures(run, paths, output_dir, **options)
    width = min(48, max(len("picture"), *(len(click.format_filename(path)) for path in paths)))
    titles = ("class", "probability", "insertion (random)", "deletion (random)", "figure")
    for record in found:
        if not records and not as_json:
            _line(width, "picture", *titles)
        record["picture"] = click.format_filename(record["picture"])
        records.append(record)
        if record["error"]:
            click.echo(f"Error: {record['error']}", err=True)
        elif not as_json:
            _print_explanations(width, record)
    every = [face for record in records for face in record["faces"]]
    if as_json:
        click.echo(json.dumps({"run": str(run), "pictures": records}, indent=2))
    elif steps and len(every) > 1:
        means = [_mean(every, key) for key in _SCORES]
        _line(width, "mean", "", "", *_scores(*means), "")
    _finish(ctx, paths, records, f"; figures in {output_dir}" if every else "")


_SCORES = ("insertion", "random_insertion", "deletion", "random_deletion")


def _print_explanations(width, record):
    if not record["faces"]:
        _line(width, record["picture"], "no face found", "", "", "", "")
    for face in record["faces"]:
        scores = _scores(*(face[key] for key in _SCORES))
        shown = percent(face["probability"])
        _line(width, record["picture"], face["class"], shown, *scores, face["figure"])


def _scores(insertion, random_insertion, deletion, random_deletion):
    if insertion is None:
        return "", ""
    return f"{insertion:.3f} ({random_insertion:.3f})", f"{deletion:.3f} ({random_deletion:.3f})"


def _mean(faces, key):
    return sum(face[key] for face in faces) / len(faces)


def _line(width, picture, label, probability, insertion, deletion, figure):
    text = f"{_cut_front(picture, width)}  {label:<14}{probability:>11}   "
    click.echo(f"{text}{insertion:<20}{deletion:<19}{figure}".rstrip())


def _cut_front(name, width):
    return f"…{name[1 - width :]}" if len(name) > width else f"{name:<{width}}"


class _Table:
    """Prints a line a face, as soon as it is known."""

    def __init__(self, paths):
        names = [click.format_filename(path) for path in paths]
        self.width = min(48, max(len("picture"), *map(len, names)))
        self.line("picture", "face", "label", "probability", "next")

    def line(self, picture, face, label, probability, following):
        text = f"{_cut_front(picture, self.width)}  {face:<26}{label:<12}{probability:>11}   "
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


def _finish(ctx, paths, records, more=""):
    """Sums up on stderr, and fails where a picture could not be read."""
    faces = sum(len(record["faces"]) for record in records)
    bad = sum(record["error"] is not None for record in records)
    empty = sum(not record["faces"] and record["error"] is None for record in records)
    parts = [f"{_count(faces, 'face')} in {_count(len(records) - bad - empty, 'picture')}"]
    if empty:
        parts.append(f"no face in {_count(empty, 'picture')}")
    if bad:
        parts.append(f"{_count(bad, 'picture')} could not be read")
    click.echo(", ".join(parts) + more, err=True)
    if empty:
        _suggest_no_detector(paths, records)
    if bad:
        ctx.exit(1)


def _suggest_no_detector(paths, records):
    """Says so on stderr if no face was found in pictures that are probably crops of a face."""
    from kerasfer.faces.ready_crops import looks_like_crop

    pairs = zip(paths, records, strict=True)
    empty = (path for path, record in pairs if not record["faces"] and record["error"] is None)
    if crops := sum(map(looks_like_crop, empty)):
        click.echo(
            f"{_count(crops, 'picture')} without a face {'is' if crops == 1 else 'are'} small and "
            "nearly square. If your pictures are ready crops of one face, use --faces none.",
            err=True,
        )


def _count(number, thing):
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
