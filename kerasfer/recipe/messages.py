"""What is wrong with a recipe, in one line a user understands.

pydantic finds the mistakes; the words come from the recipe's own JSON schema, so that an error and
an editor's completion say the same.
"""

import json
import re
from difflib import get_close_matches

from kerasfer.recipe.schema import recipe_schema


def explain(error, path, places):
    """Turns pydantic's findings into one line about the first of them.

    Args:
        error: the `pydantic.ValidationError` of a `Recipe`.
        path: the recipe's file.
        places: where each key was given, `{("train", "epochs"): "recipes/mine.yaml:7"}`.

    Returns:
        `place: what was expected, what came, what to do`.
    """
    problems = error.errors(include_url=False)
    # A misspelt required key is both unknown and missing; the first of the two helps.
    problem = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    keys = tuple(str(key) for key in problem["loc"])
    name, value, known = ".".join(keys), problem["input"], _known_keys()
    if problem["type"] == "missing":
        return f"{path}: `{name}` is required: {known[keys]['description']}"
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
        keys = tuple(re.search("`(.+?)`", message)[1].split("."))
    elif problem["type"] == "extra_forbidden":
        message = f"unknown key `{name}`. {_suggest_key(keys, known)}"
    else:
        message = f"`{name}` must be {_expected(known[keys])}. Received: {show(value)}."
        message += _suggest_choice(value, known[keys])
    given = (places[keys[:depth]] for depth in range(len(keys), 0, -1) if keys[:depth] in places)
    return f"{next(given, path)}: {message}"


def show(value):
    """Writes a value as its user would in YAML, shortened to fit a line."""
    scalar = not isinstance(value, dict | list)
    text = json.dumps(value, ensure_ascii=False, default=str) if scalar else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_TYPES = {
    "null": "null",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
}
_BOUNDS = {
    "exclusiveMinimum": "above",
    "minimum": "at least",
    "exclusiveMaximum": "below",
    "maximum": "at most",
}


def _known_keys():
    """Returns the JSON schema of every key, `{("data", "name"): {...}}`."""
    root = recipe_schema()
    known, sections = {}, [((), root)]
    for parents, section in sections:
        for key, part in section["properties"].items():
            keys = (*parents, key)
            known[keys] = part
            for option in (part, *part.get("anyOf", ())):
                if "$ref" in option:
                    below = root["$defs"][option["$ref"].rpartition("/")[2]]
                    sections.append((keys, below))
                    known[keys] = {"description": below["description"]} | part
    return known


def _expected(part):
    """Says what a part of the JSON schema allows, such as `a number (above 0) or null`."""
    if "anyOf" in part:
        return " or ".join(_expected(option) for option in part["anyOf"])
    if "enum" in part:
        return f"one of {', '.join(map(str, part['enum']))}"
    if "pattern" in part:
        return "a name for a folder: without / and \\, not beginning with a dot"
    bounds = [f"{words} {part[bound]:.10g}" for bound, words in _BOUNDS.items() if bound in part]
    kind = _TYPES.get(part.get("type"), "a section of keys and values")
    return f"{kind} ({', '.join(bounds)})" if bounds else kind


def _suggest_key(keys, known):
    siblings = [path[-1] for path in known if path[:-1] == keys[:-1]]
    namesakes = [path for path in known if path[-1] == keys[-1]]
    close = [(*keys[:-1], key) for key in get_close_matches(keys[-1], siblings, n=1)]
    if namesakes or close:
        return f"Did you mean `{'.'.join((namesakes or close)[0])}`?"
    return f"Known here: {', '.join(siblings)}."


def _suggest_choice(value, part):
    choices = [
        str(choice)
        for option in (part, *part.get("anyOf", ()))
        for choice in option.get("enum", ())
    ]
    close = get_close_matches(value, choices, n=1) if isinstance(value, str) else ()
    return f" Did you mean {close[0]}?" if close else ""
