"""Reads the YAML files of recipes and tables, with the location of each key.

Only the values of JSON are supported: dates are strings, and tags such as `!!timestamp` are
unknown. Size, depth and aliases are limited, so that every file is read in a short time.
"""

import os
import re
import stat
from pathlib import Path

import yaml

from kerasfer.errors import RecipeError
from kerasfer.recipe.messages import escaped, show
from kerasfer.recipe.shipped import names
from kerasfer.text import closest

MOST_BYTES = 200_000  # Of a file.
MOST_VALUES = 20_000  # Of a file. Each alias counts as the values that it refers to.
DEEPEST = 20  # Levels of nesting.
SHIPPED_FOLDERS = {"recipe": "", "table": "tables"}
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {None: yaml.SafeLoader.construct_undefined}
    depth = 0

    def compose_node(self, parent, index):
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(
                None, None, f"values are nested more than {DEEPEST} levels deep", mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor):
        # A key is a string, also where YAML reads `on` as true and `1` as a number.
        node = super().compose_mapping_node(anchor)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                key.tag = f"{_TAG}str"
        return node

    def compose_scalar_node(self, anchor):
        node = super().compose_scalar_node(anchor)
        if "\0" in node.value or any("\ud800" <= char <= "\udfff" for char in node.value):
            problem = "found a NUL or half a surrogate pair in a string"
            raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
        return node

    def construct_scalar_or_fail(self, node):
        kind = node.tag.removeprefix(_TAG)
        try:
            return getattr(self, f"construct_yaml_{kind}")(node)
        except (ValueError, LookupError, OverflowError):
            problem = f"{show(node.value)} is not of the type {kind}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


class _Dumper(yaml.SafeDumper):
    pass


for _kind in ("null", "bool", "int", "float", "str"):
    _Loader.add_constructor(_TAG + _kind, _Loader.construct_scalar_or_fail)
for _kind in ("seq", "map"):
    _Loader.add_constructor(_TAG + _kind, yaml.SafeLoader.yaml_constructors[_TAG + _kind])
for _yaml in (_Loader, _Dumper):
    # PyYAML follows YAML 1.1, where 1e-4 is a string because it has no dot. Here it is a number.
    _yaml.add_implicit_resolver(f"{_TAG}float", FLOAT, list("-+.0123456789"))


def parse_file(path, kind="recipe", sections="sections such as `data:` and `model:`"):
    """Reads a YAML file that holds a mapping.

    Args:
        path: The file.
        kind: The kind of the file in error messages.
        sections: A description of its sections in error messages.

    Returns:
        Its values, and the place of each key, `{("train", "epochs"): "file:line"}`.

    Raises:
        RecipeError: If there is no such file, or it is not valid YAML.
    """
    text = _read_text(path, kind)
    try:
        node = compose(text)
        values = construct(node)
    except ValueError as error:
        line = f":{error.args[1]}" if len(error.args) > 1 else ""
        raise RecipeError(f"{escaped(path)}{line}: not valid YAML: {error.args[0]}.") from None
    if not isinstance(values, dict):
        came = {type(None): "an empty file", list: "a list"}.get(type(values), show(values))
        raise RecipeError(f"{escaped(path)}: a {kind} consists of {sections}. Received: {came}.")
    return values, _places(node, path)


def compose(text):
    """Parses YAML into a node.

    Returns:
        A `yaml.Node` whose size is limited, or `None` for an empty text.

    Raises:
        ValueError: If it is not valid YAML. The message contains the line number if it is known.
    """
    try:
        node = _Loader(text).get_single_node()
        if node is not None:
            _count(node, {})
        return node
    except yaml.YAMLError as error:
        raise ValueError(*_describe(error)) from None


def construct(node):
    """Converts a node of `compose` to strings, numbers, lists and dicts. Raises as `compose`."""
    if node is None:
        return None
    try:
        return _Loader("").construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(*_describe(error)) from None


def dump_yaml(values):
    """Writes nested dicts as YAML, which `parse_file` reads back unchanged."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def missing(path, kind="recipe"):
    """Returns a message that a file does not exist, with the names of existing files."""
    folder, stem = Path(path).parent, Path(path).stem
    shipped = names(SHIPPED_FOLDERS[kind])
    hint = f" kerasfer comes with a {kind} of that name: {stem}." if stem in shipped else ""
    try:
        files = sorted(name for name in os.listdir(folder) if name.endswith((".yaml", ".yml")))
    except OSError:
        return (
            f"There is no {kind} {escaped(path)}: the folder {escaped(folder)} does not exist "
            f"or cannot be read.{hint}"
        )
    close = [name for name in files if Path(name).stem == Path(path).name]
    if suggestion := next(iter(close), None) or closest(Path(path).name, files):
        return f"There is no {kind} {escaped(path)}. Did you mean {escaped(suggestion)}?"
    listed = ", ".join(map(escaped, files[:20])) or f"no {kind} at all"
    return f"There is no {kind} {escaped(path)}. In that folder: {listed}.{hint}"


def _read_text(path, kind):
    shown = escaped(path)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise RecipeError(f"A {kind} is a YAML file. Received: {shown}, which is a folder.")
        if not stat.S_ISREG(status.st_mode):
            # Reading from a pipe or a device may never end.
            raise RecipeError(
                f"A {kind} is a YAML file. Received: {shown}, which is not a regular file."
            )
        if status.st_size > MOST_BYTES:
            raise RecipeError(
                f"A {kind} must not exceed {MOST_BYTES:,} bytes. Received: {shown} with "
                f"{status.st_size:,} bytes."
            )
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(missing(path, kind)) from None
    except UnicodeDecodeError:
        raise RecipeError(
            f"A {kind} must be a text file in UTF-8. Received: {shown}, which is not."
        ) from None
    except OSError as error:
        raise RecipeError(f"Cannot read {shown}: {error.strerror}.") from None
    except ValueError:  # The path contains a NUL.
        raise RecipeError(f"Cannot read {shown}: not a valid path.") from None


def _count(node, counts):
    """Counts the values below a node. Each alias counts as the values that it refers to."""
    if node not in counts:
        counts[node] = None  # While it is counted.
        below = []
        if isinstance(node, yaml.SequenceNode):
            below = node.value
        elif isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        counts[node] = 1 + sum(_count(part, counts) for part in below)
    problem = None
    if counts[node] is None:
        problem = "an alias refers to what contains it"
    elif counts[node] > MOST_VALUES:
        problem = f"aliases stand for more than {MOST_VALUES:,} values"
    if problem:
        raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
    return counts[node]


def _places(node, path, parents=()):
    """Returns {("train", "epochs"): "file:line"}. A key that is given twice is an error."""
    places = {}
    # No key of a recipe is deeper than data.augment.flip.
    if isinstance(node, yaml.MappingNode) and len(parents) < 4:
        for key, value in node.value:
            keys = (*parents, str(key.value))
            place = f"{escaped(path)}:{key.start_mark.line + 1}"
            if keys in places:
                name = ".".join(map(escaped, keys))
                raise RecipeError(f"{place}: `{name}` is given twice.")
            places |= {keys: place} | _places(value, path, keys)
    return places


def _describe(error):
    """Describes an error in the YAML, with the line number if it is known."""
    mark = getattr(error, "problem_mark", None)
    problem = escaped(" ".join(str(getattr(error, "problem", None) or error).split()), 150)
    return (problem, mark.line + 1) if mark else (problem,)
