"""The base class of everything that a recipe configures, and the registries' entries.

Models, datasets and optimizers declare their options as `Section` classes. A registry maps each
name to a function and the class of its options. `kerasfer.recipe.schema` assembles the recipe's
sections from the registries. Nothing here imports Keras or NumPy.
"""

import inspect
from functools import cache
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

# The choices that several parts of the package offer.
Axis = Literal["spatial", "channel"]
Backend = Literal["tensorflow", "jax", "torch"]
CropMode = Literal["random", "fixed", "landmarks"]
ListName = Literal["occlusion", "pose30", "pose45"]
Method = Literal["eigh", "matmul"]
Paper = Literal["obsr", "spd_attention"]
PenaltyForm = Literal["squared", "linear"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Split = Literal["train", "validation", "test"]
Protocol = Literal["official", "subjects", "frames"]
Views = Literal["none", "flip", "ten_crop"]


class Section(BaseModel):
    """A checked group of options, immutable and without unknown keys.

    Validation is strict, since `epochs: true` or `flip: "yes"` is a mistake that coercion would
    train on.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Registered:
    """A registry's entry: a function that is imported when it is first called, and its options.

    Args:
        target: The function, or its dotted name, such as `"kerasfer.models.obsr_net.obsr"`.
        options: `Section` class with a field for each argument that a recipe may set.

    Example:

    >>> Registered("math.hypot")(3, 4)
    5.0
    """

    def __init__(self, target, options=Section):
        self.target = target
        self.options = options

    def load(self):
        """Returns the function."""
        if callable(self.target):
            return self.target
        module, _, name = self.target.rpartition(".")
        return getattr(import_module(module), name)

    def __call__(self, *args, **kwargs):
        return self.load()(*args, **kwargs)


def function_of(entry):
    """Returns the function of a registry's entry, which may be the function itself."""
    return entry.load() if isinstance(entry, Registered) else entry


def options_of(entry):
    """Returns the `Section` class with the options of a registry's entry.

    Args:
        entry: A `Registered`, or a function. The options of a function are its keyword arguments,
            with the types of their annotations or else of their defaults.

    Example:

    >>> def build(class_names, image_size, units=8): ...
    >>> options_of(build)(units=4)
    build(units=4)
    """
    return entry.options if isinstance(entry, Registered) else _derive_options(entry)


@cache
def _derive_options(function):
    fields = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.default is parameter.empty:
            continue  # What the program passes: class names and image size, or the data folder.
        kind = parameter.annotation
        if kind is parameter.empty:
            kind = Any if parameter.default is None else type(parameter.default)
        field = Field(None, description=f"Argument of {function.__name__}.")
        fields[parameter.name] = (kind | None if kind is not Any else Any, field)
    return create_model(
        function.__name__, __base__=Section, __doc__=f"Arguments of {function.__name__}.", **fields
    )
