"""kerasfer recipe show, kerasfer recipe schema."""

import json

import click

from kerasfer.cli.shared import Group, set_option
from kerasfer.recipe import dump, load_recipe
from kerasfer.recipe.schema import recipe_schema


@click.group(cls=Group)
def recipe():
    """Look into recipes, the YAML files that describe runs."""


@recipe.command()
@click.argument("recipe", type=click.Path())
@set_option
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
