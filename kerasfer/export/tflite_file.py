"""TFLite: for phones, with built-in operations only."""

import functools
import json
import re
import tempfile
import zipfile

import keras
import tensorflow as tf  # what converts to TFLite is part of it

from kerasfer.layers import BilinearPool, RegionCrops, SPDAttention, Unvech, Vech
from kerasfer.layers.spd_layer import SPDLayer
from kerasfer.predict.runtimes import METADATA

WEIGHTED = (3, 4, 9)  # CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED in TFLite's schema
IN_FLOAT = (BilinearPool, RegionCrops, SPDAttention, SPDLayer, Unvech, Vech)


def write_tflite(model, path, metadata, quantize="none", representative=None):
    """Writes a TFLite file that takes one picture at a time.

    A phone looks at one face; with the batch fixed, every shape is known, which XNNPACK and the
    other delegates need. Pictures and probabilities are float32 in every quantization.

    Args:
        model: A float32 `keras.Model` without eigendecompositions.
        path: The file, ending in `.tflite`.
        metadata: JSON-able dict, appended as a zip archive with `kerasfer.json` and `labels.txt`,
            which is where TFLite's own metadata keep such files.
        quantize: `"none"`; `"float16"` and `"dynamic"` keep the weights in 2 bytes and 1;
            `"int8"` computes in integers too.
        representative: For `"int8"`: float32 `(n, ...)`, inputs from the training data.

    Returns:
        A dict of what the report should say.
    """
    shape = (1, *model.input_shape[1:])
    inputs = "pictures" if metadata["image_size"] else "inputs"
    signature = [keras.InputSpec(shape=shape, dtype="float32", name=inputs)]
    builtins = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}  # not Keras' choice, Flex too
    facts = {"batch": 1}
    if quantize == "int8":
        content, kept, total = _int8(model, signature, representative)
        facts["float_operations"] = f"{kept} of {total}"
        path.write_bytes(content)
    else:
        options = {"none": {}, "dynamic": {"optimizations": [tf.lite.Optimize.DEFAULT]}}
        options["float16"] = dict(options["dynamic"])
        if quantize == "float16":
            builtins["supported_types"] = [tf.float16]
        model.export(
            path,
            format="litert",
            verbose=False,
            input_signature=signature,
            target_spec=builtins,
            **options[quantize],
        )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, json.dumps(metadata))
        archive.writestr("labels.txt", "\n".join(metadata["class_names"]) + "\n")
    return facts


def _int8(model, signature, representative):
    """Quantizes convolutions and what lies between them; what follows them stays in float32.

    Keras' export converts in one go, and then also multiplies covariances in 8 bits: their
    logarithm is ruined, where LiteRT does not abort on such products. The converter's two steps,
    taken apart, let operations be left out. TensorFlow offers this in `QuantizationDebugger`, which
    however first loads the file with everything quantized, to debug it.
    """
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.tools import flatbuffer_utils

    (spec,) = signature
    archive = keras.export.ExportArchive()
    archive.track(model)
    call = functools.partial(model.__call__, training=False)
    archive.add_endpoint("serving_default", call, input_signature=signature)
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            {spec.name: picture[None]} for picture in representative
        )
        converter._experimental_calibrate_only = True
        calibrated = converter.convert()
    described = flatbuffer_utils.convert_bytearray_to_object(bytearray(calibrated))
    kept = _in_float(described, _float_layers(model))
    content = mlir_quantize(calibrated, denylisted_nodes=kept)
    return content, len(kept), len(described.subgraphs[0].operators)


def _in_float(described, layers):
    """Names the results of the operations of some layers, and the graph's own.

    What is multiplied with a dense layer's weights is often fused with that layer, which then is
    quantized all the same: weights are most of a file.
    """
    graph = described.subgraphs[0]
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in described.operatorCodes]
    kept = []
    for operator in graph.operators:
        result = operator.outputs[0]
        name = graph.tensors[result].name.decode()
        parts = [_belongs(part, layers) for part in name.split(";")]
        weighted = codes[operator.opcodeIndex] in WEIGHTED
        if result in graph.outputs or (all(parts) if weighted else any(parts)):
            kept.append(name)
    return kept


def _float_layers(model):
    """Names the layers of second-order statistics and the last ones, from features to answers."""
    layers = [layer.name for layer in model._flatten_layers() if isinstance(layer, IN_FLOAT)]
    last = model.layers[-1]
    if last._inbound_nodes:  # a Sequential model's last layer knows no graph
        before = (
            source._keras_history.operation for source in last._inbound_nodes[-1].input_tensors
        )
        layers += [layer.name for layer in before if isinstance(layer, keras.layers.Dense)]
    return [*layers, last.name]


def _belongs(name, layers):
    """Tells by a tensor's scopes, below the model's own, whether it is of one of the layers."""
    scopes = name.split("/")[1:]
    return any(re.fullmatch(re.escape(layer) + r"(_\d+)?", s) for layer in layers for s in scopes)
