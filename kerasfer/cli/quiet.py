"""Controls the imports of large libraries: what they print, and what an interrupt does."""

import contextlib
import importlib.util
import os
import sys
import tempfile

from kerasfer.cli.start import quiet_interrupts


def import_quietly(name):
    """Discards what a module prints to standard error while it is imported, now or later.

    TensorFlow logs through Abseil during its import, regardless of environment variables. If the
    import fails, the messages are printed.

    Args:
        name: Name of the module, such as `"tensorflow"`.
    """
    _wrap_import(name, discarded_errors)


def import_with_quiet_interrupts(name):
    """Ends the program on Ctrl-C while a module is imported, now or later.

    An exception in C++ code that calls Python, as in the import of JAX, would abort the process.

    Args:
        name: Name of the module, such as `"jax"`.
    """
    _wrap_import(name, quiet_interrupts)


def _wrap_import(name, context):
    """Imports a module within a context, now or later."""
    if name not in sys.modules and not any(
        isinstance(finder, _Finder) and (finder.name, finder.context) == (name, context)
        for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _Finder(name, context))


class _Finder:
    def __init__(self, name, context):
        self.name = name
        self.context = context

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_in_context(module):
                with self.context():
                    execute(module)

            spec.loader.exec_module = execute_in_context
        return spec


@contextlib.contextmanager
def discarded_errors():
    """Discards what is written to the file descriptor 2, unless the block fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as messages:
            os.dup2(messages.fileno(), 2)
            try:
                yield
            except BaseException:
                messages.seek(0)
                os.write(kept, messages.read())
                raise
            finally:
                sys.stderr.flush()
                os.dup2(kept, 2)
    finally:
        os.close(kept)
