"""One training by several processes: the checks before Ray starts, and real workers of Ray."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner
from processes import processes

from kerasfer.cli import main
from kerasfer.errors import RecipeError
from kerasfer.recipe.schema import Recipe
from kerasfer.runs.folder import RunFolder
from kerasfer.scale import cluster, training

# A well-conditioned covariance, so that rounding is not amplified from step to step.
RECIPE = """
data:
  {name: synthetic, num_samples: 140, image_size: 24, batch_size: 16,
   augment: {flip: true, rotation: 10, erasing: 0.3, mixup: 0.2}}
model: {name: covpool, bimap_units: 8, shrinkage: 0.1}
optimizer: {name: gc_sgd, learning_rate: 0.01, momentum: 0.9, ema: 0.9}
train: {epochs: 4, backend: jax, tensorboard: false}
evaluate: {batch_size: 6}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(RECIPE)
    return tmp_path


def recipe(**changes):
    sections = {"data": {"name": "synthetic"}, "model": {"name": "covpool"}, "train": {}}
    sections["train"] = {"backend": "jax"}
    for section, values in changes.items():
        sections[section] = sections.get(section, {}) | values
    return Recipe.model_validate(sections)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"backend": "torch"}}, "only the backend jax. Received: torch. Add --backend"),
        ({"train": {"backend": None}}, "only the backend jax. Received: tensorflow"),
        ({"train": {"devices": 2}}, "train.devices must be auto with --workers, .* Received: 2"),
        ({"data": {"batch_size": 31}}, "data.batch_size must be .* of workers, 2. Received: 31"),
        ({"evaluate": {"batch_size": 9}}, "evaluate.batch_size must be .* workers, 2. Received: 9"),
    ],
)
def test_what_workers_cannot_share_is_refused_before_ray_starts(monkeypatch, changes, message):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(training, "check_installed", lambda: None)
    monkeypatch.setattr(training, "joined_cluster", None)
    with pytest.raises(RecipeError, match=message):
        training.train_with_workers(recipe(**changes), 2)


def test_options_that_belong_together(here):
    result = CliRunner().invoke(main, ["train", "small.yaml", "--ray-address", "auto"])
    assert result.exit_code == 2
    assert "--ray-address needs --workers" in result.stderr


def test_without_ray_the_command_names_the_extra(here, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    monkeypatch.setattr("kerasfer.cli.training.prepare_keras", lambda backend: None)
    result = CliRunner().invoke(main, ["train", "small.yaml", "--workers", "2"])
    assert result.exit_code == 1
    assert 'pip install "kerasfer[ray]"' in result.stderr
    assert not (here / "runs").exists()


def test_only_the_first_attempt_follows_the_option_resume():
    for given in (False, True):
        messages = training._Messages(given)
        assert messages.begin() is given
        assert messages.take() == []
        assert messages.begin() is True
        assert messages.take() == [("line", training.RESTARTED)]


def test_output_is_passed_on_in_lines():
    told = []
    lines = training._Lines(told.append)
    print("epoch 1", end="", file=lines)
    assert told == []
    print("/2\nepoch 2/2", file=lines)
    assert told == ["epoch 1/2", "epoch 2/2"]


def test_an_interrupt_is_noticed_even_if_its_exception_is_ignored():
    before = signal.getsignal(signal.SIGINT)
    with training._noticed_interrupts() as interrupts:
        assert not interrupts
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupts
    assert signal.getsignal(signal.SIGINT) is before


def test_cores_and_gpus_are_divided_evenly_on_each_machine(monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed")

    def share(workers, *machines):
        nodes = [{"Alive": True, "Resources": resources} for resources in machines]
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        return cluster.share_of_machines(workers)

    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert share(2, {"CPU": 8}) == (4, 0)
    assert share(3, {"CPU": 8}, {"CPU": 8}) == (4, 0)
    assert share(4, {"CPU": 1}, {"CPU": 8}) == (1, 0)
    # A machine without GPUs takes no part.
    assert share(4, {"CPU": 2}, {"CPU": 32, "GPU": 8}) == (8, 2)
    with pytest.raises(cluster.RunError, match="3 workers need a GPU each, and Ray found 2"):
        share(3, {"CPU": 32, "GPU": 2})
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert share(3, {"CPU": 33, "GPU": 2}) == (11, 0)


# With workers of Ray -----------------------------------------------------------------------------


def with_ray(test):
    """Marks a test that starts workers of Ray."""
    missing = any(importlib.util.find_spec(name) is None for name in ("ray", "jax"))
    test = pytest.mark.skipif(missing, reason="Ray or JAX is not installed")(test)
    no_proc = not os.path.isdir("/proc")
    test = pytest.mark.skipif(no_proc, reason="processes are found in /proc")(test)
    return pytest.mark.ray(test)


LAST = "epoch 4/4"
# Lets two workers start on a machine with one core.
PROGRAM = """
from kerasfer.cli.start import main
from kerasfer.scale import cluster
cluster.usable_cores = lambda: 2
main()
"""


class Training:
    """Runs `kerasfer train small.yaml` in a process group of its own."""

    def __init__(self, *options):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "train", "small.yaml", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, text):
        deadline = time.monotonic() + 400
        while not any(text in line for line in self.lines):
            assert self.process.poll() is None and time.monotonic() < deadline, self.lines
            time.sleep(0.01)

    def end(self):
        """Waits for the end. Returns the exit code."""
        self.process.wait(timeout=500)
        self.reader.join(timeout=10)
        return self.process.returncode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The run folder of the same training in a single process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "small.yaml").write_text(RECIPE)
    before = os.getcwd()
    os.chdir(folder)
    try:
        alone = Training()
        assert alone.end() == 0, alone.lines
    finally:
        os.chdir(before)
    return RunFolder(folder / "runs" / "small")


