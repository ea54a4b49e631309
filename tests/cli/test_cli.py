import errno
import json
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest
from click.testing import CliRunner

import kerasfer
from kerasfer.cli import main
from kerasfer.cli.training import train as train_command
from kerasfer.errors import DataError, RunError
from kerasfer.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
METRICS = {
    "run": os.path.join("runs", "mine"),
    "dataset": "ckplus",
    "split": "test",
    "protocol": "official",
    "leaking": False,
    "num_samples": 1000,
    "accuracy": 0.9,
    "accuracy_interval": [0.8799, 0.9171],
    "macro_recall": 0.8123,
}
PLACES = {
    "train": ("kerasfer.train", "train"),
    "evaluate": ("kerasfer.evaluate.evaluation", "evaluate_run"),
}
TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
MINIMAL = "data: {name: ckplus}\nmodel: {name: obsr}\n"
PAPER = (
    "reproduces: {paper: spd_attention, table: 1, row: SPD-Attention, column: CK+, accuracy: 99}\n"
)


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs a command in an empty folder that holds mine.yaml, without a backend chosen."""
    monkeypatch.chdir(tmp_path)
    # Set, then deleted: so that what a command sets is undone after the test.
    for name in ("KERAS_BACKEND", "KERASFER_DATA", *TENSORFLOW):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    Path("mine.yaml").write_text(MINIMAL)
    return lambda *arguments, command=main: CliRunner().invoke(command, arguments)


def parents(module):
    """Returns the packages between kerasfer and a module."""
    names = module.split(".")[1:-1]
    return [".".join(["kerasfer", *names[: depth + 1]]) for depth in range(len(names))]


@pytest.fixture
def fake(monkeypatch):
    """Puts a function in the place of `kerasfer.train.train` or `evaluate_run`.

    It records its arguments and the environment in which Keras would be imported.
    """

    def fake(name, result=METRICS):
        calls = []

        def function(*arguments, **options):
            calls.append((*arguments, options, dict(os.environ)))
            if isinstance(result, BaseException):
                raise result
            return result

        place, attribute = PLACES[name]
        module = types.ModuleType(place)
        setattr(module, attribute, function)
        for parent in parents(place):  # so that the packages above it import nothing
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        monkeypatch.setitem(sys.modules, place, module)
        return calls

    return fake


# train


def test_train_passes_its_options(call, fake):
    calls = fake("train")
    result = call(
        *("train", "mine.yaml", "--set", "train.epochs=2", "--set", "data.batch_size=8"),
        *("--data-dir", "faces", "--output-dir", "out", "--resume"),
    )
    assert result.exit_code == 0, result.output
    recipe, options, _ = calls[0]
    assert recipe == load_recipe("mine.yaml", ["train.epochs=2", "data.batch_size=8"])
    assert options == {"data_dir": "faces", "output_dir": "out", "resume": True}


def test_train_defaults(call, fake):
    calls = fake("train")
    assert call("train", "mine.yaml").exit_code == 0
    assert calls[0][1] == {"data_dir": None, "output_dir": "runs", "resume": False}


def test_data_dir_from_the_environment(call, fake, monkeypatch):
    calls = fake("train")
    monkeypatch.setenv("KERASFER_DATA", "elsewhere")
    call("train", "mine.yaml")
    assert calls[0][1]["data_dir"] == "elsewhere"


@pytest.mark.parametrize(
    "option, recipe, environment, expected",
    [
        (None, None, None, "tensorflow"),
        (None, None, "", "tensorflow"),
        (None, None, "torch", "torch"),
        (None, "jax", "torch", "jax"),
        ("tensorflow", "jax", "torch", "tensorflow"),
    ],
)
def test_backend(call, fake, monkeypatch, option, recipe, environment, expected):
    monkeypatch.setattr("kerasfer.cli.shared.find_spec", lambda name: name)
    if environment is not None:
        monkeypatch.setenv("KERAS_BACKEND", environment)
    if recipe:
        Path("mine.yaml").write_text(MINIMAL + f"train: {{backend: {recipe}}}\n")
    calls = fake("train")
    result = call("train", "mine.yaml", *(["--backend", option] if option else []))
    assert result.exit_code == 0, result.output
    resolved, _, environment = calls[0]
    assert environment["KERAS_BACKEND"] == expected
    assert resolved.train.backend == (option or recipe)


@pytest.mark.parametrize(("name", "value"), TENSORFLOW.items())
def test_tensorflow_is_quiet_and_fast_by_default(call, fake, monkeypatch, name, value):
    calls = fake("train")
    call("train", "mine.yaml")
    assert calls[0][2][name] == value
    monkeypatch.setenv(name, "0")
    call("train", "mine.yaml")
    assert calls[1][2][name] == "0"


def test_verbose_shows_the_messages_of_the_libraries(call, fake, monkeypatch):
    import logging

    calls = fake("train")
    loggers = [logging.getLogger(name) for name in ("absl", "jax", "tensorflow")]
    for logger in loggers:
        monkeypatch.setattr(logger, "level", logging.WARNING)
    call("train", "mine.yaml", "--verbose")
    assert calls[0][2]["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert {logger.level for logger in loggers} == {logging.WARNING}
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    call("train", "mine.yaml")
    assert calls[1][2]["TF_CPP_MIN_LOG_LEVEL"] == "3"
    assert {logger.level for logger in loggers} == {logging.ERROR}
    assert "--verbose" not in call("recipe", "show", "--help").stdout


def test_unknown_backend_in_the_environment(call, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    result = call("train", "mine.yaml")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: KERAS_BACKEND must be one of tensorflow, jax, torch. Received: theano.\n"
    )


def test_backend_that_is_not_installed(call, monkeypatch):
    monkeypatch.setattr("kerasfer.cli.shared.find_spec", lambda name: None)
    result = call("train", "mine.yaml", "--backend", "jax")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: The backend jax is not installed: install it (pip ")


def test_summary(call, fake):
    fake("train")
    assert call("train", "mine.yaml").stdout.splitlines() == [
        "Loading Keras and ckplus",
        "accuracy      90.00 %  of 1,000 pictures; 95 % interval 87.99 % to 91.71 %",
        "macro recall  81.23 %",
        "protocol      official, ckplus test",
        f"report        {os.path.join('runs', 'mine', 'report.html')}",
    ]


def test_summary_with_the_published_result(call, fake):
    fake("train", METRICS | {"protocol": "frames", "leaking": True})
    Path("mine.yaml").write_text(MINIMAL + PAPER)
    lines = call("train", "mine.yaml").stdout.splitlines()
    assert lines[3] == (
        "protocol      frames, ckplus test (LEAKING: near-identical frames are in training and "
        "test; data.protocol=subjects keeps people apart)"
    )
    assert lines[4] == "paper         99.00 %  spd_attention table 1, SPD-Attention, CK+"


def test_summary_of_folds(call, fake):
    folds = {"num_folds": 10, "mean": {"accuracy": 0.8712}, "sd": {"accuracy": 0.0213}}
    fake("train", METRICS | folds)
    assert "; 10 folds: 87.12 % ± 2.13 %" in call("train", "mine.yaml").stdout
    fake("train", METRICS | folds | {"num_folds": 1, "sd": {"accuracy": None}})
    assert "±" not in call("train", "mine.yaml").stdout


# evaluate


class Evaluation:
    """What `evaluate_run` returns, as far as the command uses it."""

    metrics = METRICS | {
        "data": {"source": "folder/faces"},
        "class_names": ["happy", "sad"],
        "per_class": {
            "happy": {"recall": 0.9, "precision": 0.8, "f1": 0.85, "support": 1000},
            "sad": {"recall": 0.0, "precision": 0.0, "f1": 0.0, "support": 0},
        },
    }

    def __init__(self):
        self.result = self

    def write(self):
        return Path("runs", "mine", "evaluation_test.json")


def test_evaluate(call, fake):
    calls = fake("evaluate", Evaluation())
    result = call(
        *("evaluate", "runs/mine", "--tta", "flip", "--split", "validation"),
        *("--set", "data.image_size=32"),
    )
    assert result.exit_code == 0, result.output
    run, options, environment = calls[0]
    assert run == "runs/mine"
    assert options == {
        "dataset": None,
        "data_dir": None,
        "split": "validation",
        "tta": "flip",
        "list_name": None,
        "duplicates": None,
        "overrides": ("data.image_size=32",),
    }
    assert environment["KERAS_BACKEND"] == "tensorflow"
    assert result.stdout.splitlines()[0].startswith("accuracy      90.00 %")
    assert result.stdout.splitlines()[3:] == [
        "data          folder/faces",
        "class         recall  precision      F1  pictures",
        "happy         90.0 %     80.0 %  85.0 %     1,000",
        "sad                –          –       –         0",
        "written       runs/mine/evaluation_test.json (also .csv and .png)",
    ]


def test_evaluate_backend(call, fake):
    calls = fake("evaluate", Evaluation())
    call("evaluate", "runs/mine", "--backend", "torch", "--dataset", "fer2013")
    assert calls[0][1]["dataset"] == "fer2013"
    assert calls[0][2]["KERAS_BACKEND"] == "torch"


# recipe show, recipe schema


def test_recipe_show(call):
    result = call("recipe", "show", "mine.yaml", "--set", "train.epochs=3")
    assert result.exit_code == 0
    Path("copy.yaml").write_text(result.stdout)
    assert load_recipe("copy.yaml") == load_recipe("mine.yaml", ["train.epochs=3"])
    assert "  learning_rate: 0.001\n" in result.stdout


def test_recipes_that_come_with_kerasfer(call):
    lines = call("recipe", "list").stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == sorted(path.stem for path in RECIPES.glob("*.yaml"))
    shown = call("recipe", "show", "quickstart").stdout
    assert shown == call("recipe", "show", str(RECIPES / "quickstart.yaml")).stdout
    assert dict(zip(names, lines, strict=True))["quickstart"].endswith(
        load_recipe("quickstart").description
    )


def test_a_file_is_not_passed_over_for_a_recipe_of_its_name(call):
    Path("quickstart").write_text(MINIMAL)
    assert "name: obsr" in call("recipe", "show", "quickstart").stdout
    Path("quickstart").rename("quickstart.yaml")
    assert "name: obsr" in call("recipe", "show", "quickstart.yaml").stdout
    assert call("recipe", "show", "quickstart").stderr == (
        "Error: There is no recipe quickstart. Did you mean quickstart.yaml?\n"
    )
    Path("mine.yaml").write_text("base: fer2013_spd\n")
    assert "name: spd_attention" in call("recipe", "show", "mine.yaml").stdout


def test_recipe_schema(call):
    schema = json.loads(call("recipe", "schema").stdout)
    assert schema["$defs"]["Train"]["properties"]["epochs"]["minimum"] == 1


# Errors and exit codes


@pytest.mark.parametrize("command", ["train", "recipe show"])
def test_bad_recipe(call, command):
    result = call(*command.split(), "mine.yaml", "--set", "train.epoch=1")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "Error: --set train.epoch=1: unknown key `train.epoch`. Did you mean `train.epochs`?\n"
    )


@pytest.mark.parametrize("error", [DataError("no pictures"), RunError("no room")])
def test_failed_run(call, fake, error):
    fake("train", error)
    result = call("train", "mine.yaml")
    assert (result.exit_code, result.stderr) == (1, f"Error: {error}\n")


def test_full_disk(call, fake):
    fake("train", OSError(errno.ENOSPC, "h5py: a long story", "runs/mine/model.keras"))
    result = call("train", "mine.yaml")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: No space left on device (runs/mine/model.keras): fix this, and run the same "
        "command with --resume to continue from the last checkpoint.\n"
    )


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ELOOP, errno.EIO])
def test_other_errors_of_the_system(call, fake, number):
    fake("evaluate", OSError(number, "a long story", "runs/mine"))
    result = call("evaluate", "runs/mine")
    assert result.exit_code == 1
    expected = f"{os.strerror(number)} (runs/mine): fix this, and run the same command again."
    assert result.stderr == f"Error: {expected}\n"


def test_no_folder_for_temporary_files(call, fake, monkeypatch):
    def fail():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", fail)
    monkeypatch.setattr("kerasfer.cli.training.load_recipe", lambda *_: tempfile.gettempdir())
    result = call("train", "mine.yaml")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no writable folder for temporary files: name ")
    assert result.stderr.count("\n") == 1


def test_interrupt(call, fake):
    fake("train", KeyboardInterrupt())
    result = call("train", "mine.yaml")
    assert result.exit_code == 130
    assert result.stderr == (
        "Interrupted: run the same command with --resume to continue from the last checkpoint.\n"
    )
    fake("evaluate", KeyboardInterrupt())
    result = call("evaluate", "runs/mine")
    assert result.exit_code == 130
    assert result.stderr == "Interrupted: run the same command again.\n"


def test_a_bug_keeps_its_traceback(call, fake):
    for bug in (ValueError("a bug"), OSError(errno.ECHILD, "a bug")):
        fake("train", bug)
        assert call("train", "mine.yaml").exception is bug


@pytest.mark.parametrize(
    "arguments",
    [["train"], ["train", "a", "b"], ["train", "mine.yaml", "--backend", "theano"], ["fly"]],
)
def test_usage_errors(call, arguments):
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


# Help


def test_train_alone_is_the_same_command(call, fake):
    calls = fake("train")
    assert call("mine.yaml", "--resume", command=train_command).exit_code == 0
    assert calls[0][1]["resume"] is True


def test_version(call):
    assert call("--version").stdout == f"kerasfer, version {kerasfer.__version__}\n"


@pytest.mark.parametrize(
    "command", ["", "train", "evaluate", "recipe show", "recipe list", "recipe schema"]
)
def test_help(call, command):
    result = call(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout or "  kerasfer " in result.stdout


def test_help_imports_no_keras():
    code = """
import sys
from kerasfer.cli import train_main
sys.argv = ["kerasfer-train", "--help"]
try:
    train_main()
finally:
    heavy = {"keras", "tensorflow", "jax", "torch", "numpy", "sklearn", "matplotlib"}
    print("imported:", heavy & {*sys.modules})
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.startswith("Usage: kerasfer-train [OPTIONS] RECIPE\n")
    assert out.stdout.endswith("imported: set()\n")
