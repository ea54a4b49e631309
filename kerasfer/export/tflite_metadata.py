"""Writes TFLite's own metadata, which MediaPipe and the Task Library read.

The generated code of the schema comes with mediapipe and with tflite-support. The first is a large
dependency for one table, and the second has no release for the Python versions of kerasfer. The few
tables that a classifier needs are therefore written here, by the field numbers of the schema.
"""

import flatbuffers
from flatbuffers import number_types

LABELS = "labels.txt"
ENTRY = "TFLITE_METADATA"  # the name of the metadata in the model's file
IDENTIFIER = b"M001"
PARSER_VERSION = "1.0.0"

# Values of the schema's enumerations and unions.
_AXIS_LABELS = 2  # AssociatedFileType
_RGB = 1  # ColorSpaceType
_FEATURE, _IMAGE = 1, 2  # ContentProperties
_NORMALIZATION = 1  # ProcessUnitOptions


def describe_classifier(metadata, input_name, output_name):
    """Describes a classifier in TFLite's metadata schema.

    Pictures have a mean of 0 and a standard deviation of 1, since the model takes [0, 255] and
    normalizes them itself.

    Args:
        metadata: The dict of `kerasfer.json`: `name`, `class_names`, `image_size`, `quantize` and,
            if they are known, `author` and `license`.
        input_name, output_name: The names of the tensors.

    Returns:
        The bytes of a `ModelMetadata` table.
    """
    builder = flatbuffers.Builder(1024)
    size = metadata["image_size"]
    if size:
        kind = f"RGB face crops, {size} × {size} pixels, in [0, 255]."
        image = _table(builder, {0: ("Int8", _RGB)})
        content = _table(builder, {0: ("Uint8", _IMAGE), 1: image})
        options = _table(builder, {0: _floats(builder, [0.0]), 1: _floats(builder, [1.0])})
        unit = _table(builder, {0: ("Uint8", _NORMALIZATION), 1: options})
        range_ = _table(builder, {0: _floats(builder, [255.0]), 1: _floats(builder, [0.0])})
        extra = {4: _tables(builder, [unit]), 5: range_}
    else:
        kind = "The model's input."
        content, extra = _feature(builder), {}
    source = _tensor(builder, input_name, kind, content, extra)
    labels = _table(
        builder,
        {
            0: _text(builder, LABELS),
            1: _text(builder, "The names of the classes, one per line."),
            2: ("Int8", _AXIS_LABELS),
        },
    )
    range_ = _table(builder, {0: _floats(builder, [1.0]), 1: _floats(builder, [0.0])})
    extra = {5: range_, 6: _tables(builder, [labels])}
    kind = "The probability of each class."
    target = _tensor(builder, output_name, kind, _feature(builder), extra)
    graph = _table(builder, {2: _tables(builder, [source]), 3: _tables(builder, [target])})
    fields = {
        0: _text(builder, metadata["name"]),
        1: _text(builder, _describe(metadata)),
        2: _text(builder, "1"),
        3: _tables(builder, [graph]),
        7: _text(builder, PARSER_VERSION),
    }
    for number, key in ((4, "author"), (5, "license")):
        if key in metadata:
            fields[number] = _text(builder, metadata[key])
    root = _table(builder, fields)
    builder.Finish(root, IDENTIFIER)
    return bytes(builder.Output())


def _describe(metadata):
    half = metadata.get("half_precision", {})
    unsafe = [dtype for dtype, keeps in half.items() if not keeps]
    text = f"Classifies pictures as {', '.join(metadata['class_names'])}."
    if unsafe:
        text += f" Compute in float32, since answers change in {' and '.join(unsafe)}."
    return text


def _tensor(builder, name, description, content, extra):
    fields = {0: _text(builder, name), 1: _text(builder, description), 3: content}
    return _table(builder, fields | extra)


def _feature(builder):
    properties = _table(builder, {})
    return _table(builder, {0: ("Uint8", _FEATURE), 1: properties})


def _table(builder, fields):
    """Writes a table of fields by number: an offset, or a pair of a type and a value."""
    builder.StartObject(max(fields, default=-1) + 1)
    for number, value in fields.items():
        if isinstance(value, tuple):
            kind, value = value
            getattr(builder, f"Prepend{kind}Slot")(number, value, 0)
        else:
            offset = number_types.UOffsetTFlags.py_type(value)
            builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    return builder.EndObject()


def _text(builder, text):
    return builder.CreateString(text)


def _floats(builder, values):
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()


def _tables(builder, tables):
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return builder.EndVector()
