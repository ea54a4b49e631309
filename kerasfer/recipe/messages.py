"""Describes the mistakes in a recipe, each in one line.

pydantic finds the mistakes. The descriptions come from the JSON schema of the recipe, so error
messages and the completion of an editor agree.
"""

import json
import re

from kerasfer.recipe.schema import SECTIONS, recipe_schema
from kerasfer.text import closest, did_you_mean

LONGEST = 60  # Characters of a value or a key in a message.


def explain(error, path, places, values, parents=()):
    """Describes the first mistake that pydantic found in one line.

    Args:
        error: The `pydantic.ValidationError` of a `Recipe`.
        path: The recipe's file.
        places: Where each key was given, `{("train", "epochs"): "recipes/mine.yaml:7"}`.
        values: The recipe that was checked, as nested dicts.
        parents: The keys of the section that was checked, if it was not the whole recipe.

    Returns:
        `place: what was expected, what was received, what to do`.
    """
    problems = error.errors(include_url=False)
    # A misspelled required key is both unknown and missing. The first of the two helps.
    problem = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    keys = (*parents, *map(str, problem["loc"]))
    message, keys = _describe(problem, keys, values)
    given = (places[keys[:depth]] for depth in range(len(keys), 0, -1) if keys[:depth] in places)
    return f"{next(given, escaped(path))}: {message}"


def show(value):
    """Formats a value as a user writes it in YAML, shortened to fit a line."""
    if isinstance(value, dict | list):
        return escaped(repr(value), LONGEST)
    if isinstance(value, str):
        return f'"{escaped(value, LONGEST)}"'
    return escaped(json.dumps(value, default=str), LONGEST)


def escaped(text, longest=200):
    """Shortens a text that does not fit into a message, and escapes what cannot be printed."""
    text = str(text)
    text = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


_TYPES = {
    "null": "null",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
}
_BOUNDS = {
    "exclusiveMinimum": "above",
    "minimum": "at least",
    "exclusiveMaximum": "below",
    "maximum": "at most",
}


def _describe(problem, keys, values):
    """Returns the message of a problem, and the keys whose location precedes it."""
    name, value, known = escaped(".".join(keys), LONGEST), problem["input"], _known_keys(values)
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
        return message, tuple(re.search("`(.+?)`", message)[1].split("."))
    if problem["type"] == "missing":
        return f"`{name}` is required: {known[keys]['description']}", ()
    if problem["type"] == "extra_forbidden":
        return _unknown_key(keys, name, known, values), keys
    # pydantic adds the member of a union or the index in a list to the key.
    keys = next(keys[:end] for end in range(len(keys), 0, -1) if keys[:end] in known)
    name = escaped(".".join(keys), LONGEST)
    message = f"`{name}` must be {_expected(known[keys])}. Received: {show(value)}."
    return message + _suggest(value, known[keys]), keys


def _unknown_key(keys, name, known, values):
    section = SECTIONS.get(keys[0]) if len(keys) == 2 else None
    if section and keys[1] in section.known_keys():
        chosen = values[keys[0]]["name"]
        own = ", ".join(section.own_keys(chosen)) or "no options of its own"
        return (
            f"the {section.title} {chosen} does not take {name}; it takes {own}. Remove the key, "
            "or set it to null if it is inherited."
        )
    siblings = [path[-1] for path in known if path[:-1] == keys[:-1]]
    namesakes = [".".join(path) for path in known if path[-1] == keys[-1]]
    close = None if namesakes else closest(keys[-1], siblings)
    if namesakes or close:
        suggestion = namesakes[0] if namesakes else ".".join((*keys[:-1], close))
        return f"unknown key `{name}`. Did you mean `{suggestion}`?"
    return f"unknown key `{name}`. Known here: {', '.join(siblings)}."


def _known_keys(values):
    """Returns the JSON schema of every key that the recipe may have, `{("data", "name"): {…}}`."""
    root = recipe_schema()
    known, sections = {}, [((), root)]
    for parents, section in sections:
        for key, part in section["properties"].items():
            keys = (*parents, key)
            known[keys] = part
            for reference in _references(part, values.get(key)):
                below = root["$defs"][reference.rpartition("/")[2]]
                sections.append((keys, below))
                known[keys] = {"description": below["description"]} | part
    for key, section in SECTIONS.items():
        known[key, "name"] = known[key, "name"] | {"enum": list(section.registry)}
    return known


def _references(part, value):
    """Returns the definitions that a part of the JSON schema refers to, and that fit a value."""
    if "discriminator" in part and isinstance(value, dict):
        mapping, name = part["discriminator"]["mapping"], value.get("name")
        return [mapping[name]] if isinstance(name, str) and name in mapping else mapping.values()
    return [option["$ref"] for option in (part, *part.get("anyOf", ())) if "$ref" in option]


def _expected(part):
    """Describes the valid values of a part of the JSON schema, as `a number (above 0) or null`."""
    if "discriminator" in part:
        return "a section of keys and values"
    if "anyOf" in part:
        return " or ".join(_expected(option) for option in part["anyOf"])
    if "enum" in part:
        return f"one of {', '.join(map(str, part['enum']))}"
    if "const" in part:
        return str(part["const"])
    if part.get("type") == "array":
        least = f" of at least {part['minItems']}" if "minItems" in part else ""
        return f"a list{least}, each item {_expected(part['items'])},"
    if "pattern" in part:
        return "the name of a folder, without / and \\ and not beginning with a dot"
    bounds = [f"{words} {part[bound]:.10g}" for bound, words in _BOUNDS.items() if bound in part]
    kind = _TYPES.get(part.get("type"), "a section of keys and values")
    return f"{kind} ({', '.join(bounds)})" if bounds else kind


def _suggest(value, part):
    options = (part, *part.get("anyOf", ()))
    choices = [str(choice) for option in options for choice in option.get("enum", ())]
    choices += [str(option["const"]) for option in options if "const" in option]
    if isinstance(value, str):
        return did_you_mean(value, choices)
    is_text = any(option.get("type") == "string" for option in options) and not choices
    if is_text and isinstance(value, int | float):
        return f' Put it in quotes: "{escaped(value)}".'
    return ""
