"""The command line: parse, call one function, print.

Keras takes its backend from the environment when it is first imported, which takes seconds. So it
is imported inside the commands, after the backend is chosen, and `--help` answers at once.
"""

from importlib import import_module

__all__ = ["main", "train_main"]


def __getattr__(name):
    # `kerasfer.cli.start` must run before what the commands import.
    if name == "main":
        return import_module("kerasfer.cli.commands").main
    if name == "train_main":
        return import_module("kerasfer.cli.start").train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
