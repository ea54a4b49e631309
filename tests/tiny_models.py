"""Models of a few thousand weights, with all that a resumed training could get wrong."""

import keras

from kerasfer.models import MODELS, classifier, spd_attention

# What a training draws and writes for people: slow compared with such models, and not needed.
FIGURES = (
    "kerasfer.evaluate.scoring.plot_confusion_matrix",
    "kerasfer.train.results.plot_curves",
    "kerasfer.train.results.plot_heat_maps",
    "kerasfer.train.results.write_report",
)


def tiny_backbone(image_size):
    """Builds two convolutions with batch normalization: a side of 16 becomes 4, with 8 channels."""
    inputs = keras.Input((image_size, image_size, 3))
    x = inputs
    for number, filters in enumerate((4, 8)):
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", name=f"conv_{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{number}")(x)
        x = keras.layers.ReLU(name=f"relu_{number}")(x)
    return keras.Model(inputs, x)


def tiny(class_names, image_size, dropout=0.0, frozen=False):
    return classifier(
        class_names, image_size, tiny_backbone(image_size), frozen=frozen, dropout=dropout
    )


def tiny_spd(class_names, image_size, dropout=0.0, bimap_units=4):
    """Has random crops, a covariance, a kernel on the Stiefel manifold and an additional loss."""
    return spd_attention(
        class_names,
        image_size,
        tiny_backbone(image_size),
        crops=2,
        bimap_units=bimap_units,
        dropout=dropout,
    )


def register():
    MODELS.update(tiny=tiny, tiny_spd=tiny_spd)
