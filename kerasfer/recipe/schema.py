"""What a recipe may say: every key with its type, range, default and meaning.

The classes are the one source for the checks, for `kerasfer recipe schema` (an editor completes
and explains recipes with it) and for the words of the error messages. A key whose default
is `None` leaves the choice to what it configures: the model's builder, the optimizer, the dataset.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kerasfer.data import DATASETS
from kerasfer.models import MODELS
from kerasfer.options import Backend, Precision, Protocol, Section, Views
from kerasfer.recipe.sections import ByName


class Reproduces(Section):
    """The published number that a run is held against."""

    paper: Literal["obsr", "spd_attention"] = Field(description="The paper.")
    table: int = Field(ge=1, description="Number of its table.")
    row: str = Field(description="Row of the table, as printed.")
    column: str | None = Field(
        None, description="Column, where the table has several values a row."
    )
    accuracy: float = Field(ge=0, le=100, description="Published accuracy, in percent.")


class Augment(Section):
    """Random changes of the training pictures; all off by default."""

    flip: bool = Field(False, description="Mirror every second picture.")
    crop: float | None = Field(
        None, gt=0, le=1, description="Crop at random, keeping at least this share of the area."
    )
    shift: float = Field(0.0, ge=0, lt=1, description="Largest shift, as a share of the side.")
    rotation: float = Field(0.0, ge=0, le=180, description="Largest rotation, in degrees.")
    erasing: float = Field(
        0.0, ge=0, le=1, description="Probability that a rectangle of the picture is erased."
    )
    mixup: float = Field(0.0, ge=0, description="Alpha of mixup's beta distribution; 0 is off.")


class Data(Section):
    """Which pictures, split how, prepared how."""

    name: str = Field(description="The dataset: ckplus, fer2013, ferplus, folder, synthetic, ….")
    protocol: Protocol | None = Field(
        None,
        description="How test pictures are set apart: the release's own split (official), k folds "
        "with no subject in two of them (subjects), or a random split over frames (frames), which "
        "leaks between the sets. Default: the dataset's own.",
    )
    num_folds: int = Field(10, ge=3, description="Folds of the protocol subjects.")
    fold: int | None = Field(None, ge=0, description="Run this fold only. Default: all, in turn.")
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="Share of the training pictures, where no split is given."
    )
    limit: int | None = Field(
        None, ge=1, description="Train on a stratified subset of this many pictures."
    )
    image_size: int = Field(48, ge=16, description="Side of the model's input, in pixels.")
    batch_size: int = Field(32, ge=1, description="Pictures in a training step.")
    augment: Augment = Field(default_factory=Augment)
    class_weights: Literal["none", "balanced", "proportional"] = Field(
        "none",
        description="Weight of a class in the loss: inverse to its frequency (balanced) or in "
        "proportion to it, with a mean of 1.",
    )
    on_bad_image: Literal["error", "skip"] = Field(
        "error", description="Stop at an unreadable picture, or count it and go on."
    )
    workers: int = Field(2, ge=1, description="Threads that prepare batches.")
    landmarks: str | None = Field(
        None,
        description="CSV file with the pictures' landmarks, for model.crop_mode landmarks; "
        "absolute, or in --data-dir.",
    )

    @model_validator(mode="after")
    def _check_fold(self):
        if self.fold is not None and self.protocol in ("official", "frames"):
            raise ValueError(
                "`data.fold` needs `data.protocol: subjects`, the only one with folds. "
                f"Received: fold={self.fold}, protocol={self.protocol}."
            )
        if self.fold is not None and self.fold >= self.num_folds:
            raise ValueError(
                f"`data.fold` counts from 0 and must be below `data.num_folds` ({self.num_folds}). "
                f"Received: {self.fold}."
            )
        return self


class Model(Section):
    """The network."""

    name: str = Field(description="The model.")


DATA = ByName(DATASETS, Data, "dataset")
MODEL = ByName(MODELS, Model, "model")
SECTIONS = {"data": DATA, "model": MODEL}


class Schedule(Section):
    """The learning rate over the epochs."""

    name: Literal["constant", "step", "cosine"] = Field("constant", description="Its shape.")
    every_epochs: int = Field(20, ge=1, description="step: epochs between two drops.")
    factor: float = Field(0.1, gt=0, le=1, description="step: what a drop multiplies by.")
    minimum: float = Field(0.0, ge=0, description="cosine: learning rate at the end.")
    warmup_epochs: int = Field(0, ge=0, description="Epochs of linear rise from 0.")


class Optimizer(Section):
    """How weights move; `gc_` is gradient centralization."""

    name: Literal[
        "sgd", "adam", "adamw", "rmsprop", "gc_sgd", "gc_adam", "gc_adamw", "gc_rmsprop"
    ] = Field("adam", description="The optimizer.")
    learning_rate: float = Field(1e-3, gt=0, description="Learning rate before the schedule.")
    schedule: Schedule = Field(default_factory=Schedule)
    momentum: float | None = Field(None, ge=0, lt=1, description="sgd and rmsprop: momentum.")
    weight_decay: float | None = Field(
        None, ge=0, description="Decoupled weight decay: weights shrink by this times the rate."
    )
    clip_norm: float | None = Field(None, gt=0, description="Largest norm of all gradients.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Evaluate a moving average of the weights, of this momentum."
    )
    conv_only: bool | None = Field(None, description="gc_*: centralize convolutions only.")
    location: Literal["gradient", "update"] | None = Field(
        None, description="gc_*: centralize the raw gradient, or the update made of it."
    )

    @model_validator(mode="after")
    def _check_names(self):
        for key, names in (
            ("momentum", ("sgd", "rmsprop", "gc_sgd", "gc_rmsprop")),
            ("conv_only", ("gc_sgd", "gc_adam", "gc_adamw", "gc_rmsprop")),
            ("location", ("gc_sgd", "gc_adam", "gc_adamw", "gc_rmsprop")),
        ):
            if getattr(self, key) is not None and self.name not in names:
                raise ValueError(
                    f"`optimizer.{key}` belongs to {', '.join(names)}: set it to null or change "
                    f"the optimizer. Received: {key}={getattr(self, key)}, name={self.name}."
                )
        if self.schedule.minimum > self.learning_rate:
            raise ValueError(
                "`optimizer.schedule.minimum` must not exceed `optimizer.learning_rate` "
                f"({self.learning_rate}). Received: {self.schedule.minimum}."
            )
        return self


class Train(Section):
    """How long, where, and what is kept."""

    epochs: int = Field(
        30, ge=1, description="Passes over the training pictures, warm-up included."
    )
    warmup_epochs: int = Field(
        0, ge=0, description="The first epochs, which train the classifier alone."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of every random choice.")
    backend: Backend | None = Field(None, description="Default: $KERAS_BACKEND, then tensorflow.")
    precision: Precision = Field("float32", description="Keras' dtype policy.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each label that is spread over all classes."
    )
    early_stopping: int | None = Field(
        None, ge=1, description="Stop after this many epochs without a better `monitor`."
    )
    monitor: Literal["val_accuracy", "val_loss"] = Field(
        "val_accuracy", description="What chooses the best epoch's weights."
    )
    tensorboard: bool = Field(True, description="Write TensorBoard logs.")
    log_gradient_norm: str | None = Field(
        None,
        description="Layer, such as spd_attention, whose weights' gradient norm is written into "
        "gradient_norm.csv, a row a step.",
    )
    verbose: int = Field(
        1, ge=0, le=2, description="0: silent, 1: progress bars, 2: one line an epoch."
    )

    @model_validator(mode="after")
    def _check_warmup(self):
        _check_fits("train.warmup_epochs", self.warmup_epochs, self.epochs)
        return self


class Distill(Section):
    """What a small model learns from a trained one, beside the labels; the default is nothing."""

    teacher: str = Field(
        description="The trained model: a run's folder or a .keras file, relative to the working "
        "folder."
    )
    temperature: float = Field(
        4.0,
        gt=0,
        description="What divides the logits of both: above 1 it shows how the teacher ranks the "
        "wrong answers.",
    )
    weight: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Share of the teacher's answers in the loss; the rest is the labels'.",
    )
    features: Literal["covariance", "attention"] = Field(
        "covariance",
        description="What is compared of the last feature maps: which places vary together "
        "(covariance), or where the activations are (attention).",
    )
    feature_weight: float = Field(
        0.0, ge=0, description="Weight of that comparison, which lies in [0, 2]; 0 leaves it out."
    )


class Evaluate(Section):
    """How the finished model is judged."""

    tta: Views = Field(
        "none", description="Test-time views of a picture whose probabilities are averaged."
    )
    batch_size: int = Field(64, ge=1, description="Pictures in a step.")


class Recipe(Section):
    """A whole run as names and numbers: data → model → fit → report."""

    name: str = Field(
        "recipe",
        pattern=r"^[^./\\][^/\\]*$",
        description="Folder of the run, without / or \\. Default: the recipe's file name.",
    )
    description: str = Field("", description="What the run is for.")
    reproduces: Reproduces | None = Field(None, description="The published number it aims at.")
    data: Annotated[Data, DATA] = Field(description=Data.__doc__)
    model: Annotated[Model, MODEL] = Field(description=Model.__doc__)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    train: Train = Field(default_factory=Train)
    distill: Distill | None = Field(None, description="Learn from a trained model too.")
    evaluate: Evaluate = Field(default_factory=Evaluate)

    @model_validator(mode="after")
    def _check_schedule(self):
        warmup = self.optimizer.schedule.warmup_epochs
        _check_fits("optimizer.schedule.warmup_epochs", warmup, self.train.epochs)
        return self

    @model_validator(mode="after")
    def _check_landmarks(self):
        crop_mode = getattr(self.model, "crop_mode", None)
        given, wanted = self.data.landmarks, crop_mode == "landmarks"
        if wanted and given is None:
            raise ValueError(
                "`model.crop_mode: landmarks` needs `data.landmarks`, a file of them such as "
                "`kerasfer data prepare` writes. Received: null."
            )
        if given is not None and not wanted:
            raise ValueError(
                "`data.landmarks` is for `model.crop_mode: landmarks`: set it to null or the mode "
                f"to landmarks. Received: {given}, crop_mode={crop_mode}."
            )
        if wanted and self.distill:
            raise ValueError(
                "`distill` has no landmarks for its teacher: leave it out or take "
                "`model.crop_mode` random or fixed. Received: landmarks."
            )
        return self


def _check_fits(key, warmup_epochs, epochs):
    if warmup_epochs > epochs:
        raise ValueError(
            f"`{key}` must not exceed `train.epochs` ({epochs}), which include the warm-up: "
            f"raise the epochs or set it to 0. Received: {warmup_epochs}."
        )


def recipe_schema():
    """Returns the JSON schema of a recipe file, for editors that complete and check YAML."""
    schema = Recipe.model_json_schema()
    schema["properties"]["base"] = {
        "type": "string",
        "description": "Another recipe to inherit from, relative to this file.",
    }
    # Any key may come from the base. Only a complete recipe has to have them.
    for part in (schema, *schema["$defs"].values()):
        part.pop("required", None)
    # So a section may lack its name, and then fits several models or datasets. A key of another
    # one is null where the recipe drops what it inherits.
    for key, section in SECTIONS.items():
        schema["properties"][key]["anyOf"] = schema["properties"][key].pop("oneOf")
        known = section.known_keys()
        for member in section.sections():
            others = "|".join(sorted(known - set(member.model_fields)))
            patterns = {f"^({others})$": {"type": "null"}} if others else {}
            schema["$defs"][member.__name__]["patternProperties"] = patterns
    return schema
