"""Defines the options of each model in a recipe.

A field that is `None` leaves the choice to the model's function, whose argument has the same name.
The classes are separate from the functions so that recipes are checked without importing Keras.
"""

from typing import Literal

from pydantic import Field, field_validator

from kerasfer.options import Axis, CropMode, Method, PenaltyForm, Section

Backbone = Literal[
    "alexnet",
    "densenet121",
    "efficientnet_lite0",
    "efficientnet_lite0_cut",
    "efficientnet_lite0_stride16",
    "inception_resnet_v1",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "resnet18",
    "resnet34",
    "vgg16",
    "vgg19",
]
Stem = Literal["imagenet", "half", "small"]
Stage = Literal["P2", "P3", "P4", "P5"]


class Head(Section):
    """The classifier at the end of every model."""

    dropout: float | None = Field(
        None, ge=0, lt=1, description="Fraction of the features dropped before the classifier."
    )


class Frozen(Head):
    """A feature extractor that can be frozen."""

    frozen: bool | None = Field(
        None, description="Train the classifier only and keep the feature extractor's weights."
    )


class Network(Frozen):
    """A feature extractor with pretrained weights."""

    weights: str | None = Field(
        None,
        description="Initial weights: imagenet, a keras-hub preset, a local path, or a run folder "
        "or .keras file to begin with. null: random.",
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _read_none(cls, weights):
        # YAML spells it null; `none` would otherwise be taken for the name of a file.
        return None if weights in ("none", "None") else weights


class StemmedNetwork(Network):
    """A feature extractor with a variant for small pictures."""

    stem: Stem | None = Field(
        None,
        description="First layers: 7 x 7 with stride 2 and max-pooling (imagenet), or 3 x 3 with "
        "stride 2 (half) or 1 (small) and no pooling, for small pictures.",
    )


class AlexNet(Network):
    """AlexNet, average pooling and a softmax."""

    stem: Literal["imagenet", "small"] | None = Field(
        None, description="First layers: 11 x 11 with stride 4 (imagenet), or 3 x 3 (small)."
    )


class LiteNetwork(Network):
    """EfficientNet-Lite0, average pooling and a softmax."""

    stem: Literal["imagenet", "small"] | None = Field(
        None, description="First layer: 3 x 3 with stride 2 (imagenet) or 1 (small)."
    )


class Extractor(StemmedNetwork):
    """A head on any feature extractor."""

    backbone: Backbone | None = Field(None, description="The feature extractor.")


class Classifier(Extractor):
    """Any feature extractor, average pooling and a softmax."""

    gray: bool | None = Field(None, description="Convert color pictures to gray first.")


class Obsr(Extractor):
    """OBSR-Net: two feature extractors and bilinear pooling."""

    shared: bool | None = Field(
        None, description="Use one feature extractor for both, at half the cost."
    )


class Spectral(Head):
    """Numerics of a covariance and its matrix logarithm."""

    shrinkage: float | None = Field(
        None,
        ge=0,
        le=1,
        description="λ of C + λ·trace(C)·I, which makes a covariance positive definite.",
    )
    epsilon: float | None = Field(None, gt=0, le=1, description="Smallest eigenvalue after ReEig.")
    method: Method | None = Field(
        None,
        description="Matrix logarithm by an eigendecomposition (eigh), or by matrix products only "
        "(matmul), as phones need.",
    )


class Regularized(Spectral):
    """A matrix logarithm with regularized eigenvalues."""

    logreg_weight: float | None = Field(
        None, ge=0, le=1e6, description="Weight of the log-eigenvalue regularization in the loss."
    )
    logreg_form: PenaltyForm | None = Field(
        None,
        description="The regularization as the paper's eq. (8) has it (squared), or the one whose "
        "gradient is eq. (10) (linear).",
    )


class CovPool(Extractor, Regularized):
    """Covariance Pooling: the covariance of a network's channels, by default a small one's."""

    bimap_units: int | None = Field(None, ge=1, le=65_536, description="Output size of BiMap.")


class SPDAttention(Extractor, Regularized):
    """SPD-Attention: regions of a face, weighted by the covariance of their features."""

    feature_stage: Stage | None = Field(
        None, description="Stage of the ResNet whose feature map feeds the covariance."
    )
    crops: int | None = Field(
        None,
        ge=1,
        le=100,
        description="Number of crops that are seen in addition to the whole face.",
    )
    crop_mode: CropMode | None = Field(None, description="Where the crops are cut during training.")
    crop_area: float | None = Field(
        None, gt=0, le=1, description="Area of a crop, as a fraction of the picture's area."
    )
    axis: Axis | None = Field(
        None, description="Covariance of positions (spatial) or of channels (channel)."
    )
    normalize: bool | None = Field(
        None, description="Divide by the sum of the attention coefficients."
    )
    bimap_units: int | None = Field(None, ge=1, le=65_536, description="Output size of BiMap.")


class SlimSPD(Spectral):
    """A phone's model: a slim ResNet and the covariance of its last feature map."""

    width: int | None = Field(None, ge=2, le=4096, description="Channels of the first stage.")
    bimap_units: int | None = Field(None, ge=1, le=65_536, description="Output size of BiMap.")
