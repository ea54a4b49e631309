"""The files in saved_models/deploy, with a small SavedModel served on this machine."""

import base64
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from exported_models import NAMES, make_model, metadata, pictures
from loopback import serving
from PIL import Image

from kerasfer.export.saved_model import write_saved_model
from kerasfer.export.warmup import WARM_BATCHES

DEPLOY = Path(__file__).parents[2] / "saved_models" / "deploy"
MODEL = "quickstart"
PICTURES = pictures(4)

grpc = pytest.importorskip("grpc", reason="It comes with tensorflow-serving-api.")
predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
service = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc")


def load_client():
    spec = importlib.util.spec_from_file_location("serving_client", DEPLOY / "client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


client = load_client()


@pytest.fixture(scope="module")
def signatures(tmp_path_factory):
    """The signatures of a SavedModel, and the predictions of its model for PICTURES."""
    keras.utils.set_random_seed(0)
    model = make_model("tiny")
    path = tmp_path_factory.mktemp("served") / MODEL / "1"
    write_saved_model(model, path, metadata())
    loaded = tf.saved_model.load(str(path))
    return loaded, model.predict(PICTURES, verbose=0)


@pytest.fixture(scope="module")
def files():
    """PICTURES as PNG files, and a broken one in the middle."""
    encoded = []
    for picture in PICTURES.astype("uint8"):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        encoded.append(file.getvalue())
    return [*encoded[:2], b"\xff\xd8\xff broken", *encoded[2:]]


def check(answers, expected):
    assert [answer["valid"] for answer in answers] == [True, True, False, True, True]
    assert answers[2]["class_id"] == -1 and answers[2]["class_name"] == ""
    good = [answer for answer in answers if answer["valid"]]
    np.testing.assert_allclose([x["probabilities"] for x in good], expected, atol=1e-5)
    assert [x["class_id"] for x in good] == expected.argmax(axis=1).tolist()
    assert [x["class_name"] for x in good] == [NAMES[i] for i in expected.argmax(axis=1)]


# gRPC


class Servicer(service.PredictionServiceServicer):
    """Answers a PredictRequest as TF Serving does, by the signature that it names."""

    def __init__(self, loaded):
        self.signatures = loaded.signatures
        self.names = []

    def Predict(self, request, context):
        self.names.append(request.model_spec.name)
        run = self.signatures[request.model_spec.signature_name]
        given = {name: tf.constant(tf.make_ndarray(x)) for name, x in request.inputs.items()}
        response = predict_pb2.PredictResponse()
        for name, value in run(**given).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


@pytest.fixture
def grpc_server(signatures):
    servicer = Servicer(signatures[0])
    server = grpc.server(ThreadPoolExecutor(2))
    service.add_PredictionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}", servicer
    server.stop(None)


def test_the_request_is_what_the_signature_takes(signatures, files):
    wire = client.predict_request(files, MODEL).SerializeToString()
    request = predict_pb2.PredictRequest.FromString(wire)
    assert request.model_spec.name == MODEL
    run = signatures[0].signatures[request.model_spec.signature_name]
    given = {name: tf.constant(tf.make_ndarray(x)) for name, x in request.inputs.items()}
    answers = run(**given)
    good = answers["valid"].numpy()
    np.testing.assert_allclose(answers["probabilities"].numpy()[good], signatures[1], atol=1e-5)


def test_the_grpc_client(signatures, files, grpc_server):
    address, servicer = grpc_server
    check(client.ask_grpc(files, MODEL, address), signatures[1])
    (alone,) = client.ask_grpc(files[:1], MODEL, address)  # one value is packed otherwise
    np.testing.assert_allclose(alone["probabilities"], signatures[1][0], atol=1e-5)
    assert servicer.names == [MODEL, MODEL]


@pytest.mark.parametrize(
    "values",
    [
        np.float32([[0.25, 0.75], [1, 0]]),
        np.float32([[0.5, 0.5]]),
        np.array([3, -1, 5]),
        np.array([True, False, True]),
        np.array([b"happy", b"", b"sad"]),
        np.array([b"sad", b"sad"]),
        np.zeros((2, 3), "float32"),
    ],
    ids=str,
)
@pytest.mark.parametrize("packed", [False, True])
def test_tensors_are_read_in_both_layouts(values, packed):
    """A server may write the bytes of all values, or a list in which the last value is repeated."""
    proto = tf.make_tensor_proto(values)
    if not packed and proto.tensor_content:
        field = {np.float32: proto.float_val, np.int64: proto.int64_val, np.bool_: proto.bool_val}
        field[values.dtype.type].extend(values.ravel().tolist())
        proto.tensor_content = b""
    tensor = client.message_class("Tensor").FromString(proto.SerializeToString())
    assert client.to_rows(tensor) == values.tolist()


