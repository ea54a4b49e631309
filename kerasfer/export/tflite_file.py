"""TFLite files for phones, with built-in operations only."""

import contextlib
import functools
import json
import re
import tempfile
import zipfile

import keras
import tensorflow as tf  # for the TFLite converter
from tensorflow.lite.tools import flatbuffer_utils

from kerasfer.export.tflite_graph import adapt, code_of
from kerasfer.export.tflite_metadata import LABELS
from kerasfer.keras_internals import flatten_layers, last_node_of, node_of
from kerasfer.layers import BilinearPool, RegionCrops, SPDAttention, Unvech, Vech
from kerasfer.layers.spd_layer import SPDLayer
from kerasfer.predict.runtimes import METADATA

WEIGHTED = (3, 4, 9)  # CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED in TFLite's schema
IN_FLOAT = (BilinearPool, RegionCrops, SPDAttention, SPDLayer, Unvech, Vech)


def write_tflite(
    model, path, metadata, quantize="none", representative=None, input_dtype="float32"
):
    """Writes a TFLite file with a batch size of one.

    XNNPACK and other delegates need static shapes, and a phone classifies one face at a time.
    The probabilities are float32 in every quantization, and so are the pictures unless
    `input_dtype` is `"uint8"`.

    Args:
        model: A float32 `keras.Model` without eigendecompositions.
        path: The file, ending in `.tflite`.
        metadata: JSON-serializable dict. It is appended as a zip archive with `kerasfer.json` and
            `labels.txt`, as TFLite's own metadata store such files.
        quantize: `"none"`; `"float16"` and `"dynamic"` store weights in two bytes and one byte;
            `"int8"` also computes with integers.
        representative: For `"int8"`: float32 `(n, ...)`, inputs from the training data.
        input_dtype: `"float32"` or `"uint8"`, the type of the pictures.

    Returns:
        A dict for the report.
    """
    facts = {"batch": 1}
    with _converter(model, metadata) as converter:
        if quantize == "int8":
            content, kept, total = _int8(model, converter, representative)
            facts["float_operations"] = f"{kept} of {total}"
        else:
            if quantize != "none":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if quantize == "float16":
                converter.target_spec.supported_types = [tf.float16]
            content = converter.convert()
    path.write_bytes(adapt(content, metadata, input_dtype))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, json.dumps(metadata))
        archive.writestr(LABELS, "\n".join(metadata["class_names"]) + "\n")
    return facts


@contextlib.contextmanager
def _converter(model, metadata):
    """Makes a converter to built-in operations. Keras' own export would add Flex."""
    name = "pictures" if metadata["image_size"] else "inputs"
    shape = (1, *model.input_shape[1:])
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        functools.partial(model.__call__, training=False),
        input_signature=[keras.InputSpec(shape=shape, dtype="float32", name=name)],
    )
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        # Runtimes before 2.16 reject dense layers with one scale per channel, and those before 2.11
        # compute nonsense with them.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        yield converter


def _int8(model, converter, representative):
    """Quantizes the convolutions and the operations between them; the head stays in float32.

    A complete quantization would also multiply covariances in 8 bits, which ruins their logarithm,
    and LiteRT aborts on some of these products. Calibration and quantization as two separate steps
    allow operations to be excluded. TensorFlow offers this only in `QuantizationDebugger`, which
    loads the completely quantized file first.
    """
    from tensorflow.lite.python.convert import mlir_quantize

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([picture[None]] for picture in representative)
    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    described = flatbuffer_utils.convert_bytearray_to_object(bytearray(calibrated))
    kept = _in_float(described, _float_layers(model))
    content = mlir_quantize(
        calibrated, denylisted_nodes=kept, disable_per_channel_for_dense_layers=True
    )
    return content, len(kept), len(described.subgraphs[0].operators)


def _in_float(described, layers):
    """Returns the names of the tensors that stay in float32: those of some layers, and the outputs.

    An operation with weights is excluded only if all the layers fused into it are, because the
    weights make up most of the file.
    """
    graph = described.subgraphs[0]
    kept = []
    for operator in graph.operators:
        result = operator.outputs[0]
        name = graph.tensors[result].name.decode()
        parts = [_belongs(part, layers) for part in name.split(";")]
        weighted = code_of(described, operator) in WEIGHTED
        if result in graph.outputs or (all(parts) if weighted else any(parts)):
            kept.append(name)
    return kept


def _float_layers(model):
    """Returns the names of the second-order layers and of the classifier."""
    layers = [layer.name for layer in flatten_layers(model) if isinstance(layer, IN_FLOAT)]
    last = model.layers[-1]
    if node := last_node_of(last):  # the last layer of a Sequential model has none
        before = (node_of(tensor).operation for tensor in node.input_tensors)
        layers += [layer.name for layer in before if isinstance(layer, keras.layers.Dense)]
    return [*layers, last.name]


def _belongs(name, layers):
    """Returns whether a tensor belongs to one of the layers, by the scopes in its name."""
    scopes = name.split("/")[1:]
    return any(re.fullmatch(re.escape(layer) + r"(_\d+)?", s) for layer in layers for s in scopes)
