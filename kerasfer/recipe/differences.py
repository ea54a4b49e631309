"""Compares recipes by the keys that may make the results of their runs differ."""

# These keys name and describe a run, or how it is computed, and do not change its result. The
# backend of a resumed run is checked by `kerasfer.runs.environment.continued`.
FREE_KEYS = (
    "name",
    "description",
    "reproduces",
    "data.workers",
    "train.backend",
    "train.devices",
    "train.tensorboard",
    "train.verbose",
)


def differences(recipe, other):
    """Compares two recipes key by key, without the keys that change no result.

    A key that is missing in a file has its default value, so a recipe that was written before the
    key existed equals one with that default.

    Args:
        recipe: A `kerasfer.recipe.schema.Recipe`.
        other: A `Recipe`.

    Returns:
        Both values of each key that differs, in the order of the first recipe. The value of a key
        that only one of the recipes has is `None` in the other.

    Example:

    >>> from kerasfer.recipe.schema import Recipe
    >>> sections = {"data": {"name": "synthetic"}, "model": {"name": "covpool"}}
    >>> short = Recipe.model_validate(sections | {"train": {"epochs": 2}})
    >>> differences(Recipe.model_validate(sections), short)
    {'train.epochs': (30, 2)}
    """
    a, b = dict(_flatten(recipe.model_dump())), dict(_flatten(other.model_dump()))
    return {key: (a.get(key), b.get(key)) for key in a | b if a.get(key) != b.get(key)}


def extension(before, recipe):
    """Compares how long two recipes train.

    Args:
        before: The `Recipe` that a run was started with.
        recipe: The `Recipe` that it is to be continued with.

    Returns:
        Both values of each key that makes the training longer.

    Example:

    >>> from kerasfer.recipe import load_recipe
    >>> extension(*(load_recipe("quickstart", [f"train.epochs={n}"]) for n in (30, 60)))
    {'train.epochs': (30, 60)}
    """
    longer = {}
    if recipe.train.epochs > before.train.epochs:
        longer["train.epochs"] = (before.train.epochs, recipe.train.epochs)
    patience, now = before.train.early_stopping, recipe.train.early_stopping
    if patience is not None and (now is None or now > patience):
        longer["train.early_stopping"] = (patience, now)
    return longer


def _flatten(section, prefix=""):
    for key, value in section.items():
        if prefix + key in FREE_KEYS:
            continue
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