def test_the_grpc_client_needs_no_tensorflow(signatures, files, grpc_server, tmp_path):
    (tmp_path / "face.png").write_bytes(files[0])
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'numpy', 'kerasfer'])); "
        "sys.path.insert(0, sys.argv.pop(1)); import client; sys.exit(client.main())"
    )
    command = [sys.executable, "-c", program, str(DEPLOY), "--grpc", grpc_server[0]]
    done = subprocess.run(
        [*command, str(tmp_path / "face.png")], capture_output=True, text=True, timeout=60
    )
    name, share = NAMES[signatures[1][0].argmax()], 100 * signatures[1][0].max()
    assert done.stdout == f"{tmp_path / 'face.png'}: {name} {share:.1f} %\n", done.stderr


# REST


@pytest.fixture
def rest_server(signatures):
    """Speaks TF Serving's REST row format: {"b64": …} in, one dict of outputs an instance out."""
    loaded = signatures[0]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path == f"/v1/models/{MODEL}"
            self.send_response(200 if known else 404)
            self.end_headers()
            state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK"}}
            self.wfile.write(json.dumps({"model_version_status": [state] * known}).encode())

        def do_POST(self):
            if self.path != f"/v1/models/{MODEL}:predict":
                self.send_error(404)
                return
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            columns = {}
            for instance in body["instances"]:
                for name, value in instance.items():
                    assert name.endswith("_bytes") and set(value) == {"b64"}
                    content = base64.b64decode(value["b64"], validate=True)
                    columns.setdefault(name, []).append(content)
            given = {name: tf.constant(column) for name, column in columns.items()}
            outputs = loaded.signatures[body["signature_name"]](**given)
            plain = {name: value.numpy().tolist() for name, value in outputs.items()}
            plain["class_name"] = [name.decode() for name in plain["class_name"]]
            rows = [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]
            answer = json.dumps({"predictions": rows}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments):
            pass

    with serving(Handler) as address:
        yield address


def test_the_rest_client(signatures, files, rest_server):
    check(client.ask_rest(files, MODEL, rest_server), signatures[1])


def test_the_command_line_of_the_client(
    signatures, files, rest_server, tmp_path, monkeypatch, capsys
):
    paths = [tmp_path / f"{index}.png" for index in range(len(files))]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file)
    monkeypatch.setattr(client, "BATCH", 2)
    monkeypatch.setattr(sys, "argv", ["client.py", "--rest", rest_server, *map(str, paths)])
    assert client.main() == 1
    told = capsys.readouterr()
    name, share = NAMES[signatures[1][0].argmax()], 100 * signatures[1][0].max()
    assert told.out.splitlines()[0] == f"{paths[0]}: {name} {share:.1f} %"
    assert len(told.out.splitlines()) == 4
    assert told.err == f"{paths[2]}: not a readable JPEG or PNG picture\n"


@pytest.mark.parametrize("server", ["--grpc=localhost:1", "--rest=http://localhost:1"])
def test_a_refused_connection_gives_one_line(server, files, tmp_path, monkeypatch, capsys):
    (tmp_path / "face.png").write_bytes(files[0])
    monkeypatch.setattr(sys, "argv", ["client.py", server, str(tmp_path / "face.png")])
    assert client.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ") and "localhost:1" in line and "did not answer" in line
    assert "refused" in line and line.endswith("Is it running, and is the address right?")


def test_a_missing_file_gives_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["client.py", str(tmp_path / "no.png")])
    assert client.main() == 1
    expected = f"Error: {tmp_path / 'no.png'} cannot be read: No such file or directory.\n"
    assert capsys.readouterr().err == expected


def test_other_answers_give_one_line(files, rest_server, tmp_path, monkeypatch, capsys):
    (tmp_path / "face.png").write_bytes(files[0])
    for url, message in (
        (f"{rest_server}/elsewhere", "answered with the status 404"),
        ("localhost", "did not answer as TF Serving does: unknown url type"),
    ):
        monkeypatch.setattr(sys, "argv", ["client.py", "--rest", url, str(tmp_path / "face.png")])
        assert client.main() == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("Error: ") and message in line


