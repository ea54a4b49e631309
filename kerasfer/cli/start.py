"""The entry points of the programs `kerasfer` and `kerasfer-train`.

An interrupt, or a closed standard stream, is handled before anything large is imported.
"""

import contextlib
import os
import signal
import sys


def main():
    """Runs `kerasfer`."""
    open_streams()
    with quiet_interrupts():
        from kerasfer.cli.commands import main
    main(prog_name="kerasfer")


def train():
    """Runs `kerasfer train` under the name `kerasfer-train`."""
    open_streams()
    with quiet_interrupts():
        from kerasfer.cli.training import train_main
    train_main()


def open_streams():
    """Opens standard streams that the caller has closed, so that printing does not fail.

    Without this the first file that the program opens would also receive what libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115


@contextlib.contextmanager
def quiet_interrupts():
    """Ends the program without a traceback if it is interrupted while modules are imported."""

    def leave(number, frame):
        os.write(2, b"Interrupted: run the same command again.\n")
        os._exit(128 + number)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # A shell's background job ignores it.
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
