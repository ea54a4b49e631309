"""The command `kerasfer` with all its subcommands."""

import click

from kerasfer import __version__
from kerasfer.cli.datasets import data
from kerasfer.cli.demo import demo
from kerasfer.cli.explaining import explain
from kerasfer.cli.exporting import export
from kerasfer.cli.modeling import models
from kerasfer.cli.predicting import predict
from kerasfer.cli.recipes import recipe
from kerasfer.cli.shared import Group
from kerasfer.cli.tables import table
from kerasfer.cli.training import evaluate, train
from kerasfer.cli.video import video


@click.group(cls=Group)
@click.version_option(__version__, prog_name="kerasfer")
def main():
    """Train, evaluate, explain and export models of facial expressions.

    \b
    A first run needs no data and takes a few minutes:
      kerasfer train quickstart
    """


COMMANDS = (train, evaluate, data, export, models, predict, explain, recipe, table, video, demo)
for command in COMMANDS:
    main.add_command(command)
