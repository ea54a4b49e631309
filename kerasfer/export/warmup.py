"""Requests that TF Serving answers before it accepts others, since the first ones are slow."""

import functools

import numpy as np
import tensorflow as tf  # for its records and tensor protos
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2

WARM_BATCHES = (1, 8, 32)


def write_warmup(path, model_name, image_size):
    """Writes a TFRecord of `PredictionLog` protos for both signatures, in several batch sizes.

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
                log = _prediction_log()()
                request = log.predict_log.request
                request.model_spec.name = model_name
                request.model_spec.signature_name = signature
                request.inputs.add(key=name).value.CopyFrom(value)
                records.write(log.SerializeToString())


@functools.cache
def _prediction_log():
    """Returns the message class of TF Serving's `PredictionLog`, with the fields that are used.

    tensorflow-serving-api would provide it, but it pins TensorFlow to its own version.
    """
    tensor = tensor_pb2.TensorProto.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="kerasfer/warmup.proto",
        package="kerasfer.warmup",
        syntax="proto3",
        dependency=[tensor.file.name],
    )
    one = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    many = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    # Message: {field: (number in TF Serving's proto, type, label)}. A map is a repeated entry.
    messages = {
        "ModelSpec": {"name": (1, str, one), "signature_name": (3, str, one)},
        "Entry": {"key": (1, str, one), "value": (2, f".{tensor.full_name}", one)},
        "Request": {"model_spec": (1, "ModelSpec", one), "inputs": (2, "Entry", many)},
        "PredictLog": {"request": (1, "Request", one)},
        "PredictionLog": {"predict_log": (6, "PredictLog", one)},
    }
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, label) in fields.items():
            added = message.field.add(name=field, number=number, label=label)
            if kind is str:
                added.type = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
            else:
                added.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                added.type_name = kind if kind[0] == "." else f".{file.package}.{kind}"
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{file.package}.PredictionLog")
    )
