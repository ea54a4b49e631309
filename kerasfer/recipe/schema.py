"""Defines the schema of recipes: every key with its type, range, default and description.

The checks, the JSON schema that editors use (`kerasfer recipe schema`) and the descriptions in
error messages are derived from these classes. The options of models and datasets are declared in
`kerasfer.models.options` and `kerasfer.data.options`. For a key with the default `None`, the
model, the optimizer or the dataset chooses the value.
"""

from copy import deepcopy
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, model_validator

from kerasfer.data import DATASETS
from kerasfer.models import MODELS
from kerasfer.options import Backend, Paper, Precision, Protocol, Section, Views
from kerasfer.recipe import checks
from kerasfer.recipe.sections import ByName

Epochs = Annotated[int, Field(le=1_000_000)]


class Reproduces(Section):
    """The published result that a run is compared with."""

    paper: Paper = Field(description="The paper.")
    table: int = Field(ge=1, le=1000, description="Number of the table.")
    row: str = Field(description="Row of the table, as printed.")
    column: str | None = Field(
        None, description="Column of the table, if it has several values per row."
    )
    accuracy: float = Field(ge=0, le=100, description="Published accuracy in percent.")


class Augment(Section):
    """Random changes of the training pictures. All are off by default."""

    flip: bool = Field(False, description="Mirror half of the pictures.")
    crop: float | None = Field(
        None, gt=0, le=1, description="Crop at random and keep at least this share of the area."
    )
    shift: float = Field(0.0, ge=0, lt=1, description="Largest shift, as a share of the side.")
    rotation: float = Field(0.0, ge=0, le=180, description="Largest rotation in degrees.")
    blur: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Blur half of the pictures, with a radius of at most this share of the side.",
    )
    brightness: float = Field(
        0.0, ge=0, le=1, description="Largest change of the brightness, as a share of it."
    )
    contrast: float = Field(
        0.0, ge=0, le=1, description="Largest change of the contrast, as a share of it."
    )
    erasing: float = Field(
        0.0, ge=0, le=1, description="Probability that a rectangle of the picture is erased."
    )
    mixup: float = Field(
        0.0, ge=0, le=1000, description="Alpha of mixup's beta distribution. 0 turns it off."
    )


class Data(Section):
    """The dataset, its splits and the preparation of its pictures."""

    name: str = Field(description="The dataset.")
    protocol: Protocol | None = Field(
        None,
        description="How the test pictures are chosen: the split of the release (official), k "
        "folds without a subject in two of them (subjects), or a random split of the frames "
        "(frames), which leaks near-identical frames. Default: the dataset's own.",
    )
    num_folds: int = Field(10, ge=3, le=1000, description="Number of folds of subjects.")
    fold: int | None = Field(
        None, ge=0, description="Run this fold only, counted from 0. Default: all of them."
    )
    validation_fraction: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of the training pictures used for validation, if the dataset has no "
        "validation split.",
    )
    limit: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Train on a stratified subset of this many pictures.",
    )
    image_size: int = Field(48, ge=16, le=4096, description="Side of the model's input in pixels.")
    batch_size: int = Field(32, ge=1, le=65_536, description="Pictures per training step.")
    augment: Augment = Field(default_factory=Augment)
    class_weights: Literal["none", "balanced", "proportional"] = Field(
        "none",
        description="Weight of each class in the loss: inversely proportional to its frequency "
        "(balanced) or proportional to it (proportional), with a mean of 1.",
    )
    on_bad_image: Literal["error", "skip"] = Field(
        "error", description="Stop at an unreadable picture, or skip and count it."
    )
    workers: int = Field(2, ge=1, le=256, description="Threads that prepare batches.")
    landmarks: str | None = Field(
        None,
        description="CSV file with the landmarks of the pictures, for model.crop_mode landmarks. "
        "A relative path is looked up as data.path is.",
    )

    @model_validator(mode="after")
    def _check(self):
        checks.check_folds(self)
        return self


class Model(Section):
    """The network."""

    name: str = Field(description="The model.")


DATA = ByName(DATASETS, Data, "dataset")
MODEL = ByName(MODELS, Model, "model")
SECTIONS = {"data": DATA, "model": MODEL}


class Schedule(Section):
    """The learning rate over the epochs."""

    name: Literal["constant", "step", "cosine"] = Field(
        "constant", description="Shape of the schedule."
    )
    every_epochs: Epochs = Field(20, ge=1, description="step: epochs between two drops.")
    factor: float = Field(
        0.1, gt=0, le=1, description="step: factor of the learning rate at each drop."
    )
    minimum: float = Field(0.0, ge=0, description="cosine: learning rate at the end.")
    warmup_epochs: Epochs = Field(
        0, ge=0, description="Epochs in which the learning rate rises linearly from 0."
    )

    @model_validator(mode="after")
    def _check(self):
        checks.check_schedule(self)
        return self


