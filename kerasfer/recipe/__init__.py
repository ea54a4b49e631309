"""From a YAML file to a checked `Recipe`, and back.

    read the file → read its `base` → merge → apply `--set` → check → Recipe

Whatever a user can get wrong on the way becomes one `RecipeError` that names the place
(`recipes/mine.yaml:7` or `--set train.epoch=1`), what was expected, what came and what to do.
Nothing here imports Keras.
"""

import re
from difflib import get_close_matches
from pathlib import Path

import yaml
from pydantic import ValidationError

from kerasfer.errors import RecipeError
from kerasfer.recipe.messages import explain, show
from kerasfer.recipe.schema import DATA, Recipe

# What a recipe says about itself is not true of the recipes that build on it.
NOT_INHERITED = ("name", "description", "reproduces")


def load_recipe(path, overrides=()):
    """Reads a recipe, with all that it inherits, and checks every key.

    Args:
        path: the YAML file. Its key `base` names another recipe, relative to this one, whose
            sections it inherits key by key.
        overrides: strings `"key.path=value"`, the value in YAML; later ones win.

    Returns:
        A `kerasfer.recipe.schema.Recipe`, named after the file unless it says otherwise.

    Raises:
        RecipeError: in one line, at the first thing that is wrong.

    Example:

    ```python
    recipe = load_recipe("recipes/quickstart.yaml", overrides=["train.epochs=1"])
    recipe.train.epochs  # 1
    ```
    """
    path = Path(path)
    values, places = _read(path)
    for override in overrides:
        change, changed = _parse_override(override)
        values, places = _merge(values, change), places | changed
    values = {"name": path.stem} | values
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(explain(error, path, places, values)) from None


def load_data(name, overrides=()):
    """Checks the options of a dataset, as a recipe that names it is checked.

    Args:
        name: A key of `kerasfer.data.DATASETS`.
        overrides: Strings `"key=value"` or `"data.key=value"`, as for `load_recipe`.

    Returns:
        The recipe's `data` section.

    Raises:
        RecipeError: In one line, at the first thing that is wrong.

    Example:

    >>> load_data("ferplus", ["labels=majority"]).labels
    'majority'
    """
    values, places = {"data": {"name": name}}, {}
    for override in overrides:
        change, changed = _parse_override(override, "data")
        values, places = _merge(values, change), places | changed
    try:
        return DATA.validate(values["data"])
    except ValidationError as error:
        raise RecipeError(explain(error, "--set", places, values, ("data",))) from None


def dump(recipe):
    """Writes a recipe as YAML with every default filled in; `load_recipe` reads the same back."""
    values = recipe.model_dump(exclude_none=True)
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


# Reading ----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor):
        # A key is a text, also where YAML reads `on` as true and `1` as a number.
        node = super().compose_mapping_node(anchor)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                key.tag = "tag:yaml.org,2002:str"
        return node


class _Dumper(yaml.SafeDumper):
    pass


for _yaml in (_Loader, _Dumper):
    # PyYAML follows YAML 1.1, where 1e-4 is a text for want of a dot. Here it is a number.
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )


def _read(path, heirs=()):
    """Returns a file's values over those of its bases, and the place (file:line) of each key."""
    values, places = parse_file(path)
    if "base" not in values:
        return values, places
    base, place = values.pop("base"), places.get(("base",), path)
    if not isinstance(base, str):
        raise RecipeError(f"{place}: `base` must be the path of a recipe. Received: {show(base)}.")
    heirs = (*heirs, path)
    base_path = path.parent / base
    if base_path.resolve() in [heir.resolve() for heir in heirs]:
        circle = " -> ".join(str(step) for step in (*heirs, base_path))
        raise RecipeError(f"{place}: `base` leads back to where it came from: {circle}.")
    if not base_path.is_file():
        raise RecipeError(f"{place}: `base`: {_missing(base_path)}")
    inherited, base_places = _read(base_path, heirs)
    inherited = {key: value for key, value in inherited.items() if key not in NOT_INHERITED}
    return _merge(inherited, values), base_places | places


def parse_file(path, kind="recipe", sections="sections such as `data:` and `model:`"):
    """Reads a YAML file with a mapping in it.

    Returns:
        Its values, and the place of each key, `{("train", "epochs"): "file:line"}`.

    Raises:
        RecipeError: there is no such file, or it is no YAML; the words call it a `kind`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(_missing(path, kind)) from None
    except IsADirectoryError:
        raise RecipeError(f"A {kind} is a YAML file; {path} is a folder.") from None
    except UnicodeDecodeError:
        raise RecipeError(f"A {kind} is a text file in UTF-8; {path} is not.") from None
    except OSError as error:
        raise RecipeError(f"Cannot read {path}: {error.strerror}.") from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        values = loader.construct_document(node) if node else None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else path
        raise RecipeError(f"{place}: not valid YAML: {_yaml_problem(error)}.") from None
    if not isinstance(values, dict):
        came = {type(None): "an empty file", list: "a list"}.get(type(values), show(values))
        raise RecipeError(f"{path}: a {kind} consists of {sections}. Received: {came}.")
    return values, _places(node, path)


def _places(node, path, parents=()):
    """Returns {("train", "epochs"): "file:line"}; a key that is given twice is an error."""
    places = {}
    # No recipe is deeper than data.augment.flip; the limit also stops at aliases to themselves.
    if isinstance(node, yaml.MappingNode) and len(parents) < 4:
        for key, value in node.value:
            keys, place = (*parents, str(key.value)), f"{path}:{key.start_mark.line + 1}"
            if keys in places:
                raise RecipeError(f"{place}: `{'.'.join(keys)}` is given twice.")
            places |= {keys: place} | _places(value, path, keys)
    return places


def _parse_override(override, section=None):
    key, equals, text = override.partition("=")
    keys = tuple(key.strip().split("."))
    if section and keys[0] != section:
        keys = (section, *keys)
    place = f"--set {override}"
    if not equals or not all(keys):
        raise RecipeError(f"{place}: expected key.path=value, such as train.epochs=1.")
    if keys == ("base",):
        raise RecipeError(f"{place}: `base` can only be given in the recipe's file.")
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(
            f"{place}: the value is not valid YAML: {_yaml_problem(error)}."
        ) from None
    for name in reversed(keys):
        value = {name: value}
    return value, {keys[:depth]: place for depth in range(1, len(keys) + 1)}


def _merge(below, above):
    """Returns `below` with the keys of `above` laid over it, section by section."""
    both = {
        key: _merge(below[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(key), dict)
    }
    return below | above | both


def _missing(path, kind="recipe"):
    folder = path.parent
    if not folder.is_dir():
        return f"There is no {kind} {path}: the folder {folder} does not exist."
    names = sorted(file.name for file in folder.iterdir() if file.suffix in (".yaml", ".yml"))
    close = get_close_matches(path.name, names)
    if close:
        return f"There is no {kind} {path}. Did you mean {' or '.join(close)}?"
    return f"There is no {kind} {path}. In that folder: {', '.join(names) or f'no {kind} at all'}."


def _yaml_problem(error):
    return " ".join(str(getattr(error, "problem", None) or error).split())
