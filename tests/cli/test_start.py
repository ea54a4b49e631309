"""The programs as a shell starts them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What the installed program `kerasfer` consists of.
PROGRAM = [
    sys.executable,
    "-c",
    "import sys; from kerasfer.cli.start import main; sys.exit(main())",
]
FILES = ("kerasfer", "recipes", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def start(*arguments, closed=(), **options):
    def close():
        for number in closed:
            os.close(number)

    return subprocess.Popen(
        [*PROGRAM, *arguments],
        preexec_fn=close,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1), (0, 1, 2)])
def test_closed_streams(closed):
    program = start("recipe", "show", "quickstart", closed=closed)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0
    assert err == "" and ("name: quickstart" in out) == (1 not in closed)
    program = start("recipe", "show", "nothing.yaml", closed=closed)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 2
    assert out == "" and ("There is no recipe nothing.yaml" in err) == (2 not in closed)


def test_files_do_not_take_the_place_of_a_closed_stream(tmp_path):
    code = (
        "import os; from kerasfer.cli.start import open_streams; open_streams()\n"
        f"with open({str(tmp_path / 'file')!r}, 'w') as file:\n"
        "    os.write(1, b'a library prints'); os.write(2, b'a library prints')\n"
        "    assert file.fileno() > 2; file.write('kept')\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], preexec_fn=lambda: (os.close(1), os.close(2)), check=True
    )
    assert (tmp_path / "file").read_text() == "kept"


def test_an_interrupt_while_modules_are_imported():
    """Whenever the interrupt comes after the program's first lines, there is no traceback."""
    # Python itself has not reached those lines before.
    code = """
import sys
from kerasfer.cli.start import main

class Watch:
    def find_spec(self, name, *rest):
        if name == "kerasfer.cli.commands":
            print("begun", flush=True)

sys.meta_path.insert(0, Watch())
main()
"""
    seen = set()
    for wait in (0, 0.05, 0.1, 0.2, 0.4):
        program = subprocess.Popen(
            [sys.executable, "-c", code, "recipe", "list"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert program.stdout.readline() == "begun\n"
        time.sleep(wait)
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=60)
        assert "Traceback" not in err
        # Interrupted while importing, in the command, between the two, or finished.
        assert err in (
            "Interrupted: run the same command again.\n",
            "\nAborted!\n",
            "Aborted!\n",
            "",
        )
        seen.add(program.returncode)
    assert 130 in seen


ABORTING = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except KeyboardInterrupt:
    os.abort()  # As C++ code does with an exception that it does not expect.
"""


@pytest.mark.parametrize("library", ["jax", "keras"])
def test_an_interrupt_while_a_backend_is_imported(tmp_path, library):
    (tmp_path / f"{library}.py").write_text(ABORTING)
    code = (
        f"from kerasfer.cli.shared import prepare_keras\nprepare_keras('jax')\nimport {library}\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "Interrupted: run the same command again.\n")


def test_threads_do_not_delay_the_end_of_an_interrupted_command():
    code = """
import atexit, os, signal, sys, threading, time
from kerasfer.cli import commands
from kerasfer.cli.shared import Command
from kerasfer.cli.start import main

def work():
    atexit.register(os.abort)  # What Python's end does to a thread that compiles.
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("begun", end="")
    raise KeyboardInterrupt

commands.main = Command("work", callback=work)
sys.argv = ["kerasfer"]
main()
"""
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert time.monotonic() - begin < 50
    assert (done.returncode, done.stdout) == (130, "begun")
    assert done.stderr == "Interrupted: run the same command again.\n"


def test_interrupts_stay_ignored_in_background_jobs():
    program = subprocess.Popen(
        [*PROGRAM, "recipe", "list"],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        stdout=subprocess.PIPE,
        text=True,
    )
    program.send_signal(signal.SIGINT)
    assert "quickstart" in program.communicate(timeout=60)[0]
    assert program.returncode == 0


@pytest.mark.slow
def test_recipes_of_the_wheel(tmp_path):
    """Somebody who installed the wheel has the recipes by name, and the tables."""
    pytest.importorskip("setuptools")
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    for name in FILES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "install", *options, "--target", installed, source], check=True)
    shutil.rmtree(source)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    program = start("recipe", "list", env=environment, cwd=tmp_path)
    out, err = program.communicate(timeout=60)
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()] == sorted(
        path.stem for path in (ROOT / "recipes").glob("*.yaml")
    )
    program = start("recipe", "show", "ferplus_spd_48", env=environment, cwd=tmp_path)
    out, err = program.communicate(timeout=60)
    assert err == "" and "feature_stage: P3" in out and "\n  labels: argmax8" in out
    tables = {path.name for path in (installed / "kerasfer" / "recipes" / "tables").iterdir()}
    assert tables == {path.name for path in (ROOT / "recipes" / "tables").iterdir()}
