"""Runs of a table that worker processes of Ray train at the same time."""

import os
import signal
import subprocess
import sys
import threading
import time

import keras
import pytest
from click.testing import CliRunner
from processes import is_alive, processes

from kerasfer.cli import main
from kerasfer.runs.folder import RunFolder
from kerasfer.scale import cluster, studies
from kerasfer.scale.studies import Resources, run_in_parallel
from kerasfer.tables import fill_table, load_table
from kerasfer.tables.running import list_jobs

RECIPE = """
data: {name: synthetic, num_samples: 70, image_size: 48, batch_size: 16}
model: {name: slim_spd}
optimizer: {name: gc_sgd, learning_rate: 0.01}
train: {epochs: 3, tensorboard: false, verbose: 0}
"""
TABLE = """
title: Two rows
paper: obsr
table: 3
recipe: ../small.yaml
columns: {test: {}}
rows:
  Small: {paper: {test: 50.0}}
  Without data:
    set: [data.name=folder, data.path=nowhere, data.num_samples=null]
    paper: {test: 60.0}
"""
LENGTHS = """
title: A short and a long run
paper: obsr
table: 3
recipe: ../small.yaml
columns: {test: {}}
rows:
  Short: {set: [train.epochs=1], paper: {test: 50.0}}
  Long: {set: [train.epochs=200], paper: {test: 60.0}}
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    folder = tmp_path / "recipes" / "tables"
    folder.mkdir(parents=True)
    (tmp_path / "recipes" / "small.yaml").write_text(RECIPE)
    (folder / "two.yaml").write_text(TABLE)
    return load_table(folder / "two.yaml")


def test_options_that_belong_together(table):
    for options, message in (
        (["--workers", "2"], "--workers needs --run-missing"),
        (["--run-missing", "--gpus-per-run", "1"], "--ray-address need --workers"),
    ):
        result = CliRunner().invoke(main, ["table", "recipes/tables/two.yaml", *options])
        assert result.exit_code == 2
        assert message in result.stderr


def test_cores_are_shared_by_the_runs(monkeypatch):
    monkeypatch.setattr(studies, "usable_cores", lambda: 8)
    assert Resources(2).threads == 4
    assert Resources(16).threads == 1
    assert Resources(2, cpus_per_run=3).threads == 3
    assert Resources(2, address="10.0.0.5:6379").threads == 1


def test_an_empty_cell_reports_why_its_run_failed(table, tmp_path):
    names = [job.recipe.name for job in list_jobs(table)]
    filled = fill_table(table, output_dir=tmp_path, problems={"The disk is full.": names[1:]})
    assert [entry.problem for entry in filled] == [
        None,
        f"{names[1]} was not run: The disk is full.",
    ]


@pytest.mark.ray
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="processes are found in /proc")
def test_a_killed_run_continues_and_a_failed_run_does_not_stop_others(table, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(cluster, "usable_cores", lambda: 2)
    small, _ = (job.recipe for job in list_jobs(table))
    run, killed, told = RunFolder(tmp_path / "runs" / small.name), [], []

    def kill():
        deadline = time.monotonic() + 300
        while not run.checkpoints and time.monotonic() < deadline:
            time.sleep(0.02)
        killed.extend(processes("ray::_run"))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    problems = run_in_parallel(
        [table], Resources(2), output_dir=tmp_path / "runs", tell=told.append
    )
    killer.join()
    assert killed
    (reason,) = problems
    assert "nowhere" in reason
    assert len(problems[reason]) == 1
    assert sum(line.startswith("Started") for line in told) == 2
    assert processes("raylet") == []

    run_in_parallel([table], Resources(2), output_dir=tmp_path / "alone", tell=told.append)
    alone = RunFolder(tmp_path / "alone" / small.name)
    for row, expected in zip(run.read_history(), alone.read_history(), strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert row["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5)
    assert run.read_metrics()["accuracy"] == alone.read_metrics()["accuracy"]

    filled = fill_table(table, output_dir=tmp_path / "runs", problems=problems)
    assert filled[0].value is not None
    assert filled[1].problem.endswith(f"was not run: {reason}")
    told.clear()
    written = run.metrics.stat().st_mtime_ns
    run_in_parallel([table], Resources(1), output_dir=tmp_path / "runs", tell=told.append)
    assert run.metrics.stat().st_mtime_ns == written
    assert sum(line.startswith("Started") for line in told) == 1


@pytest.mark.ray
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="processes are found in /proc")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_stopped_command_leaves_no_process_and_continues(table, tmp_path, stop, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(cluster, "usable_cores", lambda: 2)
    path = tmp_path / "recipes" / "tables" / "lengths.yaml"
    path.write_text(LENGTHS)
    table = load_table(path)
    runs = [RunFolder(tmp_path / "runs" / job.recipe.name) for job in list_jobs(table)]
    program = (
        "from kerasfer.scale import cluster; cluster.usable_cores = lambda: 2; "
        "from kerasfer.cli.start import main; main()"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", program, "table", str(path), "--run-missing", "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (runs[0].is_finished and runs[1].checkpoints) and time.monotonic() < deadline:
        assert command.poll() is None, command.stderr.read()
        time.sleep(0.1)
    workers = processes("ray::_run")
    assert workers and processes("raylet")
    command.send_signal(stop)
    _, text = command.communicate(timeout=60)
    if stop == signal.SIGINT:
        assert command.returncode == 130, text
        assert "Interrupted: run the same command again." in text
        assert "Traceback" not in text
    # A killed command cannot wait for its workers, which notice its end by themselves.
    deadline = time.monotonic() + (0 if stop == signal.SIGINT else 60)
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, workers))
    assert not runs[1].is_finished

    written = runs[0].metrics.stat().st_mtime_ns
    epochs = len(runs[1].read_history())
    assert 0 < epochs < 200
    told = []
    assert run_in_parallel([table], Resources(2), output_dir="runs", tell=told.append) == {}
    assert [line for line in told if line.startswith("Started")] == [f"Started {runs[1].path.name}"]
    assert runs[0].metrics.stat().st_mtime_ns == written
    assert [int(row["epoch"]) for row in runs[1].read_history()] == list(range(1, 201))
