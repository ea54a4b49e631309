"""The entry points of the programs `kerasfer` and `kerasfer-train`.

An interrupt, or a closed standard stream, is handled before anything large is imported.
"""

import contextlib
import os
import signal
import sys
import threading


def main():
    """Runs `kerasfer`."""
    open_streams()
    with quiet_interrupts():
        from kerasfer.cli.commands import main
    with prompt_end():
        main(prog_name="kerasfer")


def train():
    """Runs `kerasfer train` under the name `kerasfer-train`."""
    open_streams()
    with quiet_interrupts():
        from kerasfer.cli.training import train_main
    with prompt_end():
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
    in_main_thread = threading.current_thread() is threading.main_thread()
    # A shell's background job ignores it.
    if before is not signal.default_int_handler or not in_main_thread:
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def prompt_end():
    """Ends the process at once after an interrupted command, which has cleaned up.

    A thread of a library may still be working, such as one in which JAX compiles. It would delay
    the end by up to minutes, or crash the process while Python frees its modules.
    """
    try:
        yield
    except SystemExit as stop:
        if stop.code != 130:
            raise
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(130)
