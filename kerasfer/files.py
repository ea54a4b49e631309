"""Writes files atomically, and locks folders.

A run may be killed, or the disk may fill up, at any moment. Each file of a run is therefore written
to a temporary file in the same folder, which then replaces the old file in one step.
"""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path

from kerasfer.errors import RunError

try:
    import fcntl
except ImportError:  # Windows has no such locks, so two writers are not detected there.
    fcntl = None

# Some network file systems do not support locks; a run there is not protected by one.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
# These errors name no file, and they concern the file that is being written.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextlib.contextmanager
def replace_file(path):
    """Yields a temporary path whose content replaces `path` when the block succeeds.

    When the block fails, `path` keeps its content and the temporary file is removed. The temporary
    path is in the same folder and has the same suffix, for libraries that choose a format by the
    suffix. Its name is always the same, so that the next run overwrites the file of a killed run. A
    folder must therefore have only one writer at a time. A symbolic link of that name is removed
    and not followed.

    Args:
        path: The file to write. Its folder must exist.

    Raises:
        RunError: If the operating system refuses to write the file (full disk, missing folder, no
            permission). Other errors of the block, such as one about a file that it reads, are not
            changed.

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
        temporary.unlink(missing_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # Some file systems report a full disk only here.
        os.replace(temporary, path)
    except OSError as error:
        if not _concerns(error, path, temporary):
            raise
        raise RunError(
            f"Cannot write {path}: {error.strerror or error}. Its previous content is intact. "
            "Check that its folder exists, is writable and has free space, then run again."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _concerns(error, path, temporary):
    """Returns whether an `OSError` is about the file that `replace_file` writes."""
    if error.filename is not None:
        return os.fspath(error.filename) in (str(temporary), str(path))
    # HDF5 reports the operating system's error in its message only.
    return error.errno in _DISK_ERRORS or "No space left on device" in str(error)


def write_text(path, text):
    """Writes `text` as UTF-8 in one step. See `replace_file` for the errors.

    A lone surrogate, which stands for a byte of a file name that is not UTF-8, is written as an
    escape such as `\\udce9`. `read_json` reads it back unchanged.
    """
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path, value):
    """Writes `value` as indented JSON in one step. See `replace_file` for the errors.

    Raises:
        ValueError: If `value` holds NaN or infinity, which JSON does not support.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path):
    """Reads a JSON file that holds an object.

    Args:
        path: The file.

    Returns:
        A dict.

    Raises:
        RunError: If the file is missing, empty or damaged, or holds something other than an object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__} instead of an object")
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunError(
            f"Cannot read {path}, which must be a JSON file written by kerasfer: {reason}. Restore "
            "it from a backup, or remove it and repeat the command that writes it."
        ) from error
    return value


def check_temporary_folder():
    """Checks that there is a writable temporary folder, without which Keras saves no model.

    Raises:
        RunError: If there is none.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise RunError(
            f"{error.strerror}. Set the environment variable TMPDIR to a writable folder with free "
            "space."
        ) from error


@contextlib.contextmanager
def only_writer(folder):
    """Locks a folder for this process while the block runs.

    The lock belongs to the open file `lock`, not to its existence. The operating system releases it
    when the process ends, however it ends, so a killed process leaves no stale lock.

    Args:
        folder: An existing folder.

    Raises:
        RunError: If another process holds the lock.

    Example:

    >>> import tempfile
    >>> with only_writer(Path(tempfile.mkdtemp())):
    ...     pass
    """
    if fcntl is None:
        yield
        return
    path = Path(folder) / "lock"
    busy = RunError(
        f"Another process is writing into {path.parent.parent}. Wait for it to finish, or choose "
        "another --output-dir."
    )
    try:
        # O_NOFOLLOW: a planted link must not create or lock another file.
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise RunError(f"Cannot lock {path}: {error.strerror}.") from error
    with os.fdopen(opened, "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        # While this process waited for the file, the folder may have been moved away by a run that
        # finished. The lock of a moved file protects nothing.
        if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise busy
        yield


@contextlib.contextmanager
def one_at_a_time(folder, *, shared=False):
    """Waits until no other process or thread is in such a block for a folder.

    Where the file system supports no locks, it does not wait.

    Args:
        folder: An existing folder.
        shared: Whether other shared blocks may run at the same time.

    Example:

    >>> import tempfile
    >>> with one_at_a_time(tempfile.mkdtemp()):
    ...     pass
    """
    if fcntl is None:
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def is_abandoned(folder):
    """Returns whether the process that locked a folder with `only_writer` has ended.

    Args:
        folder: An existing folder.

    Returns:
        `False` also if the folder was never locked, or if the file system supports no locks.

    Example:

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with only_writer(folder):
    ...     is_abandoned(folder)
    False
    >>> is_abandoned(folder)
    True
    """
    if fcntl is None:
        return False
    try:
        with open(Path(folder) / "lock", "rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sha256(path):
    """Returns the SHA-256 digest of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
