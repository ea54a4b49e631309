"""Files that hold the old content or the new one, never half of it.

A run may be killed, or its disk fill up, at any moment. So whatever a run keeps is first written
under another name in the same folder, and then takes its place in one step.
"""

import contextlib
import errno
import json
import os
from pathlib import Path

from kerasfer.errors import RunError

try:
    import fcntl
except ImportError:  # Windows has no such locks; there the user has to take care.
    fcntl = None

# Some network file systems know no locks; a run there goes on without.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


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


@contextlib.contextmanager
def only_writer(folder):
    """Holds a folder for this program as long as the block runs.

    The lock belongs to the open file `lock`, not to its existence: the system lets go of it when
    the program ends, however it ends, so that nothing stale is left after a kill.

    Args:
        folder: An existing folder.

    Raises:
        RunError: Where another program holds it.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> with only_writer(Path(tempfile.mkdtemp())):
    ...     pass
    """
    if fcntl is None:
        yield
        return
    with open(folder / "lock", "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"Another program is training into {folder.parent} at this moment. Wait for it, "
                "or choose another --output-dir."
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
