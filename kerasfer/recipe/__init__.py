"""Loads recipes from YAML files, checks them, and writes them.

    read the file → read its `base` → merge → apply `--set` → check → Recipe

Every mistake is reported as a `RecipeError`, which names its location (`recipes/mine.yaml:7` or
`--set train.epoch=1`), what was expected, what was received and what to do. Nothing here imports
Keras.
"""

import os

from pydantic import ValidationError

from kerasfer.errors import RecipeError
from kerasfer.recipe.messages import escaped, explain, show
from kerasfer.recipe.overrides import parse_override, replace
from kerasfer.recipe.schema import DATA, Recipe
from kerasfer.recipe.shipped import find
from kerasfer.recipe.yaml_files import dump_yaml, missing, parse_file

__all__ = ["dump", "load_data", "load_recipe", "parse_file"]

# These keys describe only the recipe that contains them.
NOT_INHERITED = ("name", "description", "reproduces")
MOST_BASES = 20


def load_recipe(path, overrides=(), trained=False):
    """Reads a recipe with everything it inherits, and checks every key.

    Args:
        path: The YAML file, or the name of a recipe that comes with kerasfer, such as
            `"quickstart"`. Its key `base` names another recipe, relative to this one, whose
            sections it inherits key by key.
        overrides: Strings `"key.path=value"` with the value in YAML. Later ones win.
        trained: Whether the recipe belongs to a run. The run has its model, which need not be
            registered to be evaluated.

    Returns:
        A `kerasfer.recipe.schema.Recipe`, named after the file unless it has a name.

    Raises:
        RecipeError: If the file is missing or a value is invalid. The message describes the first
            mistake in one line.

    Example:

    >>> load_recipe("quickstart", overrides=["train.epochs=1"]).train.epochs
    1
    """
    path = find(path)
    values, places = _read(path)
    values = {"name": path.stem} | values
    context = {"any_model": trained}
    return _check(
        lambda values: Recipe.model_validate(values, context=context),
        *_apply(overrides, values, places),
        path,
    )


def load_data(name, overrides=()):
    """Checks the options of a dataset like the `data` section of a recipe.

    Args:
        name: A key of `kerasfer.data.DATASETS`.
        overrides: Strings `"key=value"` or `"data.key=value"`, as for `load_recipe`.

    Returns:
        The recipe's `data` section.

    Raises:
        RecipeError: If the file is missing or a value is invalid. The message describes the first
            mistake in one line.

    Example:

    >>> load_data("ferplus", ["labels=majority"]).labels
    'majority'
    """
    values, places, given = _apply(overrides, {"data": {"name": name}}, {}, "data")
    return _check(
        lambda values: DATA.validate(values["data"]), values, places, given, "--set", ("data",)
    )


def dump(recipe):
    """Converts a recipe to YAML with all defaults, which `load_recipe` reads back unchanged."""
    return dump_yaml(recipe.model_dump(exclude_none=True))


def _read(path, heirs=()):
    """Returns the values of a file merged with those of its bases, and the location of each key."""
    values, places = parse_file(path)
    if "base" not in values:
        return values, places
    base, place = values.pop("base"), places[("base",)]
    if not isinstance(base, str):
        raise RecipeError(f"{place}: `base` must be the path of a recipe. Received: {show(base)}.")
    heirs = (*heirs, path)
    base_path = path.parent / base
    if not os.path.exists(base_path):
        base_path = find(base) if os.path.exists(find(base)) else base_path
    if os.path.realpath(base_path) in map(os.path.realpath, heirs):
        circle = " -> ".join(escaped(step) for step in (*heirs, base_path))
        raise RecipeError(f"{place}: `base` refers back to this recipe: {circle}.")
    if len(heirs) > MOST_BASES:
        raise RecipeError(f"{place}: `base`: more than {MOST_BASES} recipes inherit in a row.")
    if not os.path.lexists(base_path):
        raise RecipeError(f"{place}: `base`: {missing(base_path)}")
    inherited, base_places = _read(base_path, heirs)
    inherited = {key: value for key, value in inherited.items() if key not in NOT_INHERITED}
    return _merge(inherited, values), base_places | places


def _apply(overrides, values, places, section=None):
    """Returns the values and places with the overrides applied, and the overrides by key."""
    given = {}
    for override in overrides:
        override = parse_override(override, section)
        keys, depths = override.keys, range(1, len(override.keys) + 1)
        values = _merge(values, replace({}, keys, override.value))
        places = places | {keys[:depth]: override.place for depth in depths}
        given[keys] = override
    return values, places, given


def _check(validate, values, places, given, path, parents=()):
    """Validates values, and raises a RecipeError with the location of the first mistake."""
    while True:
        try:
            return validate(values)
        except ValidationError as error:
            values, again = _as_typed(error, values, given, parents)
            if not again:
                raise RecipeError(explain(error, path, places, values, parents)) from None


def _as_typed(error, values, given, parents):
    """Uses the text of an override as a string if the key expects a string."""
    for problem in error.errors(include_url=False):
        keys = (*parents, *map(str, problem["loc"]))
        override = given.get(keys)
        if override is None:
            continue
        is_text = problem["type"] == "string_type" and problem["input"] is not None
        if is_text and problem["input"] != override.text:
            return replace(values, keys, override.text), True
        if override.problem:
            raise RecipeError(f"{override.place}: the value is not valid YAML: {override.problem}.")
    return values, False


def _merge(below, above):
    """Merges two nested dicts. The values of `above` have priority."""
    both = {
        key: _merge(below[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(key), dict)
    }
    return below | above | both
