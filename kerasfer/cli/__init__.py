"""The command line: parse, call one function, print.

Keras takes its backend from the environment when it is first imported, which takes seconds. So it
is imported inside the commands, after the backend is chosen, and `--help` is instant.
"""

import click

from kerasfer import __version__
from kerasfer.cli.datasets import data
from kerasfer.cli.exporting import export
from kerasfer.cli.recipes import recipe
from kerasfer.cli.seeing import explain, predict
from kerasfer.cli.shared import Group
from kerasfer.cli.tables import table
from kerasfer.cli.training import evaluate, train, train_main
from kerasfer.cli.watching import demo, video

__all__ = ["main", "train_main"]


@click.group(cls=Group)
@click.version_option(__version__, prog_name="kerasfer")
def main():
    """Train, judge and understand models of facial expression.

    \b
    A first run needs no data and takes about two minutes:
      kerasfer train recipes/quickstart.yaml
    """


for command in (train, evaluate, data, export, predict, explain, recipe, table, video, demo):
    main.add_command(command)
