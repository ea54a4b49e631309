"""Compares the splits of two runs."""

from kerasfer.errors import RecipeError


def check_unseen(recipe, fold, before, given, key):
    """Checks that a trained model has not seen a run's test pictures.

    Args:
        recipe: `kerasfer.recipe.Recipe` of the run.
        fold: The run's `kerasfer.data.protocols.Fold`.
        before: The recipe that the model was trained with, or `None` if it is unknown.
        given: The path that the user gave.
        key: The recipe's key that names the model.

    Raises:
        RecipeError: If the model may have been trained on some of them.
    """
    # The official test split is one for all; others are drawn, and the teacher has to share them.
    if before is None or before.data.name != recipe.data.name or fold.protocol == "official":
        return

    def drawn(recipe):
        data = recipe.data
        protocol = data.protocol or fold.train.protocol
        return {
            "data.protocol": protocol,
            "data.num_folds": data.num_folds if protocol == "subjects" else None,
            "data.fold": data.fold,
            "data.num_samples": data.num_samples,
            "data.path": data.path,
            "train.seed": recipe.train.seed,
        }

    ours, theirs = drawn(recipe), drawn(before)
    differing = [key for key, value in ours.items() if value != theirs[key]]
    if differing:
        raise RecipeError(
            f"{key}: {given} was trained on another split of {recipe.data.name}, so that "
            f"it may know this run's test pictures; what differs: {', '.join(differing)}. Train "
            "that model on the same split."
        )