def check_same(run, expected):
    assert len(run.read_history()) == 4
    for row, same in zip(run.read_history(), expected.read_history(), strict=True):
        for column in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert row[column] == pytest.approx(same[column], rel=1e-4), column
    found, metrics = run.read_metrics(), expected.read_metrics()
    assert found["confusion_matrix"] == metrics["confusion_matrix"]
    names = [sorted(path.name for path in one.path.iterdir()) for one in (run, expected)]
    assert names[0] == names[1]


def check_nothing_left():
    assert processes("ray::") == processes("raylet") == []


@with_ray
@pytest.mark.parametrize("victim", [0, 1, None])
def test_two_workers_train_as_one_even_if_one_is_killed(here, undisturbed, victim):
    shared = Training("--workers", "2")
    shared.wait_for("epoch 1/4  loss")
    if victim is not None:
        time.sleep(random.uniform(0, 1))
        os.kill(sorted(processes("ray::RayTrainWorker"))[victim], signal.SIGKILL)
    assert shared.end() == 0, shared.lines
    restarts = [line for line in shared.lines if line == training.RESTARTED]
    assert len(restarts) == (victim is not None), shared.lines
    assert sum(line.startswith("epoch 1/4  loss") for line in shared.lines) == 1
    run = RunFolder(here / "runs" / "small")
    assert run.read_environment()["num_devices"] == 2
    check_same(run, undisturbed)
    check_nothing_left()


@with_ray
def test_an_interrupt_ends_all_and_the_training_continues_in_one_process(here, undisturbed):
    shared = Training("--workers", "2")
    shared.wait_for("epoch 1/4  loss")
    os.killpg(shared.process.pid, signal.SIGINT)
    assert shared.end() == 130, shared.lines
    assert "Interrupted: run the same command with --resume" in shared.lines[-1]
    assert not any("Traceback" in line for line in shared.lines)
    check_nothing_left()
    run = RunFolder(here / "runs" / "small")
    assert run.checkpoints

    refused = Training("--workers", "2")  # The error of a worker.
    assert refused.end() == 1
    # Ray reports on its own log level.
    assert len([line for line in refused.lines if "logging.cc" not in line]) == 2
    assert "holds an interrupted run. Add --resume to continue it" in refused.lines[-1]
    check_nothing_left()

    resumed = Training("--resume")
    assert resumed.end() == 0, resumed.lines
    assert any(line.startswith("Resuming after epoch") for line in resumed.lines)
    check_same(run, undisturbed)


@with_ray
@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (
            ["--workers", "3", "--set", "data.batch_size=18"],
            "as this machine has cores, 2. Received: workers for 3 cores",
            1,
        ),
        (["--workers", "2", "--ray-address", "127.0.0.1:9"], "No Ray cluster answers at", 1),
        (["--workers", "2", "--set", "train.devices=1"], "train.devices must be auto", 2),
    ],
)
def test_bad_input_is_one_line_in_time(here, options, message, code):
    started = time.monotonic()
    refused = Training(*options)
    assert refused.end() == code
    assert time.monotonic() - started < 30
    errors = [line for line in refused.lines if not line.startswith("Starting Ray")]
    assert len(errors) == 1 and message in errors[0]
    check_nothing_left()
