"""SavedModels for TF Serving, whose graph covers everything from a picture file to a class name."""

import json

import tensorflow as tf  # for its SavedModel format and picture decoders

from kerasfer.data.pictures import SMALLEST_SIDE
from kerasfer.export.warmup import write_warmup
from kerasfer.predict.runtimes import METADATA

ANY_SIZE = tf.TensorSpec((None, None, None, 3), "float32", name="pictures")
FILES = tf.TensorSpec((None,), "string", name="picture_bytes")


def write_saved_model(model, path, metadata, quantize="none", representative=None):
    """Writes a SavedModel with the signatures `serving_default` and `serving_bytes`.

    `serving_default` takes `pictures`, float32 `(batch, height, width, 3)` in [0, 255], of any
    size; `serving_bytes` takes `picture_bytes`, string `(batch,)`, the content of JPEG and PNG
    files. Both return `probabilities`, `class_id` and `class_name`; `serving_bytes` also returns
    `valid`. For a file that cannot be decoded, or with a side below 8 pixels, these are zeros, -1,
    "" and False, and the other files of the batch are not affected. A model whose input is not RGB
    pictures has only `serving_default`, with `inputs` of the model's shape.

    Args:
        model: A float32 `keras.Model`.
        path: The folder to create.
        metadata: JSON-serializable dict, stored as `assets.extra/kerasfer.json`.
        quantize, representative: Unused, since only TFLite supports quantization.

    Returns:
        A dict for the report.
    """
    names, size = metadata["class_names"], metadata["image_size"]
    if size is None:
        given = tf.TensorSpec(model.input_shape, "float32", name="inputs")
        signatures = {
            "serving_default": (lambda x: _answers(model(x, training=False), names), given)
        }
    else:

        def serve(pictures):
            return _answers(model(_resize(pictures, size), training=False), names)

        def serve_bytes(files):
            pictures, valid = _decode_all(files, size)
            return _answers(model(pictures, training=False), names, valid)

        signatures = {"serving_default": (serve, ANY_SIZE), "serving_bytes": (serve_bytes, FILES)}
    # Keras' ExportArchive is not used, since it stores every variable twice.
    module = tf.Module()
    module.variables_of_model = [variable.value for variable in model.variables]
    module.functions = {
        name: tf.function(function, input_signature=[given], autograph=False)
        for name, (function, given) in signatures.items()
    }
    tf.saved_model.save(module, str(path), signatures=module.functions)
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    if size is not None:
        write_warmup(extra / "tf_serving_warmup_requests", metadata["name"], size)
    return {"batch": "any"}


def _answers(probabilities, class_names, valid=None):
    class_id = tf.argmax(probabilities, axis=-1)
    class_name = tf.gather(tf.constant(class_names), class_id)
    if valid is None:
        return {"probabilities": probabilities, "class_id": class_id, "class_name": class_name}
    return {
        "probabilities": tf.where(valid[:, None], probabilities, 0.0),
        "class_id": tf.where(valid, class_id, -1),
        "class_name": tf.where(valid, class_name, ""),
        "valid": valid,
    }


def _decode_all(files, size):
    """Decodes files to pictures `(batch, size, size, 3)`, and returns which of them are valid.

    A failing operation makes its whole batch fail. A `tf.data.Dataset`, which can be part of a
    graph, can ignore the error of a single element.
    """
    count = tf.size(files)
    blank = tf.zeros((size, size, 3))
    decoded = (
        tf.data.Dataset.from_tensor_slices((tf.range(count), files))
        .map(lambda index, file: (index, _decode(file)), num_parallel_calls=tf.data.AUTOTUNE)
        .ignore_errors()
        .filter(lambda index, picture: tf.reduce_min(tf.shape(picture)[:2]) >= SMALLEST_SIDE)
        .map(lambda index, picture: (index, _resize(picture[None], size)[0]))
    )
    # The blank picture at the end keeps the batch from being empty.
    filled = decoded.concatenate(tf.data.Dataset.from_tensors((count, blank)))
    places, pictures = filled.batch(tf.cast(count, "int64") + 1).get_single_element()
    shape = (count + 1, size, size, 3)
    pictures = tf.scatter_nd(places[:, None], pictures, shape)[:count]
    valid = tf.scatter_nd(places[:, None], tf.ones_like(places), [count + 1])[:count] > 0
    return tf.ensure_shape(pictures, (None, size, size, 3)), valid


def _decode(file):
    """Decodes a JPEG or PNG file to RGB, with transparency on white, as `read_picture` does.

    TensorFlow does not apply the EXIF orientation, so clients must rotate pictures themselves.
    """

    def png():
        picture = tf.cast(tf.io.decode_png(file, channels=4), "float32")
        alpha = picture[..., 3:]
        # Below 8 bits per channel, TensorFlow fills the alpha of an opaque picture with the largest
        # number of that many bits, which would be almost transparent. The header gives the bits.
        bits = tf.cast(tf.io.decode_raw(tf.strings.substr(file, 24, 1), "uint8")[0], "float32")
        filler = tf.where(bits < 8, 2**bits - 1, -1)
        alpha = tf.where(tf.reduce_max(alpha) <= filler, 1.0, alpha / 255)
        return _round(picture[..., :3] * alpha + 255 * (1 - alpha))

    def jpeg():
        # The most accurate of the three transforms, which Pillow uses, too.
        picture = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
        return tf.cast(picture, "float32")

    return tf.ensure_shape(tf.cond(tf.io.is_jpeg(file), jpeg, png), (None, None, 3))


def _resize(pictures, size):
    """Resizes `(batch, height, width, 3)` as `kerasfer.data.pictures.resize` does.

    Pillow resizes along the rows, then along the columns, and rounds to integers each time.
    """
    height, width = tf.shape(pictures)[1], tf.shape(pictures)[2]

    def along(pictures, shape):
        resized = tf.image.resize(pictures, shape, "bilinear", antialias=True)
        return _round(tf.clip_by_value(resized, 0.0, 255.0))

    pictures = tf.cond(width == size, lambda: pictures, lambda: along(pictures, (height, size)))
    pictures = tf.cond(height == size, lambda: pictures, lambda: along(pictures, (size, size)))
    return tf.ensure_shape(pictures, (None, size, size, 3))


def _round(pictures):
    return tf.floor(pictures + 0.5)
