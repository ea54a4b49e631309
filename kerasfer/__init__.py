"""Facial-expression recognition with second-order statistics, in Keras 3.

Importing this package does not import Keras, which takes seconds and fixes the backend, so that
`kerasfer --help` is fast. The contents are in submodules such as `kerasfer.layers` and
`kerasfer.models`.

`keras.saving.load_model` finds the layers and optimizers of this package by their registered names,
so their modules must be imported before. They are imported immediately if the process has already
imported Keras, and otherwise right after it does.
"""

import importlib.abc
import importlib.util
import sys

__version__ = "0.1.0"

# The modules with classes that models are saved with.
_REGISTERED = ("kerasfer.layers", "kerasfer.optimizers")


def _import_registered():
    for module in _REGISTERED:
        importlib.import_module(module)


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Finds Keras as Python does, once, and imports `_REGISTERED` after it."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            execute = spec.loader.exec_module

            def execute_and_import(module):
                execute(module)
                _import_registered()

            spec.loader.exec_module = execute_and_import
        return spec


if "keras" in sys.modules:
    _import_registered()
else:
    sys.meta_path.insert(0, _AfterKeras())
