"""The command line: parse, call one function, print.

Keras takes its backend from the environment when it is first imported, which takes seconds. So it
is imported inside the commands, after the backend is chosen, and `--help` is instant.
"""

import errno
import json
import os
from importlib.util import find_spec
from typing import get_args

import click

from kerasfer import __version__
from kerasfer.errors import KerasferError, RecipeError, RunError
from kerasfer.recipe import dump, load_recipe
from kerasfer.schema import Backend, Views, recipe_schema

# What a disk or its owner refuses is no bug of the program.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class Command(click.Command):
    """Ends with one line and its exit code, not with a traceback, where the user can mend it."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KerasferError as error:
            raise _one_line(error) from error
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            place = f" ({error.filename})" if error.filename else ""
            reason = f"{os.strerror(error.errno)}{place}"
            raise _one_line(RunError(f"{reason}: mend this, and {_go_on(ctx)}.")) from error
        except KeyboardInterrupt:
            click.echo(f"Interrupted: {_go_on(ctx)}.", err=True)
            ctx.exit(130)


class Group(click.Group):
    command_class = Command
    group_class = type


def _go_on(ctx):
    if "resume" in ctx.params:
        return "the same command with --resume goes on from the last checkpoint"
    return "run the same command again"


def _one_line(error):
    failure = click.ClickException(str(error))
    failure.exit_code = error.exit_code
    return failure


_set = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the recipe, such as train.epochs=1; may be repeated.",
)
_data_dir = click.option(
    "--data-dir",
    type=click.Path(),
    envvar="KERASFER_DATA",
    show_envvar=True,
    help="Where the datasets are, one folder each.  [default: data]",
)
_backend = click.option(
    "--backend",
    type=click.Choice(get_args(Backend)),
    help="What Keras computes with.  [default: the recipe's, then $KERAS_BACKEND, then tensorflow]",
)


@click.group(cls=Group)
@click.version_option(__version__, prog_name="kerasfer")
def main():
    """Train, judge and understand models of facial expression.

    \b
    A first run needs no data and takes about two minutes:
      kerasfer train recipes/quickstart.yaml
    """


@main.command()
@click.argument("recipe", type=click.Path())
@_set
@_data_dir
@click.option(
    "--output-dir",
    type=click.Path(),
    default="runs",
    show_default=True,
    help="Where the run's folder is made; it has the recipe's name.",
)
@_backend
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
    _prepare_keras(recipe.train.backend)
    from kerasfer.train import train

    metrics = train(recipe, data_dir=data_dir, output_dir=output_dir, resume=resume)
    click.echo(_summary(metrics, recipe.reproduces))
    click.echo(f"report        {os.path.join(metrics['run'], 'report.html')}")


@main.command()
@click.argument("run", type=click.Path())
@click.option("--dataset", help="Another dataset with the same classes.  [default: the run's own]")
@_data_dir
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
@_backend
def evaluate(run, dataset, data_dir, split, tta, backend):
    """Judge a trained RUN: a run's folder or a .keras file.

    \b
    Examples:
      kerasfer evaluate runs/quickstart --tta flip
      kerasfer evaluate runs/fer2013_resnet18_48/model.keras --dataset fer2013 --data-dir ~/faces
    """
    _prepare_keras(backend)
    from kerasfer.evaluate import evaluate

    metrics = evaluate(run, dataset=dataset, data_dir=data_dir, split=split, tta=tta)
    click.echo(_summary(metrics))


@main.group()
def recipe():
    """Look into recipes, the YAML files that describe runs."""


@recipe.command()
@click.argument("recipe", type=click.Path())
@_set
def show(recipe, overrides):
    """Check a RECIPE and print it in full.

    What it inherits, what --set changes and every default are filled in.

    \b
    Example:
      kerasfer recipe show recipes/quickstart.yaml --set train.epochs=1
    """
    click.echo(dump(load_recipe(recipe, overrides)), nl=False)


@recipe.command()
def schema():
    """Print the JSON schema of recipes.

    \b
    Editors complete and check recipes with it.
    Write it to a file, and name it in the first line of a recipe:
      kerasfer recipe schema > recipe.schema.json
      # yaml-language-server: $schema=recipe.schema.json
    """
    click.echo(json.dumps(recipe_schema(), indent=2))


def train_main():
    """Runs `kerasfer train` under the name `kerasfer-train`."""
    train(prog_name="kerasfer-train")


def _prepare_keras(backend):
    """Chooses the backend for the import of Keras that follows, and quiets TensorFlow."""
    backend = backend or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend not in get_args(Backend):
        raise RecipeError(
            f"KERAS_BACKEND must be one of {', '.join(get_args(Backend))}. Received: {backend}."
        )
    if find_spec(backend) is None:
        raise RunError(
            f"The backend {backend} is not installed: install it (pip install {backend}), or "
            "choose another with --backend."
        )
    os.environ["KERAS_BACKEND"] = backend
    # TensorFlow reports a machine without a GPU as an error; real ones also reach Python.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _summary(metrics, reproduces=None):
    """Writes the result of a run as a few aligned lines."""
    low, high = metrics["accuracy_interval"]
    lines = {
        "accuracy": f"{_percent(metrics['accuracy'])}  of {metrics['num_samples']:,} pictures; "
        f"95 % interval {_percent(low)} to {_percent(high)}",
        "macro recall": _percent(metrics["macro_recall"]),
        "protocol": f"{metrics['protocol']}, {metrics['dataset']} {metrics['split']}",
    }
    if metrics.get("sd", {}).get("accuracy") is not None:
        lines["accuracy"] += (
            f"; {metrics['num_folds']} folds: {_percent(metrics['mean']['accuracy'])} "
            f"± {_percent(metrics['sd']['accuracy'])}"
        )
    if metrics.get("leaking"):
        lines["protocol"] += (
            " (LEAKING: near-identical frames are in training and test; "
            "data.protocol=subjects keeps people apart)"
        )
    if reproduces:
        place = [f"{reproduces.paper} table {reproduces.table}", reproduces.row, reproduces.column]
        lines["paper"] = f"{reproduces.accuracy:.2f} %  {', '.join(filter(None, place))}"
    return "\n".join(f"{name:<14}{line}" for name, line in lines.items())


def _percent(share):
    return f"{100 * share:.2f} %"
