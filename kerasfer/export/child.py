"""Runs a module or a script, and ends as soon as the process that started it has ended.

`python -P child.py MODULE|SCRIPT.py ARGUMENT...` expects a pipe as its standard input, whose other
end the parent holds. The operating system closes it when the parent ends, however it ends.
"""

import os
import runpy
import sys
import threading


def end_with_parent():
    """Ends this process, without cleaning up, when standard input is closed."""

    def wait():
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    del sys.argv[0]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        sys.path.insert(0, os.getcwd())  # As for python -m.
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