@pytest.mark.parametrize("module", ["grpc", "google.protobuf"])
def test_missing_grpc_packages_are_named(module, files, tmp_path, monkeypatch, capsys):
    (tmp_path / "face.png").write_bytes(files[0])
    monkeypatch.setattr(sys, "argv", ["client.py", str(tmp_path / "face.png")])
    monkeypatch.setitem(sys.modules, module, None)
    client.message_class.cache_clear()
    assert client.main() == 1
    expected = "Error: gRPC needs pip install grpcio protobuf. Or use --rest.\n"
    assert capsys.readouterr().err == expected


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed.")
def test_the_curl_script(signatures, files, rest_server, tmp_path):
    (tmp_path / "face.png").write_bytes(files[0])
    command = ["sh", str(DEPLOY / "curl.sh"), str(tmp_path / "face.png"), MODEL, rest_server]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)["predictions"]
    np.testing.assert_allclose(answer["probabilities"], signatures[1][0], atol=1e-5)


# configuration


def test_the_model_config_is_valid_for_tf_serving():
    from google.protobuf import text_format

    module = "tensorflow_serving.config.model_server_config_pb2"
    model_server_config_pb2 = pytest.importorskip(module)
    config = text_format.Parse(
        (DEPLOY / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == (MODEL, f"/models/{MODEL}")
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.latest.num_versions == 1


def test_batches_are_those_that_are_warmed_up():
    batching = (DEPLOY / "batching.config").read_text()
    allowed = [int(size) for size in re.findall(r"^allowed_batch_sizes: (\d+)$", batching, re.M)]
    (largest,) = re.findall(r"max_batch_size { value: (\d+) }", batching)
    assert tuple(allowed) == WARM_BATCHES and int(largest) == allowed[-1]


def flags(arguments):
    return dict(argument.removeprefix("--").split("=") for argument in arguments)


FLAGS = {
    "model_config_file": "/config/models.config",
    "enable_batching": "true",
    "batching_parameters_file": "/config/batching.config",
}


def test_the_compose_file():
    serving = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["serving"]
    assert flags(serving["command"]) == FLAGS
    assert serving["ports"] == ["8500:8500", "8501:8501"]
    mounts = dict(volume.split(":")[:2] for volume in serving["volumes"])
    assert mounts.pop(f"../{MODEL}") == f"/models/{MODEL}"
    for source, target in mounts.items():
        assert (DEPLOY / source).is_file() and target in FLAGS.values()
    assert all(volume.endswith(":ro") for volume in serving["volumes"])


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed.")
def test_the_health_check_of_the_compose_file(rest_server):
    serving = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["serving"]
    kind, *command = serving["healthcheck"]["test"]
    assert kind == "CMD" and MODEL in command[-1]
    for port, model, healthy in (
        (rest_server.rpartition(":")[2], MODEL, True),
        (rest_server.rpartition(":")[2], "another", False),
        ("1", MODEL, False),
    ):
        script = command[-1].replace("8501", port).replace(MODEL, model)
        done = subprocess.run([*command[:-1], script], capture_output=True, timeout=20)
        assert (done.returncode == 0) == healthy, done.stderr


def test_both_files_name_the_same_version():
    serving = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["serving"]
    deployment, _ = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert serving["image"] == container["image"]
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", container["image"])


def test_the_kubernetes_manifest():
    deployment, exposed = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert flags(container["args"]) == FLAGS
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    status = {"path": f"/v1/models/{MODEL}", "port": "rest"}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == status
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == exposed["spec"]["selector"]
    assert {port["name"]: port["port"] for port in exposed["spec"]["ports"]} == ports
    kustomization = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    (config,) = (v["configMap"] for v in pod["spec"]["volumes"] if "configMap" in v)
    assert generated["name"] == config["name"]
    for name in (*kustomization["resources"], *generated["files"]):
        assert (DEPLOY / name).is_file()


def test_the_material_is_committed_and_exports_are_not(tmp_path):
    made = shutil.ignore_patterns("node_modules", "vendor")
    shutil.copytree(DEPLOY.parent / "deploy", tmp_path / "deploy", ignore=made)
    (tmp_path / "deploy" / "web" / "vendor").mkdir()
    (tmp_path / "deploy" / "web" / "vendor" / "model.onnx").touch()
    shutil.copy(DEPLOY.parent / ".gitignore", tmp_path)
    (tmp_path / "quickstart" / "1").mkdir(parents=True)
    (tmp_path / "quickstart" / "1" / "saved_model.pb").touch()
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard"], capture_output=True, text=True
    ).stdout.split()
    assert "deploy/client.py" in listed and ".gitignore" in listed
    assert "deploy/web/index.html" in listed
    assert not [name for name in listed if name.startswith(("quickstart", "deploy/web/vendor"))]
