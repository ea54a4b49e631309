"""The command `kerasfer explain`."""

import json

import click

from kerasfer.cli.arguments import faces_option, margin_option, separate_model
from kerasfer.cli.picture_results import cut_front, finish
from kerasfer.cli.shared import Command, backend_option, prepare_keras
from kerasfer.text import percent


@click.command(cls=Command)
@click.argument("pictures", nargs=-1, required=True, metavar="[MODEL] PICTURE...")
@faces_option
@margin_option
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Class to explain.  [default: the predicted class]",
)
@click.option(
    "--steps",
    type=click.IntRange(0, 1000),
    default=16,
    show_default=True,
    help="Steps of the insertion and deletion scores, or 0 to skip them.",
)
@click.option(
    "--output-dir",
    type=click.Path(),
    default="explanations",
    show_default=True,
    help="Folder of the figures, which are named <name>.explained.png.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@backend_option
@click.pass_context
def explain(ctx, pictures, faces, margin, class_name, steps, output_dir, as_json, backend):
    """Explain which regions of the faces in each PICTURE the model uses.

    The command writes one figure per face: the crop, the heat map (Grad-CAM) of the predicted class
    and the probabilities. For SPD-Attention the figure also shows the attention of each region, and
    for OBSR-Net the contribution of each position and the pairs of positions that interact.

    The heat map is evaluated: how fast the probability rises when pixels are shown in the order of
    the map (insertion, higher is better), and how fast it falls when they are hidden (deletion,
    lower is better), compared with random maps.

    MODEL is a run folder, a .keras file or the name of a pretrained model. Exported models have no
    gradients. Without MODEL, the default pretrained model is used.

    \b
    Examples:
      kerasfer explain party.jpg
      kerasfer explain runs/quickstart faces/ --detector none
      kerasfer explain runs/fer2013_spd party.jpg --class fear --output-dir explained
    """
    from kerasfer.predict.outputs import find_pictures

    run, pictures = separate_model(pictures)
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
    finish(ctx, paths, records, f"; figures in {output_dir}" if every else "")


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
    text = f"{cut_front(picture, width)}  {label:<14}{probability:>11}   "
    click.echo(f"{text}{insertion:<20}{deletion:<19}{figure}".rstrip())
