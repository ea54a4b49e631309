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
    message = "Another process is training into"
    with only_writer(tmp_path), pytest.raises(RunError, match=message), only_writer(tmp_path):
        pass
    with only_writer(tmp_path):
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
