import subprocess
import sys

import pytest

CODE = """
import os, sys
from kerasfer.cli.quiet import import_quietly
for _ in range(2):
    import_quietly("noisy")
number = len(sys.meta_path)
try:
    import noisy
    print(noisy.value)
except ImportError as error:
    print(error)
os.write(2, b"after")
assert len(sys.meta_path) == number - 1
import_quietly("noisy")
"""


@pytest.mark.parametrize("fails", [False, True])
def test_messages_of_a_module_during_its_import(tmp_path, fails):
    noise = "import os, sys\nos.write(2, b'native')\nprint('python', file=sys.stderr)\n"
    end = "raise ImportError('it is broken')" if fails else "value = 3"
    (tmp_path / "noisy.py").write_text(noise + end)
    (tmp_path / "code.py").write_text(CODE)
    run = subprocess.run(
        [sys.executable, tmp_path / "code.py"], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == ("it is broken\n" if fails else "3\n")
    assert run.stderr == ("nativepython\nafter" if fails else "after")


@pytest.mark.slow
def test_tensorflow_is_imported_without_a_message():
    code = "from kerasfer.cli.shared import prepare_keras; prepare_keras(None); import tensorflow"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == run.stdout == ""
