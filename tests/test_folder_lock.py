import signal
import subprocess
import sys

import pytest

from kerasfer.errors import RunError
from kerasfer.files import only_writer

pytest.importorskip("fcntl", reason="Windows has no such locks")

HOLDER = """
import sys, time
from pathlib import Path
from kerasfer.files import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_writer_at_a_time(tmp_path):
    message = "Another process is writing into"
    with only_writer(tmp_path), pytest.raises(RunError, match=message), only_writer(tmp_path):
        pass
    with only_writer(tmp_path):
        pass


def test_a_planted_link_is_not_followed(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="Cannot lock .*lock"), only_writer(folder):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_the_lock_of_a_moved_folder_is_not_used(tmp_path, monkeypatch):
    import fcntl

    folder = tmp_path / "checkpoint"
    folder.mkdir()
    flock = fcntl.flock

    def move_and_lock(file, operation):
        folder.rename(tmp_path / "removed")
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", move_and_lock)
    with pytest.raises(RunError, match="Another process"), only_writer(folder):
        pass


def test_a_killed_writer_leaves_no_lock(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError), only_writer(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    with only_writer(tmp_path):
        pass
