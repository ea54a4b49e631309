"""Finds the model and the recipe of a run that a user names."""

from pathlib import Path
from typing import NamedTuple

from kerasfer.errors import RunError
from kerasfer.recipe.schema import Recipe
from kerasfer.runs.folder import RunFolder


class FoundRun(NamedTuple):
    """The path of a model, and the recipe of its run or None."""

    model: Path
    recipe: Recipe | None

    @property
    def folder(self):
        """The `RunFolder` of the model, or None for a model without a run."""
        return None if self.recipe is None else RunFolder(self.model.parent)


def find_run(path, overrides=()):
    """Finds a run's model and recipe. Keras is not imported.

    Args:
        path: A run folder, or a `.keras` file. A file named `model.keras` next to a `recipe.yaml`
            is the model of that run.
        overrides: Changes of the run's recipe, as `kerasfer.recipe.load_recipe` takes them.

    Returns:
        A `FoundRun`. The recipe is None for a model file without a run.

    Raises:
        RunError: If the folder holds no run or several folds, or the run has no model yet.
        RecipeError: If the recipe is damaged, or an override is invalid.
    """
    path = Path(path)
    if not path.is_dir():
        run = RunFolder(path.parent)
        belongs = path.name == run.model.name and run.exists
        return FoundRun(path, run.load_recipe(overrides) if belongs else None)
    run = RunFolder(path)
    folds = [fold.path.name for fold in run.folds if fold.model.exists()]
    if folds and not run.model.exists():
        raise RunError(
            f"{path} has a model in each of its folds ({', '.join(folds)}). Name one of them, such "
            f"as {path / folds[0]}. The results of all folds are in {run.metrics}."
        )
    recipe = run.load_recipe(overrides)
    if not run.model.exists():
        raise RunError(
            f"{path} has no {run.model.name} yet, which is written after the first epoch. Train it "
            "with `kerasfer train --resume`."
        )
    return FoundRun(run.model, recipe)
