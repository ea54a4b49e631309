"""The command line, whose commands parse arguments, call one function and print the result.

Keras reads its backend from the environment when it is first imported, which takes seconds. It is
therefore imported inside the commands, after the backend is set, and `--help` is fast.
"""

from importlib import import_module

__all__ = ["main", "train_main"]


def __getattr__(name):
    # `kerasfer.cli.start` must run before the imports of the commands.
    if name == "main":
        return import_module("kerasfer.cli.commands").main
    if name == "train_main":
        return import_module("kerasfer.cli.start").train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
