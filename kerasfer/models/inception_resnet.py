import keras
from keras import layers

# Scale of the residual of each kind of block.
SCALES = {"block35": 0.17, "block17": 0.10, "block8": 0.20}


def inception_resnet_v1_features(image_size, stem="imagenet", weights=None):
    """Builds Inception-ResNet-v1 up to its last feature map: a side of 160 becomes 3.

    It is the variant of FaceNet: batch normalization without a scale and with a momentum of 0.995,
    and no ReLU after the last block.

    Source: Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections
    on Learning, AAAI 2017, figures 10-14; scales of the residuals as in Sandberg's FaceNet.
    """
    pictures = keras.Input((image_size, image_size, 3))
    x = _conv(pictures, 32, 3, 2, "valid", "conv_1a")
    x = _conv(x, 32, 3, 1, "valid", "conv_2a")
    x = _conv(x, 64, 3, name="conv_2b")
    x = layers.MaxPooling2D(3, 2, name="pool_3a")(x)
    x = _conv(x, 80, 1, 1, "valid", "conv_3b")
    x = _conv(x, 192, 3, 1, "valid", "conv_4a")
    x = _conv(x, 256, 3, 2, "valid", "conv_4b")
    for number in range(1, 6):
        x = _block35(x, f"block35_{number}")
    x = _reduction_a(x, "mixed_6a")
    for number in range(1, 11):
        x = _block17(x, f"block17_{number}")
    x = _reduction_b(x, "mixed_7a")
    for number in range(1, 6):
        x = _block8(x, f"block8_{number}")
    return keras.Model(pictures, _block8(x, "block8_6", scale=1.0, activation=None))


def _block35(x, name):
    first = _conv(x, 32, 1, name=f"{name}_0")
    second = _path(x, name, "1", (32, 1), (32, 3))
    third = _path(x, name, "2", (32, 1), (32, 3), (32, 3))
    return _residual(x, [first, second, third], name, SCALES["block35"])


def _block17(x, name):
    first = _conv(x, 128, 1, name=f"{name}_0")
    second = _path(x, name, "1", (128, 1), (128, (1, 7)), (128, (7, 1)))
    return _residual(x, [first, second], name, SCALES["block17"])


def _block8(x, name, scale=SCALES["block8"], activation="relu"):
    first = _conv(x, 192, 1, name=f"{name}_0")
    second = _path(x, name, "1", (192, 1), (192, (1, 3)), (192, (3, 1)))
    return _residual(x, [first, second], name, scale, activation)


def _reduction_a(x, name):
    first = _conv(x, 384, 3, 2, "valid", f"{name}_0")
    second = _path(x, name, "1", (192, 1), (192, 3), (256, 3, 2, "valid"))
    pool = layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)
    return layers.Concatenate(name=name)([first, second, pool])


def _reduction_b(x, name):
    first = _path(x, name, "0", (256, 1), (384, 3, 2, "valid"))
    second = _path(x, name, "1", (256, 1), (256, 3, 2, "valid"))
    third = _path(x, name, "2", (256, 1), (256, 3), (256, 3, 2, "valid"))
    pool = layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)
    return layers.Concatenate(name=name)([first, second, third, pool])


def _path(x, block, branch, *convolutions):
    for number, arguments in enumerate(convolutions):
        x = _conv(x, *arguments, name=f"{block}_{branch}{'abc'[number]}")
    return x


def _conv(x, filters, size, strides=1, padding="same", name=None):
    x = layers.Conv2D(filters, size, strides, padding, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=0.995, epsilon=1e-3, scale=False, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _residual(x, branches, name, scale, activation="relu"):
    mixed = layers.Concatenate(name=f"{name}_mixed")(branches)
    up = layers.Conv2D(x.shape[-1], 1, name=f"{name}_up")(mixed)
    x = layers.Add(name=name)([x, layers.Rescaling(scale, name=f"{name}_scale")(up)])
    return layers.Activation(activation, name=f"{name}_relu")(x) if activation else x
