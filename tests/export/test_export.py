"""Complete exports: the process of the conversion, that of the runtime, and the final path."""

import json
import shutil
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from exported_models import NAMES, make_model, make_run, pictures
from keras import layers

from kerasfer.cli import main
from kerasfer.errors import DataError, RecipeError, RunError
from kerasfer.export import FORMATS, export, export_run, exporting, processes
from kerasfer.layers import BiMap, LogEig, Vech
from kerasfer.models.pretrained import read_card
from kerasfer.predict.runtimes import load_runtime
from kerasfer.text import describe_cpu, usable_cores

SETTINGS = {"num_pictures": 20, "top1_agreement": 1.0, "max_probability_difference": 1e-6}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of SPD-Attention with random crops, in half precision."""
    keras.utils.set_random_seed(0)
    model = make_model("tiny_spd", "mixed_bfloat16")
    return make_run(tmp_path_factory.mktemp("runs") / "faces", model)


def hidden(folder):
    return list(Path(folder).rglob(".export-*"))


# the real thing


@pytest.mark.parametrize("format", ["saved_model", "onnx", "tflite"])
def test_a_run_to_each_format(run, tmp_path, request, format):
    if format == "onnx":
        request.getfixturevalue("in_process")
    quantize = "int8" if format == "tflite" else "none"
    report = export_run(
        run, format, quantize, output_dir=tmp_path, allow_mismatch=quantize == "int8"
    )
    expected = {
        "saved_model": tmp_path / "faces" / "1",
        "onnx": tmp_path / "faces" / "faces.onnx",
        "tflite": tmp_path / "faces" / "faces-int8.tflite",
    }[format]
    assert Path(report["path"]) == expected and not hidden(tmp_path)
    kept = expected.with_name(f"{expected.name}.export_report.json")
    if format == "saved_model":
        kept = expected / "assets.extra" / "export_report.json"
    assert json.loads(kept.read_text()) == {k: v for k, v in report.items() if k != "path"}
    assert report["pictures"] == "synthetic, validation split"
    assert report["num_pictures"] == 14 and report["class_names"] == list(NAMES)
    assert report["source"] == str(run) and report["size_bytes"] > 10_000
    assert set(report["accuracy"]) == {"model", "exported", "change", "interval"}
    assert report["trained_precision"]["max_probability_difference"] > 0  # bfloat16
    threads = {"default"} if format == "saved_model" else {"1", str(usable_cores())}
    assert set(report["latency_ms"]) == threads
    assert report["device"] == describe_cpu()
    for latency in report["latency_ms"].values():
        assert 0 < latency["p50"] <= latency["p95"]
    package = {"saved_model": "tensorflow", "onnx": "onnxruntime", "tflite": "ai-edge-litert"}
    assert {"keras", "tensorflow", package[format]} <= set(report["versions"])
    if quantize == "none":
        assert report["top1_agreement"] == 1 and report["mismatch"] is None
        assert report["max_probability_difference"] <= 1e-3
    else:
        assert "float_operations" in report and report["batch"] == 1
    if format == "saved_model":
        assert report["serving_bytes_max_difference"] <= 1e-5
    if format == "onnx":
        assert (report["opset"], report["batch"]) == (18, "any")
    if format != "saved_model":
        assert set(report["half_precision"]) == {"float16", "bfloat16"}
        assert report["half_precision"]["float16"]["mismatch"] is None
    if format != "tflite":
        runtime, images = load_runtime(report["path"]), pictures(5)
        np.testing.assert_allclose(runtime(images), load_runtime(run)(images), atol=0.05)


def test_any_model_without_pictures_or_class_names(tmp_path, in_process):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6))  # covariances of six sensors
    x = layers.Dense(3, activation="softmax")(Vech()(LogEig(1e-4)(BiMap(4)(inputs))))
    model = keras.Model(inputs, x)
    rows = np.random.default_rng(0).normal(size=(30, 6, 20))
    spd = np.einsum("nik,njk->nij", rows, rows) / 20
    report = export(model, tmp_path / "waves.tflite", "tflite", pictures=spd)
    assert report["class_names"] == ["0", "1", "2"] and report["image_size"] is None
    assert (report["num_pictures"], report["source"]) == (30, "a keras.Model")
    assert "accuracy" not in report and "trained_precision" not in report
    assert not hidden(tmp_path)
    with pytest.raises(RunError, match="waves.tflite exists, and exports are never overwritten"):
        export(model, tmp_path / "waves.tflite", "tflite", pictures=spd)


def test_a_missing_dataset_is_named(tmp_path, in_process):
    other = make_run(tmp_path / "run", make_model("tiny"), data={"name": "fer2013"})
    with pytest.raises(DataError, match="FER2013 was not found.*--data-dir.*--pictures"):
        export_run(other, "tflite", "int8", output_dir=tmp_path / "out", data_dir=str(tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_file_that_describes_more_weights_than_it_contains(tmp_path, in_process):
    inputs = keras.Input((6,))
    keras.Model(inputs, layers.Dense(3, activation="softmax")(inputs)).save(tmp_path / "a.keras")
    with (
        zipfile.ZipFile(tmp_path / "a.keras") as source,
        zipfile.ZipFile(tmp_path / "b.keras", "w") as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b'"units": 3', b'"units": 900000000'))
    with pytest.raises(RunError, match="describes more weights than it contains"):
        export(tmp_path / "b.keras", tmp_path / "b.onnx", "onnx", pictures=np.ones((2, 6)))


@pytest.mark.parametrize(
    "format, opset, expected", [("onnx", 12, "from 13 to 18"), ("tflite", 17, "left out")]
)
def test_an_unsupported_opset(run, tmp_path, format, opset, expected):
    result = CliRunner().invoke(
        main, ["export", str(run), "--format", format, "--opset", str(opset)]
    )
    assert result.exit_code == 2
    assert f"opset must be {expected} for the format {format}. Received: {opset}" in result.output


def test_an_input_of_bytes(run, tmp_path, in_process):
    report = export_run(run, "tflite", output_dir=tmp_path, input_dtype="uint8")
    assert report["input_dtype"] == "uint8" and report["mismatch"] is None
    images = pictures(5)
    expected = load_runtime(run)(images)
    np.testing.assert_allclose(load_runtime(report["path"])(images), expected, atol=0.01)
    with pytest.raises(
        RunError, match="fractional values from 0.051 to 0.988, pictures.shape=.5, 16"
    ):
        export(
            run / "model.keras",
            tmp_path / "scaled.tflite",
            "tflite",
            pictures=pictures(5) / 255,
            input_dtype="uint8",
        )
    with pytest.raises(RecipeError, match="input_dtype must be one of float32 for the format onnx"):
        export_run(run, "onnx", output_dir=tmp_path, input_dtype="uint8")


def test_pictures_with_the_channels_first(run, tmp_path, in_process):
    options = ["--input-layout", "nchw", "--author", "A. Author", "--license", "MIT"]
    options += ["--format", "onnx", "--output-dir", str(tmp_path)]
    result = CliRunner().invoke(main, ["export", str(run), *options])
    assert result.exit_code == 0, result.output
    path = tmp_path / "faces" / "faces.onnx"
    report = json.loads(path.with_name("faces.onnx.export_report.json").read_text())
    assert report["input_layout"] == "nchw" and report["mismatch"] is None
    properties = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    described = json.loads(properties["kerasfer.json"])
    stated = ("input_layout", "author", "license")
    assert [described[key] for key in stated] == ["nchw", "A. Author", "MIT"]
    images = pictures(5)
    np.testing.assert_allclose(load_runtime(path)(images), load_runtime(run)(images), atol=0.01)


def test_unsupported_input_layouts(run, tmp_path, in_process):
    with pytest.raises(RecipeError, match="input_layout must be one of nhwc for the format tfl"):
        export_run(run, "tflite", output_dir=tmp_path, input_layout="nchw")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(inputs))
    with pytest.raises(RunError, match="nchw requires a model whose input are .*: .None, 6."):
        export(model, tmp_path / "a.onnx", "onnx", pictures=np.ones((2, 6)), input_layout="nchw")


# refused exports and final paths, without the processes


@pytest.fixture
def quick(monkeypatch):
    """Replaces the conversion and the comparison, whose result is `report`."""
    report = {**SETTINGS, "mismatch": None}

    def convert(job, work):
        if job.format == "saved_model":
            (work / "exported" / "assets.extra").mkdir(parents=True)
            (work / "exported" / "saved_model.pb").write_text(work.name)
        else:
            (work / f"exported.{job.format}").write_text("content")
        report["job"] = vars(job)
        return {"pictures": "some pictures"}

    monkeypatch.setattr(exporting, "convert", convert)
    monkeypatch.setattr(exporting, "measure", lambda *arguments: {})
    monkeypatch.setattr(
        exporting, "_report", lambda job, *arguments: {"format": job.format, **report}
    )
    return report


def test_pretrained_models_state_author_and_license(tmp_path, quick):
    options = {"output_dir": tmp_path, "pictures": "drawn"}
    export_run("ferplus_lite0", "tflite", **options)
    assert quick["job"]["author"] == "The kerasfer authors"
    license = quick["job"]["license"]
    assert f"| license | {license} |" in read_card("ferplus_lite0")
    export_run("ferplus_lite0", "onnx", license="MIT", **options)
    assert quick["job"]["license"] == "MIT"


@pytest.mark.parametrize("format", FORMATS)
def test_a_mismatch_is_not_kept(run, tmp_path, quick, format):
    quick["mismatch"] = "19 of 1000 pictures get another class"
    with pytest.raises(RunError, match="not kept.*: 19 of 1000 .*--allow-mismatch"):
        export_run(run, format, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    report = export_run(run, format, output_dir=tmp_path / "out", allow_mismatch=True)
    assert Path(report["path"]).exists()
    assert report["mismatch"] == "19 of 1000 pictures get another class"


def test_versions_count_up_and_nothing_is_overwritten(run, tmp_path, quick):
    for version in ("2", "9"):
        (tmp_path / "faces" / version).mkdir(parents=True)
    (tmp_path / "faces" / "10").touch()  # not a version, but with the same name
    report = export_run(run, "saved_model", output_dir=tmp_path)
    assert Path(report["path"]) == tmp_path / "faces" / "11"
    first = export_run(run, "onnx", output_dir=tmp_path)
    Path(first["path"]).write_text("mine")
    with pytest.raises(RunError, match="faces.onnx exists, and exports are never overwritten"):
        export_run(run, "onnx", output_dir=tmp_path)
    assert Path(first["path"]).read_text() == "mine"


def test_folds_do_not_become_versions_of_each_other(run, tmp_path, quick):
    folds = tmp_path / "faces"
    for number in (0, 1):
        shutil.copytree(run, folds / f"fold_{number}")
    shutil.copy(run / "recipe.yaml", folds)
    paths = [
        Path(export_run(folds / f"fold_{n}", "saved_model", output_dir=tmp_path / "out")["path"])
        for n in (0, 1)
    ]
    assert paths == [tmp_path / "out" / f"faces-fold_{n}" / "1" for n in (0, 1)]


def test_exports_at_the_same_time_get_their_own_versions(run, tmp_path, quick):
    def once(number):
        return export_run(run, "saved_model", output_dir=tmp_path)["path"]

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(once, range(16)))
    assert sorted(int(Path(path).name) for path in paths) == list(range(1, 17))
    contents = {(Path(path) / "saved_model.pb").read_text() for path in paths}
    assert len(contents) == 16 and not hidden(tmp_path)


def test_a_file_that_appears_during_the_export_is_kept(run, tmp_path, quick, monkeypatch):
    target = tmp_path / "faces" / "faces.tflite"

    def measure(*arguments):
        target.write_text("of another process")
        return {}

    monkeypatch.setattr(exporting, "measure", measure)
    with pytest.raises(RunError, match="exports are never overwritten"):
        export_run(run, "tflite", output_dir=tmp_path)
    assert target.read_text() == "of another process"


def test_wrong_arguments(run, tmp_path, quick):
    with pytest.raises(RecipeError, match="format must be one of .*Received: 'coreml'"):
        export_run(run, "coreml")
    with pytest.raises(RecipeError, match="quantize must be one of .*Received: 'int4'"):
        export_run(run, "tflite", "int4")
    with pytest.raises(
        RecipeError, match="quantize must be one of none for the format saved_model. Received: int8"
    ):
        export_run(run, "saved_model", "int8")
    with pytest.raises(
        RecipeError, match="one of none, float16, int8 for the format onnx. Received: dynamic"
    ):
        export_run(run, "onnx", "dynamic")
    with pytest.raises(ValueError, match=r"`path` must end in '.onnx'.*Received: .*model.tflite"):
        export("model.keras", tmp_path / "model.tflite", "onnx", pictures=[0])
    with pytest.raises(ValueError, match="`pictures` must not be empty"):
        export("model.keras", tmp_path / "model.onnx", "onnx", pictures=[])


def test_paths_that_are_not_runs(run, tmp_path):
    with pytest.raises(RunError, match="Received: .*nothing, which does not exist"):
        export_run(tmp_path / "nothing", "onnx")
    lonely = tmp_path / "lonely.keras"
    shutil.copy(run / "model.keras", lonely)
    for path in (lonely, tmp_path):
        with pytest.raises(RunError, match=r"Expected a run folder.*kerasfer.export.export"):
            export_run(path, "onnx")
    folds = tmp_path / "folds"
    (folds / "fold_0").mkdir(parents=True)
    shutil.copy(run / "recipe.yaml", folds)
    with pytest.raises(RunError, match="folds has no model.keras yet"):
        export_run(folds, "onnx")
    shutil.copy(run / "recipe.yaml", folds / "fold_0")
    (folds / "fold_0" / "model.keras").touch()
    with pytest.raises(RunError, match="has a model in each of its folds .*such as .*fold_0"):
        export_run(folds, "onnx")


@pytest.mark.parametrize(
    "stderr, message",
    [
        (
            "Traceback\nModuleNotFoundError: No module named 'ai_edge_litert'\n",
            r"needs the optional dependency ai_edge_litert.*pip install \"kerasfer\[export\]\"",
        ),
        ("Traceback\nValueError: no such kernel\n", "failed: ValueError: no such kernel .*log"),
        ("", "failed: exit code -6"),
    ],
)
def test_a_process_that_fails(run, tmp_path, monkeypatch, stderr, message):
    failed = subprocess.CompletedProcess([], -6, "", stderr)
    monkeypatch.setattr(processes, "run_python", lambda *arguments, **environment: failed)
    with pytest.raises(RunError, match=message) as raised:
        export_run(run, "tflite", output_dir=tmp_path)
    assert not list(tmp_path.iterdir())
    if "log" in message:
        log = Path(str(raised.value).split("complete log: ")[1].rstrip(")"))
        assert log.read_text() == stderr
        log.unlink()


# the command


def test_the_command(run, tmp_path, quick):
    quick.update(
        num_pictures=1000,
        top1_agreement=0.981,
        max_probability_difference=0.0334,
        accuracy={"model": 0.5, "exported": 0.49},
        size_bytes=11_580_000,
        latency_ms={"1": {"p50": 3.21, "p95": 4.0}, "4": {"p50": 1.6, "p95": 2.04}},
        device="CPU, 2 cores",
    )
    arguments = ["export", str(run), "--format", "tflite", "--quantize", "int8"]
    result = CliRunner().invoke(main, [*arguments, "--output-dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"model         {run}",
        "converted     tflite, compared on some pictures",
        "agreement     98.10 %  of 1,000 pictures get the same class, and probabilities differ by "
        "at most 0.033",
        "accuracy      49.00 %  (model: 50.00 %)",
        "one face      3.2 / 4.0 ms (1 thread), 1.6 / 2.0 ms (4 threads), median / 95th "
        "percentile, CPU, 2 cores",
        "size          11.58 MB",
        f"exported      {tmp_path}/faces/faces-int8.tflite",
    ]


def test_the_command_fails_in_one_line(run, tmp_path, quick):
    quick["mismatch"] = "all wrong"
    arguments = ["export", str(run), "--format", "onnx", "--output-dir", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and result.output.splitlines()[-1].startswith(
        "Error: The export was not kept"
    )
    result = CliRunner().invoke(main, [*arguments, "--quantize", "dynamic"])
    assert result.exit_code == 2
    assert "quantize must be one of none, float16, int8 for the format onnx" in result.output
    result = CliRunner().invoke(main, ["export", str(run)])
    assert result.exit_code == 2 and "Missing option '--format'" in result.output
