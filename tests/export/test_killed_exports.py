"""A killed export leaves no process, and the next one removes its pictures."""

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kerasfer.export.exporting import _work_folder
from kerasfer.export.job import Job
from kerasfer.export.processes import run_python
from kerasfer.files import is_abandoned, only_writer

pytest.importorskip("fcntl", reason="Windows has no such locks")

JOB = Job("onnx", "none", "", "faces")
EXPORT = """
import sys
from pathlib import Path
from kerasfer.export.exporting import _work_folder
from kerasfer.export.job import Job
from kerasfer.export.processes import run_python

folder = Path(sys.argv[1])
with _work_folder(Job("onnx", "none", "", "faces"), folder / "faces.onnx") as work:
    (work / "000.png").write_bytes(b"a face")
    script = folder / "convert.py"
    script.write_text(
        "import os, sys, time\\n"
        "open(sys.argv[1], 'w').write(str(os.getpid()))\\n"
        "time.sleep(60)\\n"
    )
    run_python([str(script), str(folder / "pid")])
"""


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def read_pid(path):
    return path.exists() and path.read_text()


def test_the_converter_ends_with_a_killed_export(tmp_path):
    with subprocess.Popen([sys.executable, "-c", EXPORT, str(tmp_path)]) as export:
        pid = int(wait_for(lambda: read_pid(tmp_path / "pid")))
        (left,) = tmp_path.glob(".export-*")
        # Another export does not touch the folder while the first one is running.
        with _work_folder(JOB, tmp_path / "other.onnx") as work:
            assert set(tmp_path.glob(".export-*")) == {left, work}
        assert is_running(pid) and not is_abandoned(left)
        export.send_signal(signal.SIGKILL)
    assert wait_for(lambda: not is_running(pid), 10)
    assert (left / "000.png").exists() and is_abandoned(left)
    with _work_folder(JOB, tmp_path / "other.onnx") as work:
        assert list(tmp_path.glob(".export-*")) == [work]
    assert not list(tmp_path.glob(".export-*"))


def test_a_folder_without_a_lock_is_kept(tmp_path):
    """It may belong to an export that has not locked it yet."""
    (tmp_path / ".export-new").mkdir()
    with _work_folder(JOB, tmp_path / "other.onnx"):
        pass
    assert (tmp_path / ".export-new").is_dir()
    with only_writer(tmp_path / ".export-new"):
        assert not is_abandoned(tmp_path / ".export-new")


def test_scripts_and_modules_receive_their_arguments(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv[1:], sys.path[0])")
    done = run_python([str(script), "a", "b"], KERAS_BACKEND="torch")
    assert done.stdout.startswith("['a', 'b']"), done.stderr
    assert str(tmp_path) not in done.stdout
    done = run_python(["platform", "--terse"])
    assert done.returncode == 0 and done.stdout.strip() == platform.platform(terse=True)
