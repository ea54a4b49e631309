"""kerasfer train, kerasfer evaluate."""

import os
from typing import get_args

import click

from kerasfer.cli.shared import (
    Command,
    backend_option,
    data_dir_option,
    prepare_keras,
    set_option,
    summary,
)
from kerasfer.recipe import load_recipe
from kerasfer.recipe.schema import Views


@click.command(cls=Command)
@click.argument("recipe", type=click.Path())
@set_option
@data_dir_option
@click.option(
    "--output-dir",
    type=click.Path(),
    default="runs",
    show_default=True,
    help="Where the run's folder is made; it has the recipe's name.",
)
@backend_option
@click.option(
    "--resume", is_flag=True, help="Go on where an interrupted run of the recipe stopped."
)
def train(recipe, overrides, data_dir, output_dir, backend, resume):
    """Train the model of a RECIPE and judge it.

    A recipe is a YAML file. The run's folder then holds the best model, its metrics and
    predictions, and report.html, which shows them beside the paper's value and the mistakes as
    pictures.

    \b
    Examples:
      kerasfer train recipes/quickstart.yaml
      kerasfer train recipes/fer2013_resnet18_48.yaml --data-dir ~/faces --set train.epochs=10
      kerasfer train recipes/ckplus_obsr.yaml --set data.protocol=subjects
    """
    if backend:
        overrides = (*overrides, f"train.backend={backend}")
    recipe = load_recipe(recipe, overrides)
    prepare_keras(recipe.train.backend)
    from kerasfer.train import train

    metrics = train(recipe, data_dir=data_dir, output_dir=output_dir, resume=resume)
    click.echo(summary(metrics, recipe.reproduces))
    click.echo(f"report        {os.path.join(metrics['run'], 'report.html')}")


@click.command(cls=Command)
@click.argument("run", type=click.Path())
@click.option("--dataset", help="Another dataset with the same classes.  [default: the run's own]")
@data_dir_option
@click.option(
    "--split",
    type=click.Choice(["test", "validation", "train"]),
    default="test",
    show_default=True,
    help="Which of its pictures.",
)
@click.option(
    "--tta",
    type=click.Choice(get_args(Views)),
    help="Average the probabilities over views of each picture.  [default: as the run's recipe]",
)
@click.option(
    "--list",
    "list_name",
    type=click.Choice(["occlusion", "pose30", "pose45"]),
    help="Only the pictures of this list: occluded faces, or turned by more than 30 or 45 degrees.",
)
@click.option(
    "--duplicates/--no-duplicates",
    default=None,
    help="Tell the accuracy also without pictures that were trained on too.  [default: where no "
    "files have to be decoded for it]",
)
@backend_option
def evaluate(run, dataset, data_dir, split, tta, list_name, duplicates, backend):
    """Judge a trained RUN: a run's folder or a .keras file.

    \b
    Examples:
      kerasfer evaluate runs/quickstart --tta flip
      kerasfer evaluate runs/ferplus_spd --list pose30 --data-dir ~/faces
      kerasfer evaluate runs/fer2013_resnet18_48/model.keras --dataset fer2013 --data-dir ~/faces
    """
    prepare_keras(backend)
    from kerasfer.evaluate import evaluate

    metrics = evaluate(
        run,
        dataset=dataset,
        data_dir=data_dir,
        split=split,
        tta=tta,
        list_name=list_name,
        duplicates=duplicates,
    )
    click.echo(summary(metrics))


def train_main():
    """Runs `kerasfer train` under the name `kerasfer-train`."""
    train(prog_name="kerasfer-train")
