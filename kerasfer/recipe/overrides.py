"""Parses changes of a recipe that are given as `KEY=VALUE` on the command line."""

from typing import NamedTuple

import yaml

from kerasfer.errors import RecipeError
from kerasfer.recipe.messages import escaped
from kerasfer.recipe.yaml_files import DEEPEST, compose, construct


class Override(NamedTuple):
    """One change of a recipe (`--set`).

    Args:
        keys: The key's path, such as `("train", "epochs")`.
        value: The value as YAML reads it.
        text: The value as it was typed.
        problem: Why the text is not valid YAML, or `None`. The value is then the text, which a key
            for strings accepts.
        place: The name of the change in error messages.
    """

    keys: tuple
    value: object
    text: str
    problem: str | None
    place: str


def parse_override(override, section=None):
    """Reads a string `"key.path=value"`.

    Args:
        override: The string. A value is YAML, except that ` #` does not begin a comment.
        section: The section of the key if the string does not name it.

    Returns:
        `Override`.

    Raises:
        RecipeError: If the string does not have this form.

    Example:

    >>> parse_override("train.epochs=3").value, parse_override("data.path=faces #2").value
    (3, 'faces #2')
    """
    key, equals, text = str(override).partition("=")
    keys, text = tuple(part.strip() for part in key.split(".")), text.strip()
    place = f"--set {escaped(override, 80)}"
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in str(override)):
        raise RecipeError(f"{place}: a NUL, or bytes that are not UTF-8, cannot be in a recipe.")
    if len(keys) > DEEPEST:
        raise RecipeError(f"{place}: a key has at most {DEEPEST} parts. Received: {len(keys)}.")
    if not equals or not all(keys):
        raise RecipeError(f"{place}: expected KEY=VALUE, such as train.epochs=1.")
    if keys == ("base",):
        raise RecipeError(f"{place}: `base` can only be given in the recipe's file.")
    if section and keys[0] != section:
        keys = (section, *keys)
    try:
        node, problem = compose(text), None
        value = construct(node)
        end = node.end_mark.index if node else 0
        plain = node is None or isinstance(node, yaml.ScalarNode) and node.style is None
        if text[end:].strip():
            # Text that YAML would parse as a comment is part of the value.
            value = text
            problem = None if plain else f"{escaped(text[end:].strip())!r} follows the value"
    except ValueError as error:
        value, problem = text, error.args[0]
    return Override(keys, value, text, problem, place)


def replace(values, keys, value):
    """Returns a copy of nested dicts with another value at a path of keys."""
    if not keys:
        return value
    below = values.get(keys[0]) if isinstance(values, dict) else None
    return {**values, keys[0]: replace(below or {}, keys[1:], value)}
