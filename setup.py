"""Adds the recipes to the package; everything else is in pyproject.toml.

They stand in a folder of their own in the repository, and in `kerasfer/recipes` once installed.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["kerasfer*"]), "kerasfer.recipes", "kerasfer.recipes.tables"],
    package_dir={"kerasfer.recipes": "recipes", "kerasfer.recipes.tables": "recipes/tables"},
)
