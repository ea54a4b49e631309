import keras
from keras import layers, ops

from kerasfer.layers import AffineSampling, FusedBatchNormalization
from kerasfer.layers.affine import IDENTITY
from kerasfer.models.heads import classify

SMALLEST = 18  # Smallest side for which the localization network has an output.


def deep_emotion(class_names, image_size=48, frozen=False, dropout=0.5):
    """Builds Deep-Emotion, a small network with a spatial transformer.

    The transformer regresses an affine map from the picture and resamples the picture with it. Four
    convolutions of 10 channels and two dense layers follow. At 48 px and 7 classes the network has
    66,877 parameters.

    Args:
        class_names: One string per class.
        image_size: Side of the pictures, in pixels, at least 18.
        frozen: Whether all layers except the dense ones are frozen.
        dropout: Dropout rate before the dense layers, in [0, 1).

    Returns:
        A `keras.Model`: RGB float32 `(batch, image_size, image_size, 3)` in [0, 255], averaged to
        gray → probabilities `(batch, num_classes)`.

    Raises:
        ValueError: If the pictures are too small.

    Example:
        >>> deep_emotion(("happy", "sad")).output_shape
        (None, 2)

    Source: Minaee, Minaei and Abdolrashidi, Deep-Emotion: Facial Expression Recognition Using
    Attentional Convolutional Network, Sensors 2021, 21(9); widths and kernels as in its public
    implementations.
    """
    if image_size < SMALLEST:
        raise ValueError(
            f"deep_emotion needs pictures of at least {SMALLEST} px: raise data.image_size. "
            f"Received: image_size={image_size}."
        )
    pictures = keras.Input((image_size, image_size, 3), name="pictures")
    gray = ops.mean(pictures, axis=-1, keepdims=True)
    scaled = layers.Rescaling(1 / 127.5, offset=-1, name="preprocessing")(gray)
    extractor = _extractor(image_size)
    extractor.trainable = not frozen
    x = layers.Flatten(name="features")(extractor(scaled))
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(50, activation="relu", name="dense")(x)
    return keras.Model(pictures, classify(x, class_names), name="deep_emotion")


def _extractor(image_size):
    pictures = keras.Input((image_size, image_size, 1))
    sample = AffineSampling(data_format="channels_last", name="spatial_transformer")
    x = sample([pictures, _localise(pictures)])
    x = layers.Conv2D(10, 3, activation="relu", name="conv_1")(x)
    x = layers.Conv2D(10, 3, name="conv_2")(x)
    x = layers.ReLU(name="relu_2")(layers.MaxPooling2D(2, name="pool_2")(x))
    x = layers.Conv2D(10, 3, activation="relu", name="conv_3")(x)
    x = layers.Conv2D(10, 3, name="conv_4")(x)
    x = FusedBatchNormalization(momentum=0.9, epsilon=1e-5, name="norm_4")(x)
    x = layers.ReLU(name="relu_4")(layers.MaxPooling2D(2, name="pool_4")(x))
    return keras.Model(pictures, x, name="backbone")


def _localise(x):
    for number, (filters, size) in enumerate(((8, 7), (10, 5)), 1):
        x = layers.Conv2D(filters, size, name=f"where_conv_{number}")(x)
        x = layers.MaxPooling2D(2, name=f"where_pool_{number}")(x)
        x = layers.ReLU(name=f"where_relu_{number}")(x)
    x = layers.Dense(32, activation="relu", name="where_dense")(
        layers.Flatten(name="where_flat")(x)
    )
    return layers.Dense(
        6,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(list(IDENTITY)),
        name="where",
    )(x)
