"""Files that hold the old content or the new one, never half of it.

A run may be killed, or its disk fill up, at any moment. So whatever a run keeps is first written
under another name in the same folder, and then takes its place in one step.
"""

import contextlib
import json
import os
from pathlib import Path

from kerasfer.errors import RunError


@contextlib.contextmanager
def replace_file(path):
    """Yields a temporary path whose content replaces `path` when the block succeeds.

    When the block fails, `path` keeps what it held and the temporary file is removed. The temporary
    path lies in the same folder and ends like `path`, for libraries that choose a format by the
    suffix. Its name is always the same: what a killed run left is overwritten by the next, and a
    folder must have one writer at a time.

    Args:
        path: the file to write; its folder exists.

    Raises:
        RunError: the operating system refused (full disk, missing folder, no permission).

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with replace_file(path) as temporary:
    ...     _ = temporary.write_text("all of it")
    >>> path.read_text()
    'all of it'
    """
    path = Path(path)
    temporary = path.with_name(f".partial.{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # some file systems report a full disk only here
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(
            f"Cannot write {path}: {error.strerror or error}. What it held before is intact; "
            "check that its folder exists, is writable and has room, then run again."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path, text):
    """Writes `text` as UTF-8 in one step; raises like `replace_file`."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path, value):
    """Writes `value` as indented JSON in one step; raises like `replace_file`.

    Raises:
        ValueError: `value` holds NaN or infinity, which JSON cannot say.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
