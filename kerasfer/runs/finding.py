"""Finds a run's model and recipe from what a user names."""

from pathlib import Path

from kerasfer.errors import RunError
from kerasfer.recipe import load_recipe


def find_run(run):
    """Returns the path of a run's model and the run's recipe, or None where there is no run."""
    run = Path(run)
    if not run.is_dir():
        # A run's model.keras named itself: the recipe beside it knows what it was trained on.
        beside = run.parent / "recipe.yaml"
        return run, load_recipe(beside) if run.name == "model.keras" and beside.exists() else None
    folds = sorted(path.parent.name for path in run.glob("fold_*/model.keras"))
    if folds:
        raise RunError(
            f"{run} has a model in each of its folds, {', '.join(folds)}: evaluate one of them, "
            f"such as {run / folds[0]}. Its metrics.json sums up the folds' tests."
        )
    if not (run / "recipe.yaml").exists():
        raise RunError(
            f"Expected a run's folder with recipe.yaml and model.keras. Received: {run}, which "
            "lacks recipe.yaml."
        )
    return run / "model.keras", load_recipe(run / "recipe.yaml")
