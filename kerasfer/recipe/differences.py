"""What in two recipes may make the results of their runs differ."""

# These keys name and describe a run, or say how it is computed, and change no result. Whether a run
# is continued on the backend that began it is checked where the backend is known.
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

    Both are complete: a key that one of the files leaves out has its default, so that a recipe
    written before the key existed equals one with that default.

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


def _flatten(section, prefix=""):
    for key, value in section.items():
        if prefix + key in FREE_KEYS:
            continue
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
