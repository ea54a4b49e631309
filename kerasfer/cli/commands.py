"""The command `kerasfer` with all its subcommands."""

import click

from kerasfer import __version__
from kerasfer.cli.datasets import data
from kerasfer.cli.exporting import export
from kerasfer.cli.predicting import explain, predict
from kerasfer.cli.recipes import recipe
from kerasfer.cli.shared import Group
from kerasfer.cli.tables import table
from kerasfer.cli.training import evaluate, train
from kerasfer.cli.video import demo, video


@click.group(cls=Group)
@click.version_option(__version__, prog_name="kerasfer")
def main():
    """Train, evaluate, explain and export models of facial expressions.

    \b
    A first run needs no data and takes about two minutes:
      kerasfer train quickstart
    """


for command in (train, evaluate, data, export, predict, explain, recipe, table, video, demo):
    main.add_command(command)
