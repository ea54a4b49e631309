"""The requests that TF Serving answers before it lets anyone in: the first ones are slow."""

import numpy as np
import tensorflow as tf  # its records and tensor protos

WARM_BATCHES = (1, 8, 32)


def write_warmup(path, model_name, image_size):
    """Writes a TFRecord of `PredictionLog` protos for both signatures, in several batch sizes.

    The protos come with tensorflow-serving-api, which pins TensorFlow's version and is heavy; three
    nested messages are written here byte by byte instead.

    Args:
        path: `assets.extra/tf_serving_warmup_requests` of a SavedModel.
        model_name: The name that the model is served under.
        image_size: Side of the pictures, in pixels.
    """
    ramp = np.linspace(0, 255, image_size**2 * 3).reshape(image_size, image_size, 3)
    file = tf.io.encode_png(ramp.astype("uint8")).numpy()
    with tf.io.TFRecordWriter(str(path)) as records:
        for batch in WARM_BATCHES:
            pictures = np.repeat(ramp[None].astype("float32"), batch, axis=0)
            for signature, name, value in (
                ("serving_default", "pictures", tf.make_tensor_proto(pictures)),
                ("serving_bytes", "picture_bytes", tf.make_tensor_proto([file] * batch)),
            ):
                records.write(_prediction_log(model_name, signature, name, value))


def _prediction_log(model_name, signature, input_name, value):
    spec = _field(1, model_name.encode()) + _field(3, signature.encode())
    # A map is written as pairs: 1 is the key and 2 the value.
    pair = _field(1, input_name.encode()) + _field(2, value.SerializeToString())
    request = _field(1, spec) + _field(2, pair)  # PredictRequest: model_spec, inputs
    return _field(6, _field(1, request))  # PredictionLog.predict_log, PredictLog.request


def _field(number, content):
    """Writes a length-delimited field of a protocol buffer; `number` is below 16."""
    length, size = b"", len(content)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content