class Optimizer(Section):
    """The optimizer. Names with gc_ use gradient centralization."""

    name: Literal[
        "sgd", "adam", "adamw", "rmsprop", "gc_sgd", "gc_adam", "gc_adamw", "gc_rmsprop"
    ] = Field("adam", description="The optimizer.")
    learning_rate: float = Field(
        1e-3, gt=0, le=1000, description="Learning rate before the schedule."
    )
    schedule: Schedule = Field(default_factory=Schedule)
    momentum: float | None = Field(None, ge=0, lt=1, description="sgd and rmsprop: momentum.")
    weight_decay: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Decoupled weight decay: each step subtracts this times the learning rate "
        "times the weight.",
    )
    clip_norm: float | None = Field(
        None, gt=0, le=1e6, description="Largest global norm of the gradients."
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Evaluate an exponential moving average of the weights with this momentum.",
    )
    conv_only: bool | None = Field(None, description="gc_*: centralize convolutions only.")
    location: Literal["gradient", "update"] | None = Field(
        None, description="gc_*: centralize the gradient, or the update computed from it."
    )

    @model_validator(mode="after")
    def _check(self):
        checks.check_optimizer(self)
        return self


class Train(Section):
    """The duration of the training, the backend, and what is written."""

    epochs: Epochs = Field(
        30, ge=1, description="Passes over the training pictures, including the warm-up."
    )
    warmup_epochs: Epochs = Field(
        0, ge=0, description="First epochs, in which only the classifier is trained."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of every random choice.")
    backend: Backend | None = Field(None, description="Default: $KERAS_BACKEND, then tensorflow.")
    precision: Precision = Field("float32", description="Dtype policy of Keras.")
    devices: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto",
        description="Devices of this machine that share each batch: their number, or auto for all "
        "GPUs.",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each label that is spread over all classes."
    )
    early_stopping: Epochs | None = Field(
        None, ge=1, description="Stop after this many epochs in which `monitor` has not improved."
    )
    monitor: Literal["val_accuracy", "val_loss"] = Field(
        "val_accuracy", description="Metric that selects the weights of the best epoch."
    )
    tensorboard: bool = Field(True, description="Write TensorBoard logs.")
    log_gradient_norm: str | None = Field(
        None,
        description="Layer, such as spd_attention, whose gradient norm is written to "
        "gradient_norm.csv, one row per step.",
    )
    verbose: int = Field(
        1, ge=0, le=2, description="0: silent, 1: progress bars, 2: one line per epoch."
    )

    @model_validator(mode="after")
    def _check(self):
        checks.check_warmup(self)
        return self


class Distill(Section):
    """Distillation from a trained model, in addition to the labels."""

    teacher: str = Field(
        description="The trained model: a run folder or a .keras file, relative to the working "
        "folder."
    )
    temperature: float = Field(
        4.0,
        gt=0,
        le=1000,
        description="Divides the logits of both models. Above 1 it shows how the teacher ranks the "
        "wrong classes.",
    )
    weight: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Weight of the teacher's probabilities in the loss. The rest is the weight of "
        "the labels.",
    )
    features: Literal["covariance", "attention"] = Field(
        "covariance",
        description="Summary of the last feature maps that is compared: the covariance of their "
        "positions (covariance), or the position of the activations (attention).",
    )
    feature_weight: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="Weight of this comparison, which is in [0, 2]. 0 turns it off.",
    )

    @model_validator(mode="after")
    def _check(self):
        checks.check_distillation(self)
        return self


class Evaluate(Section):
    """The evaluation of the trained model."""

    tta: Views = Field(
        "none", description="Views of each test picture whose probabilities are averaged."
    )
    batch_size: int = Field(64, ge=1, le=65_536, description="Pictures per step.")


class Recipe(Section):
    """The complete description of a run: data, model, training and evaluation."""

    name: str = Field(
        "recipe",
        max_length=200,
        pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*$",
        description="Folder of the run, without / or \\. Default: the recipe's file name.",
    )
    description: str = Field("", description="Purpose of the run.")
    reproduces: Reproduces | None = Field(None, description="Published result to reproduce.")
    data: Annotated[Data, DATA] = Field(description=Data.__doc__)
    model: Annotated[Model, MODEL] = Field(description=Model.__doc__)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    train: Train = Field(default_factory=Train)
    distill: Distill | None = Field(None, description="Distillation from a trained model.")
    evaluate: Evaluate = Field(default_factory=Evaluate)

    @model_validator(mode="after")
    def _check(self):
        checks.check_stages(self.train, self.optimizer)
        checks.check_landmarks(self.data, self.model, self.distill)
        return self

    def __reduce__(self):
        # The classes of the sections are assembled at run time, so pickle cannot name them.
        return _restore, (self.model_dump(exclude_none=True),)


def _restore(values):
    return Recipe.model_validate(values, context={"any_model": True})


def recipe_schema():
    """Returns the JSON schema of a recipe file, for editors that complete and check YAML."""
    return deepcopy(_make_schema(tuple(DATASETS.items()), tuple(MODELS.items())))


@cache
def _make_schema(*registered):
    schema = Recipe.model_json_schema()
    schema["properties"]["base"] = {
        "type": "string",
        "description": "Another recipe to inherit from, relative to this file.",
    }
    # Any key may come from the base. Only a complete recipe has to have them.
    for part in (schema, *schema["$defs"].values()):
        part.pop("required", None)
    # A section without its name fits several models or datasets. A recipe sets an inherited key
    # that does not belong to its model or dataset to null.
    for key, section in SECTIONS.items():
        schema["properties"][key]["anyOf"] = schema["properties"][key].pop("oneOf")
        known = section.known_keys()
        for member in section.sections():
            others = "|".join(sorted(known - set(member.model_fields)))
            patterns = {f"^({others})$": {"type": "null"}} if others else {}
            schema["$defs"][member.__name__]["patternProperties"] = patterns
    return schema
