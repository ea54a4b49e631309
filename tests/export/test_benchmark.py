"""The table of all formats of one model."""

import os
from dataclasses import replace

import keras
import pytest
from click.testing import CliRunner
from exported_models import make_model, make_run

from kerasfer.cli import main
from kerasfer.errors import RunError
from kerasfer.export import FORMATS, processes
from kerasfer.export import benchmark as benchmarks

NAMES = ["saved_model", "tflite", "tflite float16", "tflite dynamic", "tflite int8"]
NAMES += ["onnx", "onnx float16", "onnx int8"]


def report(**changes):
    return {
        "num_pictures": 1000,
        "pictures": "FER+, validation split",
        "device": "CPU, 2 cores",
        "note": None,
        "size_bytes": 8_417_300,
        "load_ms": 41.6,
        "memory_bytes": 23_400_000,
        "latency_ms": {"1": {"p50": 0.547}, "2": {"p50": 0.339}},
        "top1_agreement": 1.0,
        "accuracy": {"model": 0.821, "exported": 0.82},
        "mismatch": None,
        **changes,
    }


def test_every_format_and_quantization_is_exported_and_nothing_is_kept(monkeypatch, tmp_path):
    calls, folders = [], []

    def export_run(run, format, quantize, *, output_dir, **options):
        calls.append((run, format, quantize, options))
        folders.append(output_dir)
        (tmp_path / output_dir / "export").write_text("file")
        print("a line of progress")
        if quantize == "int8":
            raise RunError("no pictures")
        return report()

    monkeypatch.setattr(benchmarks, "export_run", export_run)
    results = dict(benchmarks.benchmark("runs/faces", data_dir="faces", pictures="crops"))
    assert list(results) == NAMES
    assert [name for name, result in results.items() if isinstance(result, RunError)] == [
        "tflite int8",
        "onnx int8",
    ]
    options = {"data_dir": "faces", "pictures": "crops", "allow_mismatch": True}
    assert calls == [
        ("runs/faces", format, quantize, options)
        for format, described in FORMATS.items()
        for quantize in described.quantizations
    ]
    assert not any(os.path.exists(folder) for folder in folders)


def test_the_table():
    table = benchmarks.render(
        [
            ("saved_model", report(latency_ms={"default": {"p50": 12.3}}, memory_bytes=None)),
            ("onnx", report()),
            ("onnx int8", report(mismatch="21 of 1000 pictures", top1_agreement=0.979)),
            ("tflite", RunError("ai_edge_litert is missing")),
        ]
    )
    assert table.splitlines() == [
        "| format      |    size |  load | memory |  1 core | all cores | agreement | accuracy |",
        "|-------------|---------|-------|--------|---------|-----------|-----------|----------|",
        "| saved_model | 8.42 MB | 42 ms |      – |       – |  12.30 ms |  100.00 % |  82.00 % |",
        "| onnx        | 8.42 MB | 42 ms |  23 MB | 0.55 ms |   0.34 ms |  100.00 % |  82.00 % |",
        "| onnx int8 * | 8.42 MB | 42 ms |  23 MB | 0.55 ms |   0.34 ms |   97.90 % |  82.00 % |",
        "",
        "1,000 pictures: FER+, validation split. CPU, 2 cores. The times are medians for one face.",
        "The accuracy of the model is 82.10 %.",
        "* onnx int8 disagrees with the model: 21 of 1000 pictures.",
        "tflite failed: ai_edge_litert is missing",
    ]


def test_the_first_error_is_raised_if_nothing_can_be_exported():
    with pytest.raises(RunError, match="no such run"):
        benchmarks.render([("onnx", RunError("no such run")), ("tflite", RunError("other"))])


def test_the_command_measures_real_files(tmp_path, monkeypatch, in_process):
    keras.utils.set_random_seed(0)
    run = make_run(tmp_path / "faces", make_model("tiny"))
    formats = {"onnx": replace(FORMATS["onnx"], quantizations=("none", "int8"))}
    monkeypatch.setattr(benchmarks, "FORMATS", formats)
    monkeypatch.setattr(processes, "SECONDS", 0.2)
    result = CliRunner().invoke(main, ["export", str(run), "--benchmark"])
    assert result.exit_code == 0, result.output
    rows = [line.split("|")[1:-1] for line in result.stdout.splitlines() if line.startswith("|")]
    assert [row[0].strip(" *") for row in rows[2:]] == ["onnx", "onnx int8"]
    for row in rows[2:]:
        size, load, memory, one, every = (float(cell.split()[0]) for cell in row[1:6])
        assert size < 0.1 and load > 0 and 0 <= memory < 200 and one > 0 and every > 0
    assert rows[2][6].strip() == "100.00 %"


def test_options_that_exclude_each_other(tmp_path):
    for options in (
        ["--format", "onnx"],
        ["--quantize", "int8"],
        ["--input-dtype", "uint8"],
        ["--input-layout", "nchw"],
        ["--license", "MIT"],
    ):
        result = CliRunner().invoke(main, ["export", "run", "--benchmark", *options])
        assert result.exit_code == 2
        assert "it excludes --format, --quantize," in " ".join(result.output.split())
