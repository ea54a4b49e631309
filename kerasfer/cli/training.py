"""kerasfer train, kerasfer evaluate."""

import sys
from typing import get_args

import click

from kerasfer.cli.scaling import address_option, workers_option
from kerasfer.cli.shared import (
    Command,
    backend_option,
    data_dir_option,
    prepare_keras,
    set_option,
    summary,
)
from kerasfer.options import ListName, Split, Views
from kerasfer.recipe import load_recipe
from kerasfer.runs.folder import RunFolder
from kerasfer.text import percent, printable


@click.command(cls=Command)
@click.argument("recipe", type=click.Path())
@set_option
@data_dir_option
@click.option(
    "--output-dir",
    type=click.Path(),
    default="runs",
    show_default=True,
    help="Folder of the runs. The run folder in it has the name of the recipe.",
)
@backend_option
@click.option(
    "--resume",
    is_flag=True,
    help="Continue an interrupted run of the recipe, or train a finished one further: with more "
    "train.epochs than before.",
)
@workers_option(
    "Share each batch among N processes, on JAX. If one of them ends unexpectedly, all continue "
    "from the last checkpoint. Needs the extra kerasfer[ray]."
)
@address_option
def train(recipe, overrides, data_dir, output_dir, backend, resume, workers, ray_address):
    """Train the model of a RECIPE and evaluate it.

    A recipe is a YAML file. The run folder holds the best model, its metrics and predictions, and
    report.html, which shows the results, the comparison with the paper and misclassified pictures.
    With train.verbose=0 nothing is printed.

    \b
    Examples:
      kerasfer train recipes/quickstart.yaml
      kerasfer train recipes/fer2013_resnet18_48.yaml --data-dir ~/faces --set train.epochs=10
      kerasfer train recipes/ckplus_obsr.yaml --set data.protocol=subjects
      kerasfer train recipes/quickstart.yaml --set train.epochs=60 --resume
      kerasfer train recipes/quickstart.yaml --backend jax --workers 2
    """
    if ray_address and not workers:
        raise click.UsageError("--ray-address needs --workers.")
    if backend:
        overrides = (*overrides, f"train.backend={backend}")
    recipe = load_recipe(recipe, overrides)
    prepare_keras(recipe.train.backend)
    places = {"data_dir": data_dir, "output_dir": output_dir, "resume": resume}
    if workers:
        from kerasfer.scale.training import train_with_workers

        _announce(recipe, f"Starting Ray with {workers} workers")
        tell = click.echo if recipe.train.verbose else lambda line: None
        metrics = train_with_workers(recipe, workers, **places, address=ray_address, tell=tell)
    else:
        _announce(recipe, f"Loading Keras and {recipe.data.name}")
        from kerasfer.train import train

        metrics = train(recipe, **places)
    if recipe.train.verbose:
        click.echo(summary(metrics, recipe.reproduces))
        click.echo(f"report        {printable(RunFolder(metrics['run']).report)}")


@click.command(cls=Command)
@click.argument("run", type=click.Path())
@click.option(
    "--dataset",
    help="Another dataset, or a folder of pictures, whose classes are among the model's.  "
    "[default: the run's own]",
)
@set_option
@data_dir_option
@click.option(
    "--split",
    type=click.Choice(get_args(Split)),
    help="Which of its pictures.  [default: test; all pictures of another dataset without a test "
    "split]",
)
@click.option(
    "--tta",
    type=click.Choice(get_args(Views)),
    help="Average the probabilities over views of each picture.  [default: as in the run's recipe]",
)
@click.option(
    "--list",
    "list_name",
    type=click.Choice(get_args(ListName)),
    help="Only the pictures of this list: occluded faces, or turned by more than 30 or 45 degrees.",
)
@click.option(
    "--duplicates/--no-duplicates",
    default=None,
    help="Compute the accuracy also without pictures that are in the training set, which are found "
    "by decoding all training pictures.  [default: if the training pictures are found]",
)
@backend_option
def evaluate(run, dataset, overrides, data_dir, split, tta, list_name, duplicates, backend):
    """Evaluate a trained RUN: a run folder or a .keras file.

    The metrics are written into the run folder as evaluation_*.json, with the predictions and the
    confusion matrix next to them. The name and the content say which data they belong to.

    \b
    Examples:
      kerasfer evaluate runs/quickstart --tta flip
      kerasfer evaluate runs/ferplus_spd --list pose30 --data-dir ~/faces
      kerasfer evaluate runs/fer2013_resnet18_48 --dataset ~/my_pictures
    """
    prepare_keras(backend)
    from kerasfer.evaluate.evaluation import evaluate_run

    evaluation = evaluate_run(
        run,
        dataset=dataset,
        data_dir=data_dir,
        split=split,
        tta=tta,
        list_name=list_name,
        duplicates=duplicates,
        overrides=overrides,
    )
    metrics = evaluation.result.metrics
    click.echo(summary(metrics))
    if source := metrics["data"]["source"]:
        click.echo(f"data          {printable(source)}")
    click.echo(_per_class(metrics))
    # The result is printed first: the run folder may not be writable.
    if path := evaluation.write():
        click.echo(f"written       {printable(path)} (also .csv and .png)")


def _announce(recipe, line):
    """Announces what may take minutes."""
    if recipe.train.verbose:
        click.echo(line)
        sys.stdout.flush()


def _per_class(metrics):
    """Formats the scores of each class as a table."""
    width = max(12, *map(len, metrics["class_names"]))
    lines = [f"{'class':<{width}}  recall  precision      F1  pictures"]
    for name, scores in metrics["per_class"].items():
        values = [percent(scores[key], 1) for key in ("recall", "precision", "f1")]
        if not scores["support"]:
            values = ["–"] * 3
        recall, precision, f1 = values
        lines.append(
            f"{printable(name):<{width}}  {recall:>6}  {precision:>9}  {f1:>6}  "
            f"{scores['support']:>8,}"
        )
    return "\n".join(lines)


def train_main():
    """Runs `kerasfer train` under the name `kerasfer-train`."""
    train(prog_name="kerasfer-train")
