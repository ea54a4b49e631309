"""What an editor finds out with `kerasfer recipe schema`, which knows nothing of pydantic."""

from pathlib import Path

import pytest
import yaml

from kerasfer.data import DATASETS
from kerasfer.models import MODELS
from kerasfer.recipe.schema import SECTIONS, recipe_schema
from kerasfer.recipe.yaml_files import parse_file

jsonschema = pytest.importorskip("jsonschema")
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def errors(text):
    validator = jsonschema.Draft202012Validator(recipe_schema())
    return [error.message for error in validator.iter_errors(yaml.safe_load(text))]


def test_the_schema_is_valid():
    jsonschema.Draft202012Validator.check_schema(recipe_schema())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_fit(path):
    values, _ = parse_file(path)
    assert not list(jsonschema.Draft202012Validator(recipe_schema()).iter_errors(values))


@pytest.mark.parametrize(
    "text",
    [
        "model: {name: resnet18, crops: 3}",
        "model: {name: resnet81}",
        "model: {name: alexnet, stem: half}",
        "model: {crops: 3, width: 8}",
        "data: {name: fer2013, path: x}",
        "data: {name: fer2013, neutral: true}",
        "train: {epoch: 3}",
        "train: {epochs: 0}",
    ],
)
def test_wrong_recipes_do_not_fit(text):
    assert errors(text)


@pytest.mark.parametrize(
    "text",
    [
        "base: quickstart\nmodel: {dropout: 0.5}",
        "model: {name: resnet18, crops: null}",
        "data: {image_size: 32}",
        "{}",
    ],
)
def test_parts_of_recipes_fit(text):
    assert not errors(text)


@pytest.mark.parametrize("key, registry", [("data", DATASETS), ("model", MODELS)])
def test_the_json_schema_contains_only_matching_keys(key, registry):
    schema = recipe_schema()
    mapping = schema["properties"][key]["discriminator"]["mapping"]
    assert list(mapping) == list(registry)
    for name, reference in mapping.items():
        definition = schema["$defs"][reference.rpartition("/")[2]]
        expected = set(SECTIONS[key].section(name).model_fields)
        assert set(definition["properties"]) == expected
        assert definition["properties"]["name"]["const"] == name
        assert definition["description"]
