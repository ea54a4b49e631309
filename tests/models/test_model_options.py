"""The options that recipes may set fit the functions that build the models."""

import inspect
from typing import get_args

import keras
import pytest

from kerasfer import models
from kerasfer.layers import ClassProbabilities
from kerasfer.layers.crops import RegionCrops
from kerasfer.linalg.spectral import METHODS, PENALTY_FORMS
from kerasfer.models import MODELS, build_model, register_model
from kerasfer.models import options as choices
from kerasfer.models.backbones import RESNETS, STAGES, STEMS
from kerasfer.models.networks import NETWORKS
from kerasfer.options import Section, function_of, options_of
from kerasfer.recipe.schema import Recipe


@pytest.mark.parametrize("name", MODELS)
def test_the_options_of_a_recipe_are_the_arguments_of_the_model(name):
    arguments = list(inspect.signature(function_of(MODELS[name])).parameters)
    assert arguments[:2] == ["class_names", "image_size"]
    assert set(options_of(MODELS[name]).model_fields) == set(arguments[2:])


def test_choices_are_those_of_the_networks():
    assert set(get_args(choices.Backbone)) == {*RESNETS, *NETWORKS}
    assert get_args(choices.Stem) == tuple(STEMS)
    assert get_args(choices.Stage) == STAGES
    assert get_args(choices.Method) == METHODS
    assert get_args(choices.PenaltyForm) == PENALTY_FORMS
    stems = get_args(get_args(choices.AlexNet.model_fields["stem"].annotation)[0])
    assert stems == tuple(NETWORKS["alexnet"].smallest)
    for mode in get_args(choices.CropMode):
        RegionCrops(5, mode)


def test_models_are_functions_whatever_was_imported_before():
    from kerasfer.models.obsr_net import obsr  # noqa: F401

    for name in MODELS:
        assert inspect.isfunction(getattr(models, name)), name
    with pytest.raises(ImportError, match="cannot import name 'resnet81'"):
        from kerasfer.models import resnet81  # noqa: F401


# Models of users


def small(class_names, image_size, units: int = 4, bias=True, weights=None):
    pictures = keras.Input((image_size, image_size, 3))
    x = keras.layers.Conv2D(units, 3, use_bias=bias)(pictures)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pictures, ClassProbabilities(class_names)(keras.layers.Dense(2)(x)))


class Small(Section):
    """A small model."""

    units: int | None = None


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(models, "MODELS", MODELS)  # undone together with the items
    for name in ("small", "checked"):
        monkeypatch.delitem(MODELS, name, raising=False)
    register_model("small", small)
    register_model("checked", small, Small)
    yield
    for name in ("small", "checked"):
        del MODELS[name]


def recipe_of(**model):
    return Recipe.model_validate({"data": {"name": "synthetic"}, "model": model})


def test_a_recipe_names_a_registered_model(registered):
    recipe = recipe_of(name="small", units=8, bias=False)
    options = recipe.model.model_dump(exclude={"name"}, exclude_none=True)
    assert options == {"units": 8, "bias": False}
    model = build_model("small", ("a", "b"), 16, **options)
    assert model.layers[1].filters == 8 and not model.layers[1].use_bias
    assert recipe_of(name="checked", units=8).model.units == 8


@pytest.mark.parametrize(
    "section",
    [
        {"name": "small", "units": "many"},
        {"name": "small", "bias": 1},
        {"name": "small", "depth": 3},
        {"name": "checked", "bias": True},
        {"name": "other"},
    ],
)
def test_the_options_of_a_registered_model_are_checked(registered, section):
    with pytest.raises(ValueError, match=f"model.{list(section)[-1]}"):
        recipe_of(**section)


def test_a_name_is_registered_once(registered):
    with pytest.raises(ValueError, match="`name` must not be one of .* Received: 'resnet18'"):
        register_model("resnet18", small)
