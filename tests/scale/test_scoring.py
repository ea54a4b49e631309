"""Scoring with real worker processes of Ray."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from colors import NAMES, draw, draw_many, write_model
from processes import processes

from kerasfer.errors import RunError
from kerasfer.scale import cluster, scoring

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not os.path.isdir("/proc"), reason="processes are found in /proc"),
]


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "colors.onnx")


@pytest.fixture
def two_cores(monkeypatch):
    """Lets two workers start on a machine with one core."""
    monkeypatch.setattr(cluster, "usable_cores", lambda: 2)


def read_rows(folder):
    from pyarrow import parquet

    return parquet.read_table(folder).to_pylist()


def test_two_workers_survive_a_kill_and_continue_without_repeating(
    tmp_path, model, two_cores, monkeypatch
):
    monkeypatch.setattr(scoring, "PART", 10)
    pictures = draw_many(tmp_path / "faces", 40)
    broken = tmp_path / "faces" / "broken.png"
    broken.write_text("not a picture")
    out = tmp_path / "answers"
    killed = []

    def kill_once(done, total):
        assert total == 121
        if not killed:
            killed.append(processes("ray::MapWorker")[0])
            os.kill(killed[0], signal.SIGKILL)

    counts = scoring.score(
        model, [tmp_path / "faces"], out, workers=2, faces="none", tell=kill_once
    )
    assert killed
    assert counts == Counter(pictures=121, faces=120, errors=1, empty=0, answered_before=0)
    rows = read_rows(out)
    assert Counter(row["picture"] for row in rows) == Counter(map(str, [*pictures, broken]))
    for row in rows:
        if row["picture"] == str(broken):
            assert "broken.png" in row["error"]
            assert row["label"] is None
            continue
        assert row["label"] == Path(row["picture"]).parent.name
        assert row["probability"] == pytest.approx(0.8)
        assert sum(row[f"probability_{name}"] for name in NAMES) == pytest.approx(1)
        assert row["x"] is None
    assert processes("ray::") == []
    assert processes("raylet") == []

    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    extra = draw(tmp_path / "faces" / "new" / "blue.png", "blue")
    counts = scoring.score(model, [tmp_path / "faces"], out, workers=1, faces="none")
    assert (counts["pictures"], counts["answered_before"]) == (1, 121)
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items())
    assert [row["label"] for row in read_rows(out) if row["picture"] == str(extra)] == ["blue"]


def test_one_worker_classifies_the_pictures_of_parquet_files(tmp_path, model):
    import pyarrow as pa
    from pyarrow import parquet

    folder = tmp_path / "shards"
    folder.mkdir()
    pictures = [path.read_bytes() for path in draw_many(tmp_path / "faces", 2)]
    columns = {"image": [*pictures, b"not a picture", None], "label": [0, 1, 2] * 2 + [0, 0]}
    parquet.write_table(pa.table(columns), folder / "train-0.parquet", row_group_size=3)
    out = tmp_path / "answers"
    counts = scoring.score(model, [folder], out, workers=1, faces="none")
    assert (counts["pictures"], counts["errors"]) == (8, 2)
    rows = {row["picture"]: row for row in read_rows(out)}
    assert [rows[f"{folder}/train-0.parquet:{i}"]["label"] for i in range(6)] == [*NAMES] * 2
    assert "none of the supported formats" in rows[f"{folder}/train-0.parquet:6"]["error"]
    assert "has no bytes" in rows[f"{folder}/train-0.parquet:7"]["error"]
    counts = scoring.score(model, [folder / "train-0.parquet"], out, workers=1, faces="none")
    assert (counts["pictures"], counts["answered_before"]) == (0, 8)


def test_an_interrupt_leaves_no_process_and_whole_files(tmp_path, model):
    draw_many(tmp_path / "faces", 1500)
    out = tmp_path / "answers"
    arguments = [model, tmp_path / "faces", "--detector", "none", "--parquet", out]
    program = "from kerasfer.cli.start import main; main()"
    command = subprocess.Popen(
        [sys.executable, "-c", program, "predict", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes("raylet")
    command.send_signal(signal.SIGINT)
    _, text = command.communicate(timeout=60)
    assert command.returncode == 130, text
    assert "Interrupted: run the same command again." in text
    assert "Traceback" not in text
    assert processes("raylet") == []
    assert processes("ray::") == []
    rows = Counter(row["picture"] for row in read_rows(out))
    assert 0 < len(rows) < 4500
    assert set(rows.values()) == {1}


def test_a_damaged_model_in_a_worker_is_one_line(tmp_path, model, monkeypatch):
    job = scoring.Job(str(tmp_path / "missing.onnx"), None, NAMES, "none", 0.0)
    monkeypatch.setattr(scoring, "_describe", lambda *arguments: job)
    picture = draw(tmp_path / "a.png", "red")
    with pytest.raises(RunError, match=r"missing\.onnx, which does not exist"):
        scoring.score(model, [picture], tmp_path / "answers", faces="none")


def test_a_cluster_that_does_not_answer_is_reported_in_time(tmp_path, model):
    started = time.monotonic()
    with (
        pytest.raises(RunError, match=r"No Ray cluster answers at 127\.0\.0\.1:9 within"),
        cluster.joined_cluster(1, address="127.0.0.1:9"),
    ):
        pass
    assert time.monotonic() - started < 30


def test_more_workers_than_cores_are_refused(monkeypatch):
    monkeypatch.setattr(cluster, "usable_cores", lambda: 2)
    with (
        pytest.raises(RunError, match="as this machine has cores, 2. Received: workers for 3"),
        cluster.joined_cluster(3),
    ):
        pass


def test_a_folder_that_the_workers_cannot_see_is_named(tmp_path):
    with cluster.joined_cluster(1):
        cluster.check_visible([tmp_path], tmp_path)
        with pytest.raises(RunError, match=r"cannot see .*elsewhere\. Use a path on storage"):
            cluster.check_visible([tmp_path / "elsewhere"], tmp_path)
