"""Asks TF Serving for the expressions on picture files, by gRPC or by REST.

    python client.py face.jpg other.png                                  # gRPC, localhost:8500
    python client.py --rest http://localhost:8501 face.jpg other.png
    python client.py --model fer2013_spd --grpc faces.example:8500 face.jpg

gRPC needs `pip install grpcio protobuf`, and REST nothing but Python.
"""

import argparse
import base64
import functools
import json
import math
import struct
import sys
import urllib.error
import urllib.request
from pathlib import Path

BATCH = 32  # Files in one request. gRPC accepts messages of up to 4 MB.
SIGNATURE, INPUT = "serving_bytes", "picture_bytes"
METHOD = "/tensorflow.serving.PredictionService/Predict"
# The messages of TF Serving's prediction service as far as they are used here, from
# tensorflow_serving/apis/predict.proto and tensorflow/core/framework/tensor.proto.
# Message: {field: (number, type, whether it is repeated)}. A map is a repeated entry.
PACKAGE = "kerasfer.client"
MESSAGES = {
    "Dimension": {"size": (1, "INT64", False)},
    "Shape": {"dim": (2, "Dimension", True)},
    "Tensor": {
        "dtype": (1, "INT32", False),
        "shape": (2, "Shape", False),
        "content": (4, "BYTES", False),
        "floats": (5, "FLOAT", True),
        "strings": (8, "BYTES", True),
        "int64s": (10, "INT64", True),
        "bools": (11, "BOOL", True),
    },
    "Model": {"name": (1, "STRING", False), "signature_name": (3, "STRING", False)},
    "Entry": {"key": (1, "STRING", False), "value": (2, "Tensor", False)},
    "PredictRequest": {"model_spec": (1, "Model", False), "inputs": (2, "Entry", True)},
    "PredictResponse": {"outputs": (1, "Entry", True)},
}
FLOAT, STRING, INT64, BOOL = 1, 7, 9, 10  # Values of `dtype`.


class ClientError(Exception):
    """An error that the user can fix, with a message of one line."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", nargs="+", type=Path, help="JPEG or PNG files of faces")
    parser.add_argument("--model", default="quickstart", help="name in models.config")
    parser.add_argument("--grpc", default="localhost:8500", metavar="HOST:PORT")
    parser.add_argument("--rest", metavar="URL", help="ask by REST instead of gRPC")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds")
    arguments = parser.parse_args()
    try:
        return classify(arguments)
    except ClientError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def classify(arguments):
    """Prints the expression on each picture; returns the exit code."""
    bad = 0
    for start in range(0, len(arguments.pictures), BATCH):
        paths = arguments.pictures[start : start + BATCH]
        files = [read(path) for path in paths]
        if arguments.rest:
            answers = ask_rest(files, arguments.model, arguments.rest, arguments.timeout)
        else:
            answers = ask_grpc(files, arguments.model, arguments.grpc, arguments.timeout)
        for path, answer in zip(paths, answers, strict=True):
            if answer["valid"]:
                print(f"{path}: {answer['class_name']} {100 * max(answer['probabilities']):.1f} %")
            else:
                bad += 1
                print(f"{path}: not a readable JPEG or PNG picture", file=sys.stderr)
    return 1 if bad else 0


def read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}.") from error


def ask_grpc(files, model, address, timeout=10.0):
    """Returns a dict for each file: probabilities, class_id, class_name, valid."""
    try:
        import grpc

        request = predict_request(files, model)
    except ImportError as error:
        raise ClientError("gRPC needs pip install grpcio protobuf. Or use --rest.") from error
    with grpc.insecure_channel(address) as channel:
        predict = channel.unary_unary(
            METHOD,
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_class("PredictResponse").FromString,
        )
        try:
            outputs = predict(request, timeout=timeout).outputs
        except grpc.RpcError as error:
            reason = " ".join(error.details().split())
            raise ClientError(
                f"TF Serving at {address} did not answer for the model {model} "
                f"({error.code().name}): {reason}. Is it running, and is the address right?"
            ) from error
    rows = {output.key: to_rows(output.value) for output in outputs}
    rows["class_name"] = [name.decode() for name in rows["class_name"]]
    return [{name: values[index] for name, values in rows.items()} for index in range(len(files))]


@functools.cache
def message_class(name):
    """Returns the class of a message of `MESSAGES`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="kerasfer_client.proto", package=PACKAGE, syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for title, fields in MESSAGES.items():
        message = file.message_type.add(name=title)
        for field, (number, kind, repeated) in fields.items():
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if kind in MESSAGES:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def predict_request(files, model):
    """Builds the PredictRequest for the content of picture files."""
    request = message_class("PredictRequest")()
    request.model_spec.name = model
    request.model_spec.signature_name = SIGNATURE
    tensor = request.inputs.add(key=INPUT).value
    tensor.dtype = STRING
    tensor.shape.dim.add(size=len(files))
    tensor.strings.extend(files)
    return request


def to_rows(tensor):
    """Converts a Tensor to a list with one item for each file: a value, or a list of values.

    The values are in `content`, or in the list of their type, which may end early: its last value
    then fills the rest.
    """
    shape = [dimension.size for dimension in tensor.shape.dim]
    count = math.prod(shape)
    code, values = {
        FLOAT: ("f", tensor.floats),
        INT64: ("q", tensor.int64s),
        BOOL: ("?", tensor.bools),
        STRING: ("", tensor.strings),
    }[tensor.dtype]
    if tensor.content:
        values = struct.unpack(f"<{count}{code}", tensor.content)
    values = list(values)
    values += (values[-1:] or [0]) * (count - len(values))
    width = count // shape[0]
    rows = [values[start : start + width] for start in range(0, count, width)]
    return rows if len(shape) > 1 else values


def ask_rest(files, model, url, timeout=10.0):
    """Returns a dict for each file: probabilities, class_id, class_name, valid."""
    address = f"{url.rstrip('/')}/v1/models/{model}:predict"
    body = json.dumps(rest_body(files)).encode()
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(address, body, headers)
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        reason = " ".join(error.read().decode(errors="replace").split())[:300]
        raise ClientError(f"{address} answered with the status {error.code}: {reason}") from error
    except (OSError, ValueError, KeyError) as error:
        reason = getattr(error, "reason", error)
        raise ClientError(
            f"{address} did not answer as TF Serving does: {reason}. Is it running, and is the "
            "address right?"
        ) from error


def rest_body(files):
    """Builds the JSON for the content of picture files."""
    instances = [{INPUT: {"b64": base64.b64encode(file).decode()}} for file in files]
    return {"signature_name": SIGNATURE, "instances": instances}


if __name__ == "__main__":
    sys.exit(main())
