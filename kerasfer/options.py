"""The base class of everything that a recipe configures.

Datasets, models and optimizers declare their options as `Section` classes where they are defined,
and `kerasfer.recipe.schema` assembles a recipe from them.
"""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A checked group of options, immutable and without unknown keys.

    Validation is strict, since `epochs: true` or `flip: "yes"` is a mistake that coercion would
    train on.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
