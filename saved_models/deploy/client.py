"""Asks TF Serving for the expressions on picture files, by gRPC or by REST.

    python client.py face.jpg other.png                                  # gRPC, localhost:8500
    python client.py --rest http://localhost:8501 face.jpg other.png
    python client.py --model fer2013_spd --grpc faces.example:8500 face.jpg

gRPC needs `pip install tensorflow-serving-api`, REST nothing but Python.
"""

import argparse
import base64
import json
import sys
import urllib.request
from pathlib import Path

BATCH = 32  # files in one request; gRPC takes messages of up to 4 MB
SIGNATURE, INPUT = "serving_bytes", "picture_bytes"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", nargs="+", type=Path, help="JPEG or PNG files of faces")
    parser.add_argument("--model", default="quickstart", help="name in models.config")
    parser.add_argument("--grpc", default="localhost:8500", metavar="HOST:PORT")
    parser.add_argument("--rest", metavar="URL", help="ask by REST instead of gRPC")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds")
    arguments = parser.parse_args()
    bad = 0
    for start in range(0, len(arguments.pictures), BATCH):
        paths = arguments.pictures[start : start + BATCH]
        files = [path.read_bytes() for path in paths]
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


def ask_grpc(files, model, address, timeout=10.0):
    """Returns a dict for each file: probabilities, class_id, class_name, valid."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

    with grpc.insecure_channel(address) as channel:
        stub = PredictionServiceStub(channel)
        outputs = stub.Predict(predict_request(files, model), timeout=timeout).outputs
    arrays = {name: tf.make_ndarray(tensor).tolist() for name, tensor in outputs.items()}
    return [
        {
            "probabilities": arrays["probabilities"][index],
            "class_id": arrays["class_id"][index],
            "class_name": arrays["class_name"][index].decode(),
            "valid": arrays["valid"][index],
        }
        for index in range(len(files))
    ]


def predict_request(files, model):
    """Builds the PredictRequest for the content of picture files."""
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    request = PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = SIGNATURE
    request.inputs[INPUT].CopyFrom(tf.make_tensor_proto(files, dtype=tf.string))
    return request


def ask_rest(files, model, url, timeout=10.0):
    """Returns a dict for each file: probabilities, class_id, class_name, valid."""
    request = urllib.request.Request(
        f"{url}/v1/models/{model}:predict",
        data=json.dumps(rest_body(files)).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=timeout) as response:
        return json.load(response)["predictions"]


def rest_body(files):
    """Builds the JSON for the content of picture files."""
    instances = [{INPUT: {"b64": base64.b64encode(file).decode()}} for file in files]
    return {"signature_name": SIGNATURE, "instances": instances}


if __name__ == "__main__":
    sys.exit(main())
