"""One writer a folder: two programs that train into one run would ruin each other's checkpoints."""

import contextlib
import errno

from kerasfer.errors import RunError

try:
    import fcntl
except ImportError:  # Windows has no such locks; there the user has to take care.
    fcntl = None

# Some network file systems know no locks; a run there goes on without.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


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
