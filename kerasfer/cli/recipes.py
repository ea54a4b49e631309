"""kerasfer recipe show, kerasfer recipe list, kerasfer recipe schema."""

import json

import click

from kerasfer.cli.shared import Group, set_option
from kerasfer.recipe import dump, load_recipe
from kerasfer.recipe.schema import recipe_schema
from kerasfer.recipe.shipped import names


@click.group(cls=Group)
def recipe():
    """Inspect recipes, the YAML files that describe runs."""


@recipe.command()
@click.argument("recipe", type=click.Path())
@set_option
def show(recipe, overrides):
    """Check a RECIPE and print it in full.

    RECIPE is a YAML file, or the name of a recipe that comes with kerasfer (kerasfer recipe list).
    Everything it inherits, the changes of --set and all defaults are filled in.

    \b
    Example:
      kerasfer recipe show quickstart --set train.epochs=1
    """
    click.echo(dump(load_recipe(recipe, overrides)), nl=False)


@recipe.command("list")
def list_recipes():
    """List the recipes that come with kerasfer.

    \b
    Example:
      kerasfer recipe list
    """
    for name in names():
        click.echo(f"{name:<22}{load_recipe(name).description}")


@recipe.command()
def schema():
    """Print the JSON schema of recipes.

    \b
    Editors complete and check recipes with it.
    Write it to a file, and name the file in the first line of a recipe:
      kerasfer recipe schema > recipe.schema.json
      # yaml-language-server: $schema=recipe.schema.json
    """
    click.echo(json.dumps(recipe_schema(), indent=2))
