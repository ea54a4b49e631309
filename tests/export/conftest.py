"""Converts models in the process of the tests."""

import subprocess
from pathlib import Path

import pytest

from kerasfer.export import processes


@pytest.fixture
def in_process(monkeypatch):
    """Converts in this process, since importing TensorFlow in another one takes seconds."""
    from kerasfer.export.convert import main as main_of_convert  # It imports TensorFlow.

    run = processes.run_python

    def convert(arguments, **environment):
        if "kerasfer.export.convert" not in arguments:
            return run(arguments, **environment)
        code = 0
        try:
            main_of_convert(Path(arguments[-1]))
        except SystemExit as stop:
            code = stop.code
        return subprocess.CompletedProcess(arguments, code, "", "")

    monkeypatch.setattr(processes, "run_python", convert)
